-- Begin a run: queued -> running, or running -> running when the lease of the run before is over.
--
-- Arguments: fields (worker, as JSON text), max_attempts, lease_s; model_version, of the worker's model.
-- Returns {'started', name, value, ...} with the fields of the record; {'attempts_exhausted'}; {'overdue'};
-- {'model_unavailable'} when the job has waited for too long for a worker of its model; or {'nothing'} when the job is
-- finished, unknown, run by another worker, or for another model.
local function started() return {'started', unpack(redis.call('HGETALL', record))} end

-- How long a job may ask for a model that none of the workers runs which come to it.
local MODEL_WAIT_S = 24 * 60 * 60
-- How long the reconciler leaves such a job alone, before it comes to a worker of any model once more.
local MODEL_QUEUE_LEASE_S = 5 * 60

-- Leave the job to the workers of its model, which look into their own list before the one of all.
local function wait_for_model(version)
  leave_queue()
  leave_model_queue()
  redis.pcall('RPUSH', args.model_queue_prefix .. version, args.id)
  redis.call('HSET', record, 'status', '"queued"', 'status_reason', '"waiting_for_model"', lease(MODEL_QUEUE_LEASE_S))
  redis.call('HDEL', running, args.id)
  move_in_batch('queued')
end

local status = field('status')
if not is_unfinished(status) or is_unfetched() then return {'nothing'} end
if status == '"running"' and is_leased() then
  -- Its own worker asks again when the first answer was lost on the way.
  local is_own = args.fields.worker ~= '""' and holds(args.fields)
  return is_own and started() or {'nothing'}
end
local deadline = number('deadline')
if deadline and deadline <= now() then return {'overdue'} end
local version = model_version()
if version and version ~= args.model_version then
  if now() - to_number(field('created_at')) > MODEL_WAIT_S then return {'model_unavailable'} end
  wait_for_model(version)
  return {'nothing'}
end
if version then redis.call('HSET', record, 'status_reason', 'null') end
if number('attempt') - (number('handed_back') or 0) >= args.max_attempts then return {'attempts_exhausted'} end
local started_at = format_time(now())
leave_queue()
redis.call('HSET', record, 'status', '"running"', 'started_at', started_at, lease(args.lease_s))
set_fields(record, args.fields)
redis.call('HINCRBY', record, 'attempt', 1)
move_in_batch('running')
local run = '{"started_at": ' .. started_at .. ', "audio_s": ' .. field('estimated_s', '0') .. '}'
redis.call('HSET', running, args.id, run)
return started()
