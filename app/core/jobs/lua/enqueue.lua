-- Give an unfinished job to RQ that has lost it, at its place in the queue. One that is not queued is put before all.
--
-- Arguments: rq_fields.
-- Returns 1, or 0 when RQ has the job.
local tag = tonumber(redis.call('ZSCORE', waiting, args.id) or nil)
if not tag and field('status') == '"queued"' then
  local audio_s = tonumber(field('estimated_s', '0')) or 0
  if (number('attempt') or 0) > 0 then
    tag = front_tag(audio_s)
    wait(tag, audio_s)
  else
    tag = next_tag()
    wait_in_turn(tag, audio_s)
  end
end
return enqueue(tag) and 1 or 0
