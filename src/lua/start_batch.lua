-- Begin a batch: its keys, its clips' jobs and the acknowledgement of its unpack job, all or nothing.
-- KEYS: 1 in-flight list of the unpack job  2 batch:{id}:total  3 batch:{id}:processed  4 batch:{id}:failed
--       5 batch:{id}:s3_key  6 batch:{id}:pending (set)  7 transcribe list  8 queue:failed (list)
--       9 batches:finishing (set)  10 queue:attempts (hash)  11 queue:interruptions (hash)
-- ARGV: 1 payload  2 queue  3 batch id  4 s3 key  5 total  6 clips done before  7 clips given up
--       8 number of jobs n, then n times (clip, job), then dead letters to the end
-- Returns 'lost' (not the owner), 'exists' (the batch is under way; the job is acknowledged) or 'ok'.
if redis.call('LREM', KEYS[1], 1, ARGV[1]) == 0 then return 'lost' end
local field = ARGV[2] .. ':' .. redis.sha1hex(ARGV[1])
redis.call('HDEL', KEYS[10], field)
redis.call('HDEL', KEYS[11], field)
if redis.call('EXISTS', KEYS[2]) == 1 then return 'exists' end
redis.call('SET', KEYS[2], ARGV[5])
redis.call('SET', KEYS[3], ARGV[6])
redis.call('SET', KEYS[4], ARGV[7])
redis.call('SET', KEYS[5], ARGV[4])
local jobs = tonumber(ARGV[8])
for i = 9, 8 + 2 * jobs, 2 do
    redis.call('SADD', KEYS[6], ARGV[i])
    redis.call('RPUSH', KEYS[7], ARGV[i + 1])
end
for i = 9 + 2 * jobs, #ARGV do redis.call('RPUSH', KEYS[8], ARGV[i]) end
if jobs == 0 then redis.call('SADD', KEYS[9], ARGV[3]) end
return 'ok'
