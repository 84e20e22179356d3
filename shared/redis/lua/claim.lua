-- Lease the jobs whose time has come to one worker.
--
-- KEYS  queue, wake list, workers
-- ARGV  JOB_PREFIXES (4), worker id, worker TTL (ms), most jobs, lease (ms), job TTL (ms),
--       wake tokens that this worker took (0 or 1)
-- Reply a list of {job id, body or '', try, 1 if all who wait have given up, time now (ms)}
--
-- The lease moves the job's score ahead, so jobs in progress are never looked at again until it ends.
local queue, wake, workers = unpack(KEYS)
local body_prefix, tries_prefix, lease_prefix, waiters_prefix, worker, worker_ttl, most, lease, job_ttl, tokens =
  unpack(ARGV)
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- Who claims is alive. The removal first: it needs no memory, and a script that began with such a write may write on in
-- a full Redis; without it a queue at its memory limit could never drain.
redis.call('ZREMRANGEBYSCORE', workers, '-inf', now)
redis.call('ZADD', workers, now + worker_ttl, worker)
local claimed = {}
for _, job in ipairs(redis.call('ZRANGEBYSCORE', queue, '-inf', now, 'LIMIT', 0, most)) do
  redis.call('ZADD', queue, 'XX', now + lease, job)
  redis.call('SET', lease_prefix .. job, worker, 'PX', lease)
  local try = redis.call('INCR', tries_prefix .. job)
  redis.call('PEXPIRE', tries_prefix .. job, job_ttl)
  local deadline = 0
  for _, value in ipairs(redis.call('HVALS', waiters_prefix .. job)) do
    deadline = math.max(deadline, tonumber(value))
  end
  claimed[#claimed + 1] = {job, redis.call('GET', body_prefix .. job) or '', try, deadline < now and 1 or 0, now}
end
-- There is a token a job; those of jobs that came along with this worker's token would wake workers for nothing.
local spare = #claimed - tokens
if spare > 0 then
  redis.call('LTRIM', wake, spare, -1)
end
return claimed
