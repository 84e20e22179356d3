-- Queue the texts of one chunk that no job embeds yet; join the jobs that embed the others.
--
-- KEYS  queue, wake list, admitted counter, workers
-- ARGV  JOB_PREFIXES (4), job id without its count, function, reply list, time to wait (ms),
--       time to live of the embeddings (s), limit of admitted texts, texts that the request wants beside and after this
--       chunk's included, how many must find room with this chunk's, job TTL (ms), flight TTL (ms), flight key prefix,
--       prefix of the counters of texts done, time that each of these counts (ms), traceparent or '',
--       msgpack of {digests, texts}
-- Reply {'ok', owner job of each text, or 'done' if it was cached a moment ago ...} | {'no workers'} |
--       {'overloaded', texts admitted, ms until there is room, or -1 if nothing was done lately,
--        ms that the texts which the request wants take}
--
-- One script, so that between "nobody embeds it" and "it is queued" no other API process can act.
local queue, wake, admitted, workers = unpack(KEYS)
local body_prefix, _, _, waiters_prefix, id, func, reply_list, wait, ttl, limit, wanted, needed, job_ttl, flight_ttl,
  flight_prefix, drained_prefix, period, trace, packed = unpack(ARGV)
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- Deadlines are on this server's clock: those of the machines around it differ.
local deadline = now + wait

local function wait_for(job)
  local key = waiters_prefix .. job
  local known = tonumber(redis.call('HGET', key, reply_list) or '0')
  redis.call('HSET', key, reply_list, string.format('%.0f', math.max(known, deadline)))
  redis.call('PEXPIRE', key, job_ttl)
end

if redis.call('ZCOUNT', workers, now, '+inf') == 0 then
  return {'no workers'}
end

local reply, joined, digests, texts = {'ok'}, {}, {}, {}
local given_digests, given_texts = unpack(cmsgpack.unpack(packed))
for i, digest in ipairs(given_digests) do
  local owner = redis.call('GET', flight_prefix .. digest)
  if owner == 'done' then
    reply[#reply + 1] = owner
  elseif owner and redis.call('ZSCORE', queue, owner) then
    joined[owner] = true
    reply[#reply + 1] = owner
  else
    digests[#digests + 1] = digest
    texts[#texts + 1] = given_texts[i]
    reply[#reply + 1] = false
  end
end

-- The counter can only be off after keys were lost; an empty queue sets it right.
local waiting = tonumber(redis.call('GET', admitted) or '0')
if redis.call('EXISTS', queue) == 0 then
  waiting = 0
end
-- What others embed already takes no room.
local share = #texts / #given_digests
if #texts > 0 and waiting + math.max(#texts, share * needed) > tonumber(limit) then
  local current = math.floor(now / period)
  local done = tonumber(redis.call('GET', drained_prefix .. current) or '0')
  done = done + tonumber(redis.call('GET', drained_prefix .. (current - 1)) or '0')
  if done == 0 then
    return {'overloaded', waiting, -1, 0}
  end
  local own, each = share * wanted, (period + now % period) / done
  return {'overloaded', waiting, math.floor((waiting + own - limit) * each), math.floor(own * each)}
end
for owner in pairs(joined) do
  wait_for(owner)
end
if #texts == 0 then
  return reply
end

-- The count is part of the id: what leaves the queue can always be subtracted from the counter.
local job = id .. '-' .. #texts
for i = 2, #reply do
  reply[i] = reply[i] or job
end
for _, digest in ipairs(digests) do
  redis.call('SET', flight_prefix .. digest, job, 'PX', flight_ttl)
end
-- arq's job format: try, function, args, kwargs, enqueue time.
local work = {digests = digests, texts = texts, ttl_s = tonumber(ttl), trace = trace}
local body = cmsgpack.pack({t = 0, f = func, a = {}, k = work, et = now})
redis.call('SET', body_prefix .. job, body, 'PX', job_ttl)
redis.call('SET', admitted, waiting + #texts)
redis.call('ZADD', queue, now, job)
redis.call('RPUSH', wake, '1')
redis.call('LTRIM', wake, 0, 9999)
wait_for(job)
return reply
