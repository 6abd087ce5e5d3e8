-- Bring a dead letter's job back. A batch that is still under way waits for the clip again.
-- KEYS: 1 queue:failed (list)  2 queue list  3 batch:{id}:given_up (set)  4 batch:{id}:failed
--       5 batch:{id}:pending (set)  6 batches:finishing (set)
-- ARGV: 1 dead letter  2 payload  3 clip, or ''  4 batch id
-- Returns 1, or 0 when the letter is not there any more: somebody else brought it back, or dropped it.
if redis.call('LREM', KEYS[1], 1, ARGV[1]) == 0 then return 0 end
-- Only a clip that this run of the batch has counted as failed is taken back: the letter may be of an earlier run, in
-- which the clip failed, or of a job that was delivered twice.
if ARGV[3] ~= '' and redis.call('SISMEMBER', KEYS[6], ARGV[4]) == 0 and redis.call('SREM', KEYS[3], ARGV[3]) == 1 then
    redis.call('SADD', KEYS[5], ARGV[3])
    redis.call('DECR', KEYS[4])
end
redis.call('RPUSH', KEYS[2], ARGV[2])
return 1
