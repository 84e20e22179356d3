-- Queue the texts of one chunk that no job embeds yet; join the jobs that embed the others.
--
-- KEYS  queue, wake list, admitted counter, workers, promised
-- ARGV  job id without its count, function, reply list, time to wait (ms), limit of admitted texts,
--       job TTL (ms), flight TTL (ms), flight key prefix, prefix of the counters of texts done,
--       time that each of these counts (ms), traceparent or '', texts that the request wants beside and after this
--       chunk's included, how many must find room with this chunk's, longest time to tell anybody to wait (ms),
--       msgpack of {digests, texts}
-- Reply {'ok', owner job of each text, or 'done' if it was cached a moment ago ...} | {'no workers'} |
--       {'overloaded', texts admitted, ms until there is room, or -1 if nothing was done lately}
--
-- One script, so that between "nobody embeds it" and "it is queued" no other API process can act.
local queue, wake, admitted, workers = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local func, reply_list = ARGV[2], ARGV[3]
local limit, job_ttl, flight_ttl, flight_prefix = tonumber(ARGV[5]), ARGV[6], ARGV[7], ARGV[8]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- Deadlines are on this server's clock: those of the machines around it differ.
local deadline = now + tonumber(ARGV[4])

local function wait_for(job)
  local key = 'waiters:' .. job
  local known = tonumber(redis.call('HGET', key, reply_list) or '0')
  redis.call('HSET', key, reply_list, string.format('%.0f', math.max(known, deadline)))
  redis.call('PEXPIRE', key, job_ttl)
end

if redis.call('ZCOUNT', workers, now, '+inf') == 0 then
  return {'no workers'}
end

local reply, joined, digests, texts = {'ok'}, {}, {}, {}
local wanted_digests, wanted_texts = unpack(cmsgpack.unpack(ARGV[15]))
for i, digest in ipairs(wanted_digests) do
  local owner = redis.call('GET', flight_prefix .. digest)
  if owner == 'done' then
    reply[#reply + 1] = owner
  elseif owner and redis.call('ZSCORE', queue, owner) then
    joined[owner] = true
    reply[#reply + 1] = owner
  else
    digests[#digests + 1] = digest
    texts[#texts + 1] = wanted_texts[i]
    reply[#reply + 1] = false
  end
end

-- The counter can only be off after keys were lost; an empty queue sets it right.
local waiting = tonumber(redis.call('GET', admitted) or '0')
if redis.call('EXISTS', queue) == 0 then
  waiting = 0
end
-- What others embed already takes no room.
local share = #texts / #wanted_digests
if #texts > 0 and waiting + math.max(#texts, share * tonumber(ARGV[13])) > limit then
  local period = tonumber(ARGV[10])
  local current = math.floor(now / period)
  local done = tonumber(redis.call('GET', ARGV[9] .. current) or '0')
  done = done + tonumber(redis.call('GET', ARGV[9] .. (current - 1)) or '0')
  if done == 0 then
    return {'overloaded', waiting, -1}
  end
  -- Those who were told a time before come first: told all the same, they would all come at once, and again in vain.
  local wanted, each = share * tonumber(ARGV[12]), (period + now % period) / done
  local promised = tonumber(redis.call('GET', KEYS[5]) or '0')
  local free = math.max(now + (waiting + wanted - limit) * each, promised + wanted * each)
  free = math.min(free, now + tonumber(ARGV[14]))
  -- pcall: a Redis without memory can still refuse.
  redis.pcall('SET', KEYS[5], string.format('%.0f', free), 'PX', string.format('%.0f', free - now + 1))
  return {'overloaded', waiting, math.floor(free - now)}
end
for owner in pairs(joined) do
  wait_for(owner)
end
if #texts == 0 then
  return reply
end

-- The count is part of the id: what leaves the queue can always be subtracted from the counter.
local job = ARGV[1] .. '-' .. #texts
for i = 2, #reply do
  reply[i] = reply[i] or job
end
for _, digest in ipairs(digests) do
  redis.call('SET', flight_prefix .. digest, job, 'PX', flight_ttl)
end
-- arq's job format: try, function, args, kwargs, enqueue time.
local body = cmsgpack.pack({t = 0, f = func, a = {}, k = {digests = digests, texts = texts, trace = ARGV[11]}, et = now})
redis.call('SET', 'arq:job:' .. job, body, 'PX', job_ttl)
redis.call('SET', admitted, waiting + #texts)
redis.call('ZADD', queue, now, job)
redis.call('RPUSH', wake, '1')
redis.call('LTRIM', wake, 0, 9999)
wait_for(job)
return reply
