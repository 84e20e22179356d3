-- Put a job that this worker will not finish back to the front of the queue.
--
-- KEYS  queue, wake list
-- ARGV  JOB_PREFIXES (4), job id, worker id
-- Reply 1, or 0 if the job is not this worker's any more
local queue, wake = unpack(KEYS)
local _, tries_prefix, lease_prefix, _, job, worker = unpack(ARGV)
if redis.call('GET', lease_prefix .. job) ~= worker then
  return 0
end
redis.call('DEL', lease_prefix .. job)
-- The worker lives, so this was no death: only those count towards giving a job up.
redis.call('DECR', tries_prefix .. job)
redis.call('ZADD', queue, 'XX', 0, job)
redis.call('RPUSH', wake, '1')
return 1
