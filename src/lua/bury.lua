#!lua flags=allow-oom
-- Replace a job by its dead letter, wherever it stands.
-- KEYS: 1 the list or sorted set that holds it  2 queue:failed (list)     ARGV: 1 member  2 dead letter
-- Returns 1, or 0 when the job has moved on.
local removed
if redis.call('TYPE', KEYS[1]).ok == 'zset' then removed = redis.call('ZREM', KEYS[1], ARGV[1])
else removed = redis.call('LREM', KEYS[1], 1, ARGV[1]) end
if removed == 0 then return 0 end
redis.call('RPUSH', KEYS[2], ARGV[2])
return 1
