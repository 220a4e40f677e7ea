-- Send an event again from the beginning, whatever came of it.
--
-- Arguments: id.
-- Returns 1, or 0 where there is no such event.
local event = event_key(args.id)
set_aside_wrong_type(event, 'hash')
local receiver = stored_text(event, 'receiver')
if not receiver then return 0 end
redis.call('ZREM', receiver_keys(receiver).sending, args.id)
redis.call('HINCRBY', event, 'claim', 1)  -- whoever sends it now settles nothing any more
redis.call('HSET', event, 'tries', '0', 'round_at', format_time(now()))
schedule(args.id, receiver, now())
return 1
