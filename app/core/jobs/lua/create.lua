-- Create a job, and queue it unless it is finished already.
--
-- Arguments:
--   fields             the record, each value as JSON text
--   rq_fields          what RQ keeps of a queued job
--   record_prefix      what stands before a job's id in the name of its record
--   joins_batch        whether the job belongs to a batch
--   max_batch_items
--   max_in_flight ?    unfinished jobs that the tenant may have
--   max_backlog_s ?    seconds of audio that may wait
-- Returns {'exists'}, {'unknown_batch'}, {'batch_full'}, {'too_many_in_flight'} or {'queue_full'}, and nothing was
-- written; or {'created'} for a finished job; or {'created', position, seconds of audio ahead} for a queued one.
if redis.call('EXISTS', record) == 1 then return {'exists'} end
if args.joins_batch then
  if redis.call('EXISTS', batch) == 0 then return {'unknown_batch'} end
  if redis.call('LLEN', batch_items) >= args.max_batch_items then return {'batch_full'} end
end
if args.max_in_flight and redis.call('ZCARD', in_flight) >= args.max_in_flight then return {'too_many_in_flight'} end
local total_s = tonumber(redis.call('GET', queued_audio_total) or '0')
local first = redis.call('ZRANGE', waiting, 0, 0, 'WITHSCORES')
local ahead_s = first[2] and math.max(total_s - first[2], 0) or 0
if args.max_backlog_s and first[2] and ahead_s >= args.max_backlog_s then return {'queue_full'} end

local fields = args.fields
local to_queue = is_unfinished(fields.status)
if to_queue then
  -- Before the record: an id without a record does no harm, should a write fail in between.
  redis.call('SADD', rq_queues, rq_queue)
  if redis.call('EXISTS', rq_job) == 0 then  -- an id that a client's retry claimed again may be queued already
    redis.call('RPUSH', rq_queue, args.id)
    set_fields(rq_job, args.rq_fields)
  end
end
set_fields(record, fields)
redis.call('ZADD', by_created, fields.created_at, args.id)
-- Nothing is run when a record expires, so each new job sweeps the oldest end of its tenant's list.
for _, oldest in ipairs(redis.call('ZRANGE', by_created, 0, 3)) do
  if redis.call('EXISTS', args.record_prefix .. oldest) == 0 then redis.call('ZREM', by_created, oldest) end
end
if args.joins_batch then
  redis.call('RPUSH', batch_items, '"' .. args.id .. '"')
  if to_queue then redis.call('SADD', batch_unfinished, args.id) end
  keep_batch(batch, batch_items, batch_unfinished, args.ttl_s)
end
if not to_queue then
  publish_event('job.' .. cjson.decode(fields.status), '{}')
  expire()
  return {'created'}
end
redis.call('ZADD', unfinished, fields.created_at, args.id)
redis.call('ZADD', in_flight, fields.created_at, args.id)
redis.call('ZADD', waiting, format_time(total_s), args.id)
redis.call('INCRBYFLOAT', queued_audio_total, fields.estimated_s)
if fields.deadline ~= 'null' then redis.call('ZADD', deadlines, fields.deadline, args.id) end
return {'created', redis.call('ZCARD', waiting), format_time(ahead_s)}
