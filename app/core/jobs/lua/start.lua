-- Begin a run: queued -> running, or running -> running when the lease of the run before is over.
--
-- Arguments: fields (worker, as JSON text), max_attempts, lease_s.
-- Returns {'started', name, value, ...} with the fields of the record; {'attempts_exhausted'}; or {'nothing'} when the
-- job is finished, unknown, overdue or run by another worker. An overdue job is canceled without a run.
local function started() return {'started', unpack(redis.call('HGETALL', record))} end

local status = field('status')
if not is_unfinished(status) then return {'nothing'} end
if status == '"running"' and is_leased() then
  -- Its own worker asks again when the first answer was lost on the way.
  local is_own = args.fields.worker ~= '""' and holds(args.fields)
  return is_own and started() or {'nothing'}
end
local deadline = number('deadline')
if deadline and deadline <= now() then
  redis.call('HSET', record, 'status_reason', '"deadline_exceeded"')
  finish('canceled')
  return {'nothing'}
end
if number('attempt') - (number('handed_back') or 0) >= args.max_attempts then return {'attempts_exhausted'} end
local started_at = format_time(now())
leave_queue()
redis.call('HSET', record, 'status', '"running"', 'started_at', started_at, lease(args.lease_s))
set_fields(record, args.fields)
redis.call('HINCRBY', record, 'attempt', 1)
change_state(batch_states, args.id, 'running')
local run = '{"started_at": ' .. started_at .. ', "audio_s": ' .. field('estimated_s', '0') .. '}'
redis.call('HSET', running, args.id, run)
return started()
