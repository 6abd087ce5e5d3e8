-- Remove a batch's keys and jobs and, unless it is cancelled, push its unpack job; clips with results will be skipped.
-- The caller gives the payloads of the batch's jobs, which never change; they are removed wherever they stand by now.
-- Jobs that a worker has claimed are removed too. Settled later, they would count for clips that have new jobs after the next run of
-- unpack, and the batch could complete, and lose its files, before those new jobs have run.
-- KEYS: 1 queue:unpack (list)  2 batches:finishing (set)  3 queue:delayed (zset)  4 queue:attempts (hash)
--       5 queue:interruptions (hash)  6 queue:failed (list)  7 batch:{id}:run (string)  8.. the batch's other keys
-- ARGV: 1 batch id  2 unpack payload, or '' when the batch is cancelled  3 the run that the caller saw, or ''
--       4 number n of jobs, then n payloads, then dead letters to the end
-- Returns how many jobs were removed, or -1 when another run has begun or ended meanwhile: look again.
if (redis.call('GET', KEYS[7]) or '') ~= ARGV[3] then return -1 end
local jobs, letters = {}, {}
for i = 5, 4 + tonumber(ARGV[4]) do jobs[ARGV[i]] = true end
for i = 5 + tonumber(ARGV[4]), #ARGV do letters[ARGV[i]] = true end

local function take_from_list(key, wanted)
    local taken = {}
    if redis.call('TYPE', key).ok ~= 'list' then return taken end
    local gone = 'removed from ' .. ARGV[1] -- each is overwritten with this first, so that one LREM removes them all
    for index, member in ipairs(redis.call('LRANGE', key, 0, -1)) do
        if wanted[member] then
            redis.call('LSET', key, index - 1, gone)
            taken[#taken + 1] = member
        end
    end
    if #taken > 0 then redis.call('LREM', key, 0, gone) end
    return taken
end

local removed = 0
local function drop_counts(queue, payload)
    local field = queue .. ':' .. redis.sha1hex(payload)
    redis.call('HDEL', KEYS[4], field)
    redis.call('HDEL', KEYS[5], field)
    removed = removed + 1
end

local function take_from_lists(pattern, name_of_queue)
    local cursor = '0'
    repeat
        local answer = redis.call('SCAN', cursor, 'MATCH', pattern, 'COUNT', 1000)
        cursor = answer[1]
        for _, key in ipairs(answer[2]) do
            local queue = string.match(key, name_of_queue)
            for _, payload in ipairs(take_from_list(key, jobs)) do drop_counts(queue or key, payload) end
        end
    until cursor == '0'
end

redis.call('SREM', KEYS[2], ARGV[1])
redis.call('DEL', unpack(KEYS, 7))
if next(jobs) then
    take_from_lists('queue:unpack', '.*')
    take_from_lists('queue:transcribe*', '.*')
    take_from_lists('inflight:queue:*', '^inflight:(queue:.+):[^:]+:%d+:[^:]+$')
    for _, member in ipairs(redis.call('ZRANGE', KEYS[3], 0, -1)) do
        local queue, payload = string.match(member, '^(queue:[^\n]+)\n[^\n]*\n(.*)$')
        if queue and jobs[payload] then
            redis.call('ZREM', KEYS[3], member)
            drop_counts(queue, payload)
        end
    end
end
if next(letters) then take_from_list(KEYS[6], letters) end
if ARGV[2] ~= '' then redis.call('RPUSH', KEYS[1], ARGV[2]) end
return removed
