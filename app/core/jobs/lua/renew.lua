-- Prolong the lease of a run.
--
-- Arguments: attempt, lease_s.
-- Returns 1, or 0 when the run has lost its job.
if not is_current_run() then return 0 end
redis.call('HSET', record, lease(args.lease_s))
return 1
