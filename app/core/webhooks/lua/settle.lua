-- Note an attempt, and what follows from it.
--
-- Arguments: id, receiver, claim of the event as it was given; attempt (JSON text), status of the event from here on,
-- delay_s ? until the next attempt, max_attempts that are kept; is_down ?, whether the receiver did not answer, or said
-- that it is out of order; absent where it was not asked.
-- Returns 1, or 0 where the event was given to another dispatcher since, is settled, or is gone.

local function note_failure(keys)
  if open_until(keys) > now() then return end  -- what was sent before the circuit opened says nothing new
  local failures = redis.call('HINCRBY', keys.circuit, 'failures', 1)
  redis.call('EXPIRE', keys.circuit, RECEIVER_TTL_S)
  if failures < FAILURES_TO_OPEN then return end
  local open_s = math.min(FIRST_OPEN_S * 2 ^ math.min(failures - FAILURES_TO_OPEN, 16), MAX_OPEN_S)
  redis.call('HSET', keys.circuit, 'open_until', format_time(now() + open_s))
end

local function note_attempt(event)
  local last = redis.call('HGET', event, 'attempts') or 0
  if redis.call('HGET', event, 'attempt:' .. last) == args.attempt then return end  -- noted, but the answer was lost
  local n = redis.call('HINCRBY', event, 'attempts', 1)
  redis.call('HSET', event, 'attempt:' .. n, args.attempt)
  redis.call('HDEL', event, 'attempt:' .. (n - args.max_attempts))
end

local keys, event = receiver_keys(args.receiver), event_key(args.id)
set_aside_wrong_type(event, 'hash')
if redis.call('EXISTS', event) == 0 then
  redis.call('ZREM', keys.sending, args.id)
  look_again(args.receiver, keys)
  return 0
end
note_attempt(event)
if tonumber(redis.call('HGET', event, 'claim') or nil) ~= args.claim then return 0 end
if args.is_down then
  note_failure(keys)
elseif args.is_down == false then
  redis.call('DEL', keys.circuit)
end
redis.call('ZREM', keys.sending, args.id)
redis.call('HINCRBY', event, 'tries', 1)
redis.call('HINCRBY', event, 'claim', 1)
redis.call('HSET', event, 'status', '"' .. args.status .. '"', 'next_attempt_at', 'null')
if args.delay_s then
  schedule(args.id, args.receiver, now() + args.delay_s)
else
  look_again(args.receiver, keys)
end
return 1
