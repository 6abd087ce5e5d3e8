-- Enqueue an archive's unpack job unless this archive was enqueued before.
-- KEYS: 1 transfer:taken (hash: archive's identity -> batch id)  2 queue:unpack (list)
-- ARGV: 1 identity  2 batch id  3 payload     Returns 1 when it was enqueued now.
if redis.call('HSETNX', KEYS[1], ARGV[1], ARGV[2]) == 0 then return 0 end
redis.call('RPUSH', KEYS[2], ARGV[3])
return 1
