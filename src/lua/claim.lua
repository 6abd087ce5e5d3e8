-- Take the first job of the first list that has one, in one move.
-- KEYS: (queue list, this worker's in-flight list for it), once per queue, in order of preference;
--       then queue:attempts (hash), queue:interruptions (hash)
-- Returns {queue's number from 1, payload, failed attempts so far, interruptions so far}, or nil when all are empty.
local attempts, interruptions = KEYS[#KEYS - 1], KEYS[#KEYS]
for i = 1, #KEYS - 2, 2 do
    local payload = redis.call('LMOVE', KEYS[i], KEYS[i + 1], 'LEFT', 'RIGHT')
    if payload then
        local field = KEYS[i] .. ':' .. redis.sha1hex(payload)
        return {(i + 1) / 2, payload,
                tonumber(redis.call('HGET', attempts, field) or 0),
                tonumber(redis.call('HGET', interruptions, field) or 0)}
    end
end
return false
