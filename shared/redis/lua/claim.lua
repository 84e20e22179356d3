-- Lease up to ARGV[1] jobs whose time has come to one worker.
--
-- KEYS  queue, wake list, workers
-- ARGV  most jobs, lease (ms), worker id, job TTL (ms), wake tokens this worker took (0 or 1), worker TTL (ms)
-- Reply a list of {job id, body or '', try, 1 if all who wait have given up, time now (ms)}
--
-- The lease moves the job's score ahead, so jobs in progress are never looked at again until it ends.
local queue, lease, worker = KEYS[1], tonumber(ARGV[2]), ARGV[3]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- Who claims is alive. The removal first: it needs no memory, and a script that began with such a write may write on in
-- a full Redis; without it a queue at its memory limit could never drain.
redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', now)
redis.call('ZADD', KEYS[3], now + tonumber(ARGV[6]), worker)
local claimed = {}
for _, job in ipairs(redis.call('ZRANGEBYSCORE', queue, '-inf', now, 'LIMIT', 0, ARGV[1])) do
  redis.call('ZADD', queue, 'XX', now + lease, job)
  redis.call('SET', 'arq:in-progress:' .. job, worker, 'PX', lease)
  local try = redis.call('INCR', 'arq:retry:' .. job)
  redis.call('PEXPIRE', 'arq:retry:' .. job, ARGV[4])
  local deadline = 0
  for _, value in ipairs(redis.call('HVALS', 'waiters:' .. job)) do
    deadline = math.max(deadline, tonumber(value))
  end
  claimed[#claimed + 1] = {job, redis.call('GET', 'arq:job:' .. job) or '', try, deadline < now and 1 or 0, now}
end
-- There is a token a job; those of jobs that came along with this worker's token would wake workers for nothing.
local spare = #claimed - tonumber(ARGV[5])
if spare > 0 then
  redis.call('LTRIM', KEYS[2], spare, -1)
end
return claimed
