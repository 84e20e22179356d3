-- Take a finished job out of the queue and send its reply to all who wait for it.
--
-- KEYS  queue, admitted counter
-- ARGV  job id, reply, reply TTL (ms), flight key prefix, done TTL (ms), prefix of the counters of texts done,
--       time that each of these counts (ms), number of texts now cached,
--       their digests ..., digests of the job's other texts ...
-- Reply 1, or 0 if another worker finished the job before (this reply is then dropped)
local queue, admitted, job = KEYS[1], KEYS[2], ARGV[1]
if redis.call('ZREM', queue, job) == 0 then
  return 0
end
local texts = tonumber(string.match(job, '%-(%d+)$') or '0')
redis.call('SET', admitted, math.max(tonumber(redis.call('GET', admitted) or '0') - texts, 0))
local time = redis.call('TIME')
local drained = ARGV[6] .. math.floor((time[1] * 1000 + math.floor(time[2] / 1000)) / ARGV[7])
redis.call('INCRBY', drained, texts)
redis.call('PEXPIRE', drained, 2 * ARGV[7])
for _, reply_list in ipairs(redis.call('HKEYS', 'waiters:' .. job)) do
  redis.call('RPUSH', reply_list, ARGV[2])
  redis.call('PEXPIRE', reply_list, ARGV[3])
end
local cached = tonumber(ARGV[8])
for i = 9, #ARGV do
  local flight = ARGV[4] .. ARGV[i]
  if redis.call('GET', flight) == job then
    if i - 8 <= cached then
      -- Who looked in the cache just before this text was put there, and queues it only now, learns to look again.
      redis.call('SET', flight, 'done', 'PX', ARGV[5])
    else
      redis.call('DEL', flight)
    end
  end
end
redis.call('DEL', 'arq:job:' .. job, 'arq:retry:' .. job, 'arq:in-progress:' .. job, 'waiters:' .. job)
return 1
