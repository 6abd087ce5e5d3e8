-- Bring a dead letter's job back. A batch that is still under way waits for the clip again.
-- KEYS: 1 queue:failed (list)  2 queue list  3 batch:{id}:given_up (set)  4 batch:{id}:failed
--       5 batch:{id}:pending (set)  6 batches:finishing (set)  7 hosts:seen (zset)
-- ARGV: 1 dead letter  2 payload  3 clip, or ''  4 batch id  5 host whose own list KEYS 2 is, or ''
-- Returns 1, or 0 when the letter is not there any more (it was brought back or dropped meanwhile), or -1 when the host
-- is gone. A host that is silent but does not count as lost yet is still in hosts:seen; when it counts as lost, the
-- jobs of its list become dead letters again.
if ARGV[5] ~= '' and not redis.call('ZSCORE', KEYS[7], ARGV[5]) then
    return redis.call('LPOS', KEYS[1], ARGV[1]) and -1 or 0
end
if redis.call('LREM', KEYS[1], 1, ARGV[1]) == 0 then return 0 end
-- Only a clip that this run of the batch has counted as failed becomes pending again: the letter may come from an
-- earlier run, or from a job that was delivered twice.
if ARGV[3] ~= '' and redis.call('SISMEMBER', KEYS[6], ARGV[4]) == 0 and redis.call('SREM', KEYS[3], ARGV[3]) == 1 then
    redis.call('SADD', KEYS[5], ARGV[3])
    redis.call('DECR', KEYS[4])
end
redis.call('RPUSH', KEYS[2], ARGV[2])
return 1
