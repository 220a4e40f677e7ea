-- Prolong the lease of a lock.
--
-- Arguments: lease_s.
-- Returns 1, or 0 when the lock is another request's by now.
if not owns_lock() then return 0 end
redis.call('HSET', entry, 'lease_until', now() + args.lease_s)
redis.call('EXPIRE', entry, args.ttl_s)
return 1
