-- Give unfinished jobs to RQ that has lost them, each at its place in the queue. One that is not queued is put before all.
--
-- Arguments:
--   jobs            a list of {id, tenant, enqueued_at}: what RQ's hash of the job said when the queue was found to lack
--                   it, or ''. A hash that says anything else is of somebody who has queued the job since.
--   record_prefix, rq_job_prefix   what stands before an id in the names of these keys
--   rq_fields       what RQ keeps of a queued job, less its id
-- Returns the ids that were queued: not those that RQ or a worker has.
local function enqueue_lost(job)
  args.id, args.tenant, args.rq_fields.description = job.id, job.tenant, job.id
  record, rq_job = args.record_prefix .. job.id, args.rq_job_prefix .. job.id
  local status = field('status')
  if not is_unfinished(status) or is_leased() then return false end
  if is_unfetched() then
    if not redis.call('ZSCORE', fetch_jobs, job.id) then fetch_at(now()) end
    return false
  end
  local enqueued_at = redis.pcall('HGET', rq_job, 'enqueued_at')  -- an error where RQ's hash is no hash
  if (type(enqueued_at) == 'string' and enqueued_at or '') ~= job.enqueued_at then return false end
  redis.call('DEL', rq_job)
  leave_model_queue()
  local tag = tonumber(redis.call('ZSCORE', waiting, job.id) or nil)
  if not tag and status == '"queued"' then
    local audio_s = tonumber(field('estimated_s', '0')) or 0
    if (number('attempt') or 0) > 0 then
      tag = front_tag(audio_s)
      wait(tag, audio_s)
    else
      tag = next_tag()
      wait_in_turn(tag, audio_s)
    end
  end
  return enqueue(tag)
end

local queued = {}
for _, job in ipairs(args.jobs) do
  local done, is_queued = pcall(enqueue_lost, job)  -- one that fails keeps no other from being queued
  if done and is_queued then table.insert(queued, job.id) end
end
return queued
