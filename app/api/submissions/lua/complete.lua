-- Store the response, unless a job that it shows was deleted meanwhile. The owner of the lock may do so again.
--
-- Arguments: fields, the response and the fingerprints.
-- Returns 1, or 0 when the lock is another request's by now.
if not owns_lock() then return 0 end
if redis.call('HDEL', entry, 'discard') == 1 then
  redis.call('HDEL', entry, 'token', 'lease_until')
  return 1
end
set_fields(entry, args.fields)
redis.call('EXPIRE', entry, args.ttl_s)
return 1
