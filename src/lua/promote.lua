#!lua flags=allow-oom
-- Put delayed jobs whose time has come back to the end of their queues.
-- KEYS: 1 queue:delayed (zset of queue \n nonce \n payload)     Returns how many.
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', redis.call('TIME')[1], 'LIMIT', 0, 100)
for _, member in ipairs(due) do
    local first = string.find(member, '\n', 1, true)
    local second = string.find(member, '\n', first + 1, true)
    redis.call('RPUSH', string.sub(member, 1, first - 1), string.sub(member, second + 1))
    redis.call('ZREM', KEYS[1], member)
end
return #due
