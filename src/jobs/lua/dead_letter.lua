#!lua flags=allow-oom
-- Replace a job by its dead letter in the list or sorted set that holds it; a clip that its batch waits for counts as
-- failed.
-- KEYS: 1 the list or sorted set that holds it  2 queue:failed (list)  3 queue:attempts (hash)
--       4 queue:interruptions (hash)  5 batch:{id}:pending (set)  6 batch:{id}:failed (counter)
--       7 batch:{id}:given_up (set)  8 batches:finishing (set)
-- ARGV: 1 member  2 dead letter  3 the job's field in the two hashes  4 clip, or '' when it belongs to none  5 batch id
-- Returns 1, or 0 when the job has moved on.
local removed
if redis.call('TYPE', KEYS[1]).ok == 'zset' then removed = redis.call('ZREM', KEYS[1], ARGV[1])
else removed = redis.call('LREM', KEYS[1], 1, ARGV[1]) end
if removed == 0 then return 0 end
redis.call('HDEL', KEYS[3], ARGV[3])
redis.call('HDEL', KEYS[4], ARGV[3])
redis.call('RPUSH', KEYS[2], ARGV[2])
if ARGV[4] ~= '' and redis.call('SREM', KEYS[5], ARGV[4]) == 1 then
    redis.call('INCR', KEYS[6])
    redis.call('SADD', KEYS[7], ARGV[4])
    if redis.call('SCARD', KEYS[5]) == 0 then redis.call('SADD', KEYS[8], ARGV[5]) end
end
return 1
