-- Read an event. While its receiver's circuit is open it is not tried, whenever its own pause is over.
--
-- Arguments: id.
-- Returns names and values of its fields, none where there is no such event.
local event = event_key(args.id)
set_aside_wrong_type(event, 'hash')
local fields, receiver = redis.call('HGETALL', event), stored_text(event, 'receiver')
if receiver and redis.call('HGET', event, 'status') == '"pending"' then
  local due = to_number(redis.call('HGET', event, 'next_attempt_at'))
  for _, text in ipairs({'next_attempt_at', format_time(math.max(due, open_until(receiver_keys(receiver))))}) do
    table.insert(fields, text)
  end
end
return fields
