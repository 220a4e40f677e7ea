-- Take the id of a job that is finished, or has no record, out of the indexes of unfinished jobs. What waits is counted
-- anew by `check_counts`.
--
-- Returns 1, or 0 for a job that is unfinished.
if is_unfinished(field('status')) then return 0 end
forget_fetch()
for _, index in ipairs({unfinished, in_flight, waiting, deadlines}) do redis.call('ZREM', index, args.id) end
redis.call('HDEL', running, args.id)
return 1
