#!lua flags=allow-oom
-- Let go of a job without settling it. Does nothing for a worker that no longer owns it.
-- KEYS: 1 in-flight list  2 queue list  3 queue:delayed (zset)  4 queue:attempts (hash)
-- ARGV: 1 payload  2 mode: 'back' to the head of its queue, or 'later'  3 seconds to wait  4 nonce
--       5 '1' when this was a failed attempt
-- Returns 1, or 0 when the job was not ours.
if redis.call('LREM', KEYS[1], 1, ARGV[1]) == 0 then return 0 end
if ARGV[5] == '1' then redis.call('HINCRBY', KEYS[4], KEYS[2] .. ':' .. redis.sha1hex(ARGV[1]), 1) end
if ARGV[2] == 'back' then
    redis.call('LPUSH', KEYS[2], ARGV[1])
else
    -- Redis's clock, not the worker's: hosts disagree. The nonce keeps two equal payloads apart.
    local due = tonumber(redis.call('TIME')[1]) + tonumber(ARGV[3])
    redis.call('ZADD', KEYS[3], due, KEYS[2] .. '\n' .. ARGV[4] .. '\n' .. ARGV[1])
end
return 1
