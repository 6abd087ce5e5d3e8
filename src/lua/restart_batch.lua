-- Forget what Redis knows of a batch, and let its archive be unpacked again; clips that are done will be skipped.
-- The jobs are looked for here, not listed by the caller: what a worker claims, puts off or gives up between a list and
-- this script would be missed. Jobs in hand go, too: settled later, they would count for clips that the next run of
-- unpack makes jobs of, and its batch could end, and lose its files, before those have run.
-- KEYS: 1 queue:unpack (list)  2 batches:finishing (set)  3 queue:delayed (zset)  4 queue:attempts (hash)
--       5 queue:interruptions (hash)  6 queue:failed (list)  7.. the batch's keys
-- ARGV: 1 batch id  2 unpack payload, or '' when the batch is cancelled  3 '1' when its dead letters go, too
-- Returns how many jobs were removed.
local id = ARGV[1]

local function read(text)
    if not string.find(text, id, 1, true) then return nil end -- no JSON writer escapes what an id is made of
    local ok, fields = pcall(cjson.decode, text)
    if ok and type(fields) == 'table' then return fields end
end

local function is_job(payload)
    local fields = read(payload)
    return fields and fields.batch_id == id
end

local function is_letter(text)
    local fields = read(text)
    if not fields then return false end
    if type(fields.batch_id) == 'string' then return fields.batch_id == id end
    return type(fields.payload) == 'string' and is_job(fields.payload) -- of the archive
end

local function forget_counts(queue, payload)
    local field = queue .. ':' .. redis.sha1hex(payload)
    redis.call('HDEL', KEYS[4], field)
    redis.call('HDEL', KEYS[5], field)
end

local function take_from_list(key, is_ours)
    local taken = {}
    if redis.call('TYPE', key).ok ~= 'list' then return taken end
    local gone = 'removed from ' .. id -- marked first: one pass then removes them all
    for index, member in ipairs(redis.call('LRANGE', key, 0, -1)) do
        if is_ours(member) then
            redis.call('LSET', key, index - 1, gone)
            taken[#taken + 1] = member
        end
    end
    if #taken > 0 then redis.call('LREM', key, 0, gone) end
    return taken
end

redis.call('SREM', KEYS[2], id)
redis.call('DEL', unpack(KEYS, 7))
local removed = 0
local lists = {[KEYS[1]] = KEYS[1]}
for _, key in ipairs(redis.call('KEYS', 'queue:transcribe*')) do lists[key] = key end
for _, key in ipairs(redis.call('KEYS', 'inflight:queue:*')) do
    lists[key] = string.match(key, '^inflight:(queue:.+):[^:]+:%d+:[^:]+$')
end
for key, queue in pairs(lists) do
    for _, payload in ipairs(take_from_list(key, is_job)) do
        forget_counts(queue, payload)
        removed = removed + 1
    end
end
for _, member in ipairs(redis.call('ZRANGE', KEYS[3], 0, -1)) do
    local queue, payload = string.match(member, '^(queue:[^\n]+)\n[^\n]*\n(.*)$')
    if queue and is_job(payload) then
        redis.call('ZREM', KEYS[3], member)
        forget_counts(queue, payload)
        removed = removed + 1
    end
end
if ARGV[3] == '1' then take_from_list(KEYS[6], is_letter) end
if ARGV[2] ~= '' then redis.call('RPUSH', KEYS[1], ARGV[2]) end
return removed
