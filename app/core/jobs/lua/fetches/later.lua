-- Give up a fetch: another one begins after a pause.
--
-- Arguments: fetch, its number; pause_s; counted, whether it uses up one of the fetches that a job has.
-- Returns 1, or 0 when the fetch has lost its job.
if not is_current_fetch() then return 0 end
if not args.counted then redis.call('HINCRBY', record, 'fetch_preemptions', 1) end
fetch_at(now() + args.pause_s)
redis.call('HDEL', fetch_running, args.id)
return 1
