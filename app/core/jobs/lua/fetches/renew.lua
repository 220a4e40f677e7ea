-- Prolong the lease of a fetch.
--
-- Arguments: fetch, its number; lease_s. Returns 1, or 0 when the fetch has lost its job.
if not is_current_fetch() then return 0 end
fetch_at(now() + args.lease_s)
redis.call('HSET', fetch_running, args.id, args.tenant)
return 1
