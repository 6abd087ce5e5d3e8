-- Begin a batch: its keys, its clips' jobs and the acknowledgement of its unpack job, all or nothing.
-- KEYS: 1 in-flight list of the unpack job  2 transcribe list  3 queue:failed (list)  4 batches:finishing (set)
--       5 queue:attempts (hash)  6 queue:interruptions (hash)
--       7 batch:{id}:total  8 batch:{id}:processed  9 batch:{id}:failed  10 batch:{id}:s3_key
--       11 batch:{id}:pending (set)  12 batch:{id}:run  13 batch:{id}:given_up (set)
-- ARGV: 1 payload  2 queue  3 batch id  4 s3 key  5 total  6 clips done before  7 clips given up  8 name of this run
--       9 number of jobs n, then n times (clip, job), then (clip, dead letter) to the end
-- Returns 'lost' (not the owner), 'exists' (the batch is under way; the job is acknowledged) or 'ok'; 'ok' also when
-- this run has begun the batch before: then our first answer was lost.
if redis.call('GET', KEYS[12]) == ARGV[8] then return 'ok' end
if redis.call('LREM', KEYS[1], 1, ARGV[1]) == 0 then return 'lost' end
local field = ARGV[2] .. ':' .. redis.sha1hex(ARGV[1])
redis.call('HDEL', KEYS[5], field)
redis.call('HDEL', KEYS[6], field)
if redis.call('EXISTS', KEYS[7]) == 1 then return 'exists' end
redis.call('SET', KEYS[7], ARGV[5])
redis.call('SET', KEYS[8], ARGV[6])
redis.call('SET', KEYS[9], ARGV[7])
redis.call('SET', KEYS[10], ARGV[4])
redis.call('SET', KEYS[12], ARGV[8])
local jobs = tonumber(ARGV[9])
for i = 10, 9 + 2 * jobs, 2 do
    redis.call('SADD', KEYS[11], ARGV[i])
    redis.call('RPUSH', KEYS[2], ARGV[i + 1])
end
for i = 10 + 2 * jobs, #ARGV, 2 do
    redis.call('SADD', KEYS[13], ARGV[i])
    redis.call('RPUSH', KEYS[3], ARGV[i + 1])
end
if jobs == 0 then redis.call('SADD', KEYS[4], ARGV[3]) end
return 'ok'
