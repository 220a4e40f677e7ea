-- Lock a key, or find what became of it.
--
-- Arguments: lease_s; job_id, for a new job.
-- Returns {'completed', status, headers, body, fingerprint, body fingerprint}; {'in_progress', job id}; or {'claimed',
-- job id, 1 when an earlier request had locked the key, else 0}.
local found = redis.call('HMGET', entry, 'status', 'lease_until', 'job_id')
if found[1] then
  return {'completed', unpack(redis.call('HMGET', entry, 'status', 'headers', 'body', 'fingerprint', 'request_print'))}
end
if is_ahead(found[2], args.lease_s) then return {'in_progress', found[3]} end
local job_id = found[3] or args.job_id
redis.call('HSET', entry, 'token', args.token, 'lease_until', now() + args.lease_s, 'job_id', job_id)
redis.call('EXPIRE', entry, args.ttl_s)
return {'claimed', job_id, found[3] and 1 or 0}
