-- Queue a job whose audio was fetched.
--
-- Arguments: fetch, its number; fields, of the record as JSON text, with the key in storage that only this fetch has;
-- rq_fields, record_prefix.
-- Returns 1, also to a repetition whose first answer was lost on the way; 0 when the fetch has lost its job.
if field('storage_key') == args.fields.storage_key then return 1 end
if not is_current_fetch() then return 0 end
if read_count(ALL_TENANTS).jobs == 0 then check_counts() end
local tag, audio_s = next_tag(), tonumber(args.fields.estimated_s)
enqueue(tag)
set_fields(record, args.fields)
leave_fetches()
wait_in_turn(tag, audio_s)
publish_event('job.progress', field('progress', '{}'))
return 1
