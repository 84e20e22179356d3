-- Renew a worker's leases and its sign of life.
--
-- KEYS  queue, workers
-- ARGV  lease (ms), worker id, worker TTL (ms), job ids ...
-- Reply ids of those jobs that nobody waits for any more
local queue, workers, lease, worker = KEYS[1], KEYS[2], tonumber(ARGV[1]), ARGV[2]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- The removal first: it needs no memory, and lets a script write on in a full Redis (see claim.lua).
redis.call('ZREMRANGEBYSCORE', workers, '-inf', now)
redis.call('ZADD', workers, now + tonumber(ARGV[3]), worker)
local abandoned = {}
for i = 4, #ARGV do
  local in_progress = 'arq:in-progress:' .. ARGV[i]
  local holder = redis.call('GET', in_progress)
  -- Ours, or free: the lease ran out while this worker stood still and nobody took the job since.
  if holder == worker or not holder then
    if redis.call('ZSCORE', queue, ARGV[i]) then
      redis.call('ZADD', queue, 'XX', now + lease, ARGV[i])
      redis.call('SET', in_progress, worker, 'PX', lease)
      local deadline = 0
      for _, value in ipairs(redis.call('HVALS', 'waiters:' .. ARGV[i])) do
        deadline = math.max(deadline, tonumber(value))
      end
      if deadline < now then
        abandoned[#abandoned + 1] = ARGV[i]
      end
    end
  end
end
return abandoned
