-- Renew a worker's leases and its sign of life.
--
-- KEYS  queue, workers
-- ARGV  JOB_PREFIXES (4), worker id, worker TTL (ms), lease (ms), msgpack of job ids
-- Reply ids of those jobs that nobody waits for any more
local queue, workers = unpack(KEYS)
local _, _, lease_prefix, waiters_prefix, worker, worker_ttl, lease, jobs = unpack(ARGV)
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- The removal first: it needs no memory, and lets a script write on in a full Redis (see claim.lua).
redis.call('ZREMRANGEBYSCORE', workers, '-inf', now)
redis.call('ZADD', workers, now + worker_ttl, worker)
local abandoned = {}
for _, job in ipairs(cmsgpack.unpack(jobs)) do
  local holder = redis.call('GET', lease_prefix .. job)
  -- Ours, or free: the lease ran out while this worker stood still and nobody took the job since.
  if holder == worker or not holder then
    if redis.call('ZSCORE', queue, job) then
      redis.call('ZADD', queue, 'XX', now + lease, job)
      redis.call('SET', lease_prefix .. job, worker, 'PX', lease)
      local deadline = 0
      for _, value in ipairs(redis.call('HVALS', waiters_prefix .. job)) do
        deadline = math.max(deadline, tonumber(value))
      end
      if deadline < now then
        abandoned[#abandoned + 1] = job
      end
    end
  end
end
return abandoned
