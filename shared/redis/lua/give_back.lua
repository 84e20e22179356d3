-- Put a job that this worker will not finish back to the front of the queue.
--
-- KEYS  queue, wake list
-- ARGV  job id, worker id
-- Reply 1, or 0 if the job is not this worker's any more
local in_progress = 'arq:in-progress:' .. ARGV[1]
if redis.call('GET', in_progress) ~= ARGV[2] then
  return 0
end
redis.call('DEL', in_progress)
-- The worker lives, so this was no death: only those count towards giving a job up.
redis.call('DECR', 'arq:retry:' .. ARGV[1])
redis.call('ZADD', KEYS[1], 'XX', 0, ARGV[1])
redis.call('RPUSH', KEYS[2], '1')
return 1
