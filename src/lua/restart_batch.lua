-- Forget what Redis knows of a batch, and let its archive be unpacked again; clips that are done will be skipped.
-- KEYS: 1 queue:unpack (list)  2 batches:finishing (set)  3 queue:delayed (zset)  4 queue:attempts (hash)
--       5 queue:interruptions (hash)  6.. the batch's keys, then the lists that hold its clips' jobs
-- ARGV: 1 batch id  2 unpack payload, or '' when the batch is cancelled  3 number n of batch keys  then, per job to remove: list's number, or 0 for the
--       zset; payload, or member; the job's field in the two hashes
redis.call('SREM', KEYS[2], ARGV[1])
local n = tonumber(ARGV[3])
redis.call('DEL', unpack(KEYS, 6, 5 + n))
for i = 4, #ARGV, 3 do
    local list = tonumber(ARGV[i])
    local removed
    if list == 0 then removed = redis.call('ZREM', KEYS[3], ARGV[i + 1])
    else removed = redis.call('LREM', KEYS[5 + n + list], 1, ARGV[i + 1]) end
    if removed == 1 then
        redis.call('HDEL', KEYS[4], ARGV[i + 2])
        redis.call('HDEL', KEYS[5], ARGV[i + 2])
    end
end
if ARGV[2] ~= '' and not redis.call('LPOS', KEYS[1], ARGV[2]) then redis.call('RPUSH', KEYS[1], ARGV[2]) end
return 1
