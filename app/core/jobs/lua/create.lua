-- Create a job, and queue it unless it is finished already, or is to be fetched first.
--
-- Arguments:
--   fields             the record, each value as JSON text; the times of a job that has none yet are set here
--   cancel_after_s ?   how long after its creation the job is canceled
--   rq_fields ?        what RQ keeps of a queued job; absent for one that RQ is not to have
--   record_prefix      what stands before a job's id in the name of its record
--   joins_batch        whether the job belongs to a batch
--   batch_index ?      how many items its batch must have before it; after ?, the job that must be the last of them
--   max_batch_items
--   max_unfetched ?    jobs that may wait to be fetched
--   metadata_indexes   names of sorted sets like by_created, of the tenant's jobs with the same metadata
--   max_in_flight ?    unfinished jobs that the tenant may have
--   max_backlog_s ?    seconds of audio that may wait
--   embedding_key, embedding ?  of a finished job: where the embedding of its track is kept, and what (JSON text)
--   tenant_share       how much of it one tenant may take while no other waits, as `BacklogLimits` says
-- Returns {'out_of_order'}, {'exists'}, {'unknown_batch'}, {'batch_full'}, {'too_many_in_flight'}, {'queue_full'} or
-- {'queue_share_exceeded'}, and nothing was written; or {'created', created_at, finished_at, deadline} as JSON text, and
-- for a queued job its position and its tag less the first one's.
-- Nothing is run when a record expires, so each new job sweeps the oldest end of a list.
local function add_to_list(list, created_at)
  redis.call('ZADD', list, created_at, args.id)
  for _, oldest in ipairs(redis.call('ZRANGE', list, 0, 3)) do
    if redis.call('EXISTS', args.record_prefix .. oldest) == 0 then redis.call('ZREM', list, oldest) end
  end
end

if args.batch_index and redis.call('LLEN', batch_items) ~= args.batch_index then return {'out_of_order'} end
if args.after and redis.call('LRANGE', batch_items, -1, -1)[1] ~= '"' .. args.after .. '"' then return {'out_of_order'} end
if redis.call('EXISTS', record) == 1 then return {'exists'} end
if args.joins_batch then
  if redis.call('EXISTS', batch) == 0 then return {'unknown_batch'} end
  if redis.call('LLEN', batch_items) >= args.max_batch_items then return {'batch_full'} end
end
if args.max_in_flight and redis.call('ZCARD', in_flight) >= args.max_in_flight then return {'too_many_in_flight'} end
if read_count(ALL_TENANTS).jobs == 0 then check_counts() end  -- lost, or never kept by an older version
if args.max_unfetched and redis.call('ZCARD', fetch_jobs) >= args.max_unfetched then return {'queue_full'} end
local refusal = args.max_backlog_s and backlog_refusal(args.tenant, args.max_backlog_s, args.tenant_share)
if refusal then return {refusal} end

local fields = args.fields
local is_open, to_fetch = is_unfinished(fields.status), (fields.source or 'null') ~= 'null'
local to_queue, tag, audio_s = is_open and not to_fetch, next_tag(), tonumber(fields.estimated_s)
if tonumber(fields.created_at) == 0 then fields.created_at = format_time(now()) end
if not is_open and fields.finished_at == 'null' then fields.finished_at = fields.created_at end
if args.cancel_after_s then fields.deadline = format_time(fields.created_at + args.cancel_after_s) end
local times = {fields.created_at, fields.finished_at, fields.deadline}
if to_queue and args.rq_fields then
  -- Before the record: an id without a record does no harm, should a write fail in between.
  enqueue(tag)  -- unless a client's retry claimed the id again, and RQ has it already
end
set_fields(record, fields)
add_to_list(by_created, fields.created_at)
for _, list in ipairs(args.metadata_indexes) do
  set_aside_wrong_type(list, 'zset')
  add_to_list(list, fields.created_at)
  redis.call('EXPIRE', list, args.ttl_s + TOMBSTONE_TTL_S)  -- when no job with this metadata is made any more
end
if args.joins_batch then
  local index = redis.call('RPUSH', batch_items, '"' .. args.id .. '"') - 1
  note_state(batch_states, args.id, cjson.decode(fields.status), is_open and index or now() + args.ttl_s)
  if is_open then redis.call('SADD', batch_unfinished, args.id) end
  keep_batch(batch, batch_items, batch_unfinished, batch_states, args.ttl_s)
  wake_batch()
end
if not is_open then
  announce_end(cjson.decode(fields.status))
  keep_embedding()
  expire()
  return {'created', unpack(times)}
end
redis.call('ZADD', unfinished, fields.created_at, args.id)
redis.call('ZADD', in_flight, fields.created_at, args.id)
if fields.deadline ~= 'null' then redis.call('ZADD', deadlines, fields.deadline, args.id) end
if to_fetch then
  fetch_at(now())
  return {'created', unpack(times)}
end
wait_in_turn(tag, audio_s)
local position = {redis.call('ZRANK', waiting, args.id) + 1, format_tag(tag - first_tag())}
return {'created', times[1], times[2], times[3], unpack(position)}
