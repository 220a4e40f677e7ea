-- Requeue the job of a run: running -> queued, at the front. The reconciler pushes it to RQ.
--
-- Arguments: attempt; counted, whether the run uses up an attempt. A run that does not count keeps its number: the
-- number fences off a worker that still runs it.
-- Returns 1, or 0 when the run has lost its job.
if not is_current_run() then return 0 end
redis.call('HSET', record, 'status', '"queued"', 'lease_until', '0')
if not args.counted then redis.call('HINCRBY', record, 'handed_back', 1) end
-- Before the first that waits, or before the next to come when none does: by the job's own length.
local first = redis.call('ZRANGE', waiting, 0, 0, 'WITHSCORES')
local score = first[2] or redis.call('GET', queued_audio_total) or '0'
redis.call('ZADD', waiting, format_time(score - field('estimated_s', '0')), args.id)
redis.call('HDEL', running, args.id)
return 1
