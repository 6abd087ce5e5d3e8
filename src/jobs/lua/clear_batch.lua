#!lua flags=allow-oom
-- Remove the keys of a batch whose clips are all settled; only the first caller does it.
-- KEYS: 1 batches:finishing (set)  then the batch's keys     ARGV: 1 batch id
-- Returns 1, or 0 when the batch is not finishing: it was cleared before, and may have begun again.
if redis.call('SREM', KEYS[1], ARGV[1]) == 0 then return 0 end
redis.call('DEL', unpack(KEYS, 2))
return 1
