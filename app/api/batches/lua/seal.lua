-- Note that the request which made a batch was carried out, so that its end can be told.
--
-- KEYS: the batch's record, its items, its unfinished jobs, the states of its jobs. Arguments: webhooks, ttl_s.
local batch, _, batch_unfinished = unpack(KEYS)
set_aside_wrong_types({'hash', 'list', 'set', 'zset'})
if redis.call('EXISTS', batch) == 0 or redis.call('HGET', batch, 'completion') then return 0 end
redis.call('HSET', batch, 'completion', 'awaited')
complete_batch(batch, batch_unfinished, args.ttl_s)
return 1
