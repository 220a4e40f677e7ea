-- Add an item that came to no job. `core/jobs/lua/batch.lua` precedes.
--
-- KEYS: the batch's record, its items, its unfinished jobs.
-- Arguments: problem (JSON text), ttl_s.
local batch, batch_items, batch_unfinished = unpack(KEYS)
redis.call('RPUSH', batch_items, args.problem)
keep_batch(batch, batch_items, batch_unfinished, args.ttl_s)
return 1
