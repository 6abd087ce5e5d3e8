#!lua flags=allow-oom
-- Take a lease that expires by itself, unless another has it. Allowed when memory is full: looking for dead workers
-- adds nothing, and a worker that may not look would be held, although finishing its jobs makes room.
-- KEYS: 1 the lease     ARGV: 1 who takes it  2 milliseconds     Returns 1, or 0 when somebody has it.
if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return 1 end
return 0
