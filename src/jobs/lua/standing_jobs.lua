-- Every list of jobs, and queue:delayed, with what each holds, at one moment: {{key, {member, ...}}, ...}
-- The lists are found by their names here, because an in-flight list exists only while it holds a job.
local found = {}
local function add_lists(pattern)
    local cursor = '0'
    repeat
        local answer = redis.call('SCAN', cursor, 'MATCH', pattern, 'COUNT', 1000)
        cursor = answer[1]
        for _, key in ipairs(answer[2]) do
            if redis.call('TYPE', key).ok == 'list' then found[#found + 1] = {key, redis.call('LRANGE', key, 0, -1)} end
        end
    until cursor == '0'
end
add_lists('queue:unpack')
add_lists('queue:transcribe*')
add_lists('inflight:queue:*')
found[#found + 1] = {'queue:delayed', redis.call('ZRANGE', 'queue:delayed', 0, -1)}
return found
