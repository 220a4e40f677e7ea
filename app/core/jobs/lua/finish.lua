-- End a run, or a queued job where that is allowed: running -> state, queued -> state.
--
-- Arguments: attempt, state, allow_queued, fields (values as JSON text), embedding_key and embedding ? (JSON text); fetch ?,
-- that must still have the job. With the key cached_result, the job's scores answer later requests.
-- Returns 1, also to a repetition whose first answer was lost on the way; 0 when the job has moved on.
if number('attempt') ~= args.attempt then return 0 end
local status = field('status')
if status == '"' .. args.state .. '"' then return holds(args.fields) and 1 or 0 end
if status ~= '"running"' and not (status == '"queued"' and args.allow_queued) then return 0 end
if args.fetch and not is_current_fetch() then return 0 end
set_fields(record, args.fields)
local readable, audio = pcall(cjson.decode, field('audio', '{}'))
if readable and type(audio) == 'table' and type(audio.duration_s) == 'number' then
  charge(audio.duration_s - to_number(field('estimated_s')))
end
if cached_result then redis.call('SET', cached_result, args.id, 'EX', args.ttl_s) end
keep_embedding()
finish(args.state)
return 1
