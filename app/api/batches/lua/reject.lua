-- Add an item that came to no job. `core/jobs/lua/shared/batch.lua` precedes.
--
-- KEYS: the batch's record, its items, its unfinished jobs, the states of its jobs.
-- Arguments: problem (JSON text), ttl_s.
local batch, batch_items, batch_unfinished, batch_states = unpack(KEYS)
redis.call('RPUSH', batch_items, args.problem)
redis.call('HINCRBY', batch, 'rejected', 1)
keep_batch(batch, batch_items, batch_unfinished, batch_states, args.ttl_s)
return 1
