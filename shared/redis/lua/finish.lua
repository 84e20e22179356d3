-- Take a finished job out of the queue and send its reply to all who wait for it.
--
-- KEYS  queue, admitted counter
-- ARGV  JOB_PREFIXES (4), job id, reply, reply TTL (ms), flight key prefix, done TTL (ms),
--       prefix of the counters of texts done, time that each of these counts (ms),
--       msgpack of {digests of the texts that are cached now, digests of the job's other texts}
-- Reply 1, or 0 if another worker finished the job before (this reply is then dropped)
local queue, admitted = unpack(KEYS)
local body_prefix, tries_prefix, lease_prefix, waiters_prefix, job, reply, reply_ttl, flight_prefix, done_ttl,
  drained_prefix, period, digests = unpack(ARGV)
if redis.call('ZREM', queue, job) == 0 then
  return 0
end
local texts = tonumber(string.match(job, '%-(%d+)$') or '0')
redis.call('SET', admitted, math.max(tonumber(redis.call('GET', admitted) or '0') - texts, 0))
local time = redis.call('TIME')
local drained = drained_prefix .. math.floor((time[1] * 1000 + math.floor(time[2] / 1000)) / period)
redis.call('INCRBY', drained, texts)
redis.call('PEXPIRE', drained, 2 * period)
for _, reply_list in ipairs(redis.call('HKEYS', waiters_prefix .. job)) do
  redis.call('RPUSH', reply_list, reply)
  redis.call('PEXPIRE', reply_list, reply_ttl)
end
local cached, others = unpack(cmsgpack.unpack(digests))
for _, digest in ipairs(cached) do
  if redis.call('GET', flight_prefix .. digest) == job then
    -- Who looked in the cache just before this text was put there, and queues it only now, learns to look again.
    redis.call('SET', flight_prefix .. digest, 'done', 'PX', done_ttl)
  end
end
for _, digest in ipairs(others) do
  if redis.call('GET', flight_prefix .. digest) == job then
    redis.call('DEL', flight_prefix .. digest)
  end
end
redis.call('DEL', body_prefix .. job, tries_prefix .. job, lease_prefix .. job, waiters_prefix .. job)
return 1
