#!lua flags=allow-oom
-- Take the first job of the first list that has one, in one move; or a named job of the first list.
-- KEYS: 1 this worker's heartbeat  2 queue:attempts (hash)  3 queue:interruptions (hash)
--       then (queue list, this worker's in-flight list for it), once per queue, in order of preference
-- ARGV: 1 '' or the payload to take from the first queue, wherever it stands: a job that was looked at before
--       2 how many jobs of these queues the worker knows to be in its hands
--       3 to 5 drain:all, drain:host:{host}, drain:worker:{worker} (strings). Not among the KEYS, which a user must be
--       allowed to write: a worker may only read these.
-- Returns {queue's number from 1, payload, failed attempts so far, interruptions so far}, or nil when all are empty, or
-- 'unknown' when more stand in its lists than it knows of: Redis came back from a crash without its last writes.
-- A worker whose heartbeat has expired gets nothing: the next reap would take the job from it at once.
if redis.call('EXISTS', KEYS[1]) == 0 then return false end
-- Workers look for a drain before they claim. It is checked again here, so that nothing is claimed once a drain is set.
if redis.call('EXISTS', ARGV[3], ARGV[4], ARGV[5]) > 0 then return false end
if ARGV[1] ~= '' and not redis.call('LPOS', KEYS[4], ARGV[1]) then return false end
local standing = 0
for i = 5, #KEYS, 2 do standing = standing + redis.call('LLEN', KEYS[i]) end
if standing > tonumber(ARGV[2]) then return 'unknown' end
local function take(i)
    if ARGV[1] == '' then return redis.call('LMOVE', KEYS[i], KEYS[i + 1], 'LEFT', 'RIGHT') end
    -- Of equal payloads the first is removed. The search is short, because the worker looked near the head.
    if i > 4 then return false end
    redis.call('LREM', KEYS[i], 1, ARGV[1])
    redis.call('RPUSH', KEYS[i + 1], ARGV[1])
    return ARGV[1]
end
for i = 4, #KEYS, 2 do
    local payload = take(i)
    if payload then
        local field = KEYS[i] .. ':' .. redis.sha1hex(payload)
        return {(i - 2) / 2, payload,
                tonumber(redis.call('HGET', KEYS[2], field) or 0),
                tonumber(redis.call('HGET', KEYS[3], field) or 0)}
    end
end
return false
