-- Forget what Redis knows of a batch and let its archive be unpacked again; clips that are done will be skipped.
-- KEYS: 1 queue:unpack (list)  2 batches:finishing (set)  3 queue:delayed (zset)
--       4.. the batch's keys, then the lists that hold its clips' jobs
-- ARGV: 1 batch id  2 unpack payload  3 number n of batch keys  then, per job to remove: list's number, or 0 for the
--       zset, and payload, or member
redis.call('SREM', KEYS[2], ARGV[1])
local n = tonumber(ARGV[3])
redis.call('DEL', unpack(KEYS, 4, 3 + n))
for i = 4, #ARGV, 2 do
    local list = tonumber(ARGV[i])
    if list == 0 then redis.call('ZREM', KEYS[3], ARGV[i + 1])
    else redis.call('LREM', KEYS[3 + n + list], 1, ARGV[i + 1]) end
end
if not redis.call('LPOS', KEYS[1], ARGV[2]) then redis.call('RPUSH', KEYS[1], ARGV[2]) end
return 1
