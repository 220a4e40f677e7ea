-- Begin a fetch of a job that was taken.
--
-- Arguments: max_fetches_of_job.
-- Returns {'begun', name, value, ...} with the fields of the record; {'fetches_exhausted'}; or {'nothing'} when there is
-- nothing to fetch. An overdue job is canceled.
local status = field('status')
if status ~= '"queued"' or not is_unfetched() then
  forget_fetch()
  return {'nothing'}
end
local deadline = number('deadline')
if deadline and deadline <= now() then
  redis.call('HSET', record, 'status_reason', '"deadline_exceeded"')
  finish('canceled')
  return {'nothing'}
end
if (number('fetch') or 0) - (number('fetch_preemptions') or 0) >= args.max_fetches_of_job then
  return {'fetches_exhausted'}
end
redis.call('HINCRBY', record, 'fetch', 1)
return {'begun', unpack(redis.call('HGETALL', record))}
