#!lua flags=allow-oom
-- Return the jobs of a dead worker to the head of their queue, the oldest first in line, and count the interruption.
-- KEYS: 1 the worker's heartbeat  2 its in-flight list  3 queue list  4 queue:interruptions (hash)
-- Returns how many jobs were returned; none while the worker lives.
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
local moved = 0
local payload = redis.call('LMOVE', KEYS[2], KEYS[3], 'RIGHT', 'LEFT')
while payload do
    redis.call('HINCRBY', KEYS[4], KEYS[3] .. ':' .. redis.sha1hex(payload), 1)
    moved = moved + 1
    payload = redis.call('LMOVE', KEYS[2], KEYS[3], 'RIGHT', 'LEFT')
end
return moved
