#!lua flags=allow-oom
-- Acknowledge a job: done, or given up with a dead letter. Does nothing for a worker that no longer owns the job.
-- KEYS: 1 in-flight list  2 queue:attempts (hash)  3 queue:interruptions (hash)  4 queue:failed (list)
--       5 batch:{id}:pending (set)  6 batch:{id}:processed or :failed (counter)  7 batches:finishing (set)
--       8 batch:{id}:given_up (set)
-- ARGV: 1 payload  2 queue  3 dead letter, or ''  4 clip, or '' when the job belongs to no batch  5 batch id
-- Returns 'lost' (not the owner), 'complete' (this was the batch's last clip) or 'ok'.
if redis.call('LREM', KEYS[1], 1, ARGV[1]) == 0 then return 'lost' end
local field = ARGV[2] .. ':' .. redis.sha1hex(ARGV[1])
redis.call('HDEL', KEYS[2], field)
redis.call('HDEL', KEYS[3], field)
if ARGV[3] ~= '' then redis.call('RPUSH', KEYS[4], ARGV[3]) end
-- Membership, not a counter, decides: a clip delivered twice leaves the set only once.
if ARGV[4] ~= '' and redis.call('SREM', KEYS[5], ARGV[4]) == 1 then
    redis.call('INCR', KEYS[6])
    if ARGV[3] ~= '' then redis.call('SADD', KEYS[8], ARGV[4]) end
    if redis.call('SCARD', KEYS[5]) == 0 then
        redis.call('SADD', KEYS[7], ARGV[5])
        return 'complete'
    end
end
return 'ok'
