-- Update fields of a run in progress.
--
-- Arguments: attempt, fields (values as JSON text).
-- Returns 'lost' when the run has lost its job, and nothing was written; else 'by_client' when a client asked for the
-- end, 'deadline_exceeded', or 'ok'.
if not is_current_run() then return 'lost' end
set_fields(record, args.fields)
publish_event('job.progress', field('progress'))
if number('cancel_requested_at') then return 'by_client' end
local deadline = number('deadline')
if deadline and deadline <= now() then return 'deadline_exceeded' end
return 'ok'
