#!lua flags=allow-oom
-- Put delayed jobs whose time has come back to the end of their queues.
-- KEYS: 1 queue:delayed (zset of queue \n nonce \n payload)  2 queue:failed (list)     Returns how many.
-- A member that our scripts did not write becomes a dead letter; left there, it would be read again and again.
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', redis.call('TIME')[1], 'LIMIT', 0, 100)
for _, member in ipairs(due) do
    redis.call('ZREM', KEYS[1], member)
    local queue, payload = string.match(member, '^(queue:[^\n]+)\n[^\n]*\n(.*)$')
    if queue then
        redis.call('RPUSH', queue, payload)
    else
        redis.call('RPUSH', KEYS[2], cjson.encode({
            queue = 'queue:delayed', payload = member, error_class = 'PayloadError',
            error = 'an entry of queue:delayed is not "queue, newline, nonce, newline, payload"; push jobs to their queues'}))
    end
end
return #due
