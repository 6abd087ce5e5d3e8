#!lua flags=allow-oom
-- Record that a worker and its host are alive. Allowed when memory is full: a full Redis must not make workers look
-- dead.
-- KEYS: 1 the worker's heartbeat  2 hosts:seen (zset: host scored by the second of its last heartbeat)
-- ARGV: 1 state as JSON  2 milliseconds until it expires  3 host
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
redis.call('ZADD', KEYS[2], redis.call('TIME')[1], ARGV[3])
return 1
