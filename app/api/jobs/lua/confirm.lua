-- Note that replicas have the end of a job, if its record has that end.
--
-- KEYS: the job's record.
-- Arguments:
--   finished_at  of the end that was confirmed: after a failover the record may have another, or none
set_aside_wrong_types({'hash'})
local record = KEYS[1]
if tonumber(redis.call('HGET', record, 'finished_at') or '') == args.finished_at then
  redis.call('HSET', record, 'end_confirmed', 'true')
end
