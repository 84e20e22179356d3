-- Tell one who is refused when to come again: once there is room, and after all who were told before.
--
-- KEYS  promised
-- ARGV  time until there is room (ms), time that this one's work takes (ms), longest time to tell anybody (ms)
-- Reply time to wait (ms)
--
-- Told the same time, those who are refused would all come at once, and again in vain.
local promised = KEYS[1]
local free, work, longest = unpack(ARGV)
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local last = tonumber(redis.call('GET', promised) or '0')
local at = math.min(math.max(now + free, last + work), now + longest)
-- pcall: a Redis without memory can still refuse.
redis.pcall('SET', promised, string.format('%.0f', at), 'PX', string.format('%.0f', at - now + 1))
return math.floor(at - now)
