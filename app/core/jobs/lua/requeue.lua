-- Requeue the job of a run: running -> queued. The reconciler gives it to RQ.
--
-- Arguments: attempt; counted, whether the run uses up an attempt; machine_fault, whether the worker's machine was at
-- fault. A run that does not count keeps its number: the number fences off a worker that still runs it.
-- Returns 1, or 0 when the run has lost its job.
if not is_current_run() then return 0 end
redis.call('HSET', record, 'status', '"queued"', 'lease_until', '0')
if not args.counted then redis.call('HINCRBY', record, 'handed_back', 1) end
local audio_s = tonumber(field('estimated_s', '0')) or 0
if args.machine_fault then
  -- The others may be spared what this job met.
  if not number('machine_fault_at') then redis.call('HSET', record, 'machine_fault_at', format_time(now())) end
  wait_in_turn(next_tag(), audio_s)
else
  wait(front_tag(audio_s), audio_s)
end
move_in_batch('queued')
redis.call('HDEL', running, args.id)
return 1
