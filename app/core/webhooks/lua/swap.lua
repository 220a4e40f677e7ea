-- Write a field of a hash, if it is as the caller has read it.
--
-- KEYS: the hash. Arguments: field; before, '' for none; after.
-- Returns 1, or 0 where it has changed since.
if (redis.call('HGET', KEYS[1], args.field) or '') ~= args.before then return 0 end
redis.call('HSET', KEYS[1], args.field, args.after)
return 1
