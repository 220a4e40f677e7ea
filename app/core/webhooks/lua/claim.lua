-- Give events that are due to a dispatcher, until its lease ends.
--
-- Arguments: dispatcher, its id; limit, how many events it takes; lease_s; max_age_s, how long after its first attempt
-- could be made an event is still sent.
-- Returns the time by Redis's clock, then the fields of each event.

-- Receivers that are looked at in one step.
local MAX_RECEIVERS = 100
-- A dispatcher that was silent for longer is gone.
local DISPATCHER_TTL_S = 60

local function note_dispatcher(at)
  local dispatchers = args.webhooks .. 'dispatchers'
  set_aside_wrong_type(dispatchers, 'zset')
  redis.call('ZADD', dispatchers, format_time(at), args.dispatcher)
  for _, gone in ipairs(redis.call('ZRANGE', dispatchers, '-inf', format_time(at - DISPATCHER_TTL_S), 'BYSCORE')) do
    redis.call('ZREM', dispatchers, gone)
  end
end

-- Have events wait again whose dispatcher's lease is over, or ends further off than any does.
local function take_back(keys, at)
  for _, range in ipairs({{'-inf', format_time(at)}, {format_time(at + args.lease_s + CLOCK_TOLERANCE_S), '+inf'}}) do
    for _, id in ipairs(redis.call('ZRANGE', keys.sending, range[1], range[2], 'BYSCORE')) do
      redis.call('ZREM', keys.sending, id)
      redis.call('ZADD', keys.due, format_time(at), id)
    end
  end
end

local function take(keys, id, at)
  local event = event_key(id)
  redis.call('ZREM', keys.due, id)
  if redis.pcall('EXISTS', event) ~= 1 or redis.pcall('HGET', event, 'status') ~= '"pending"' then return nil end
  if at - to_number(redis.call('HGET', event, 'round_at')) > args.max_age_s then
    redis.call('HSET', event, 'status', '"failed"', 'next_attempt_at', 'null')
    return nil
  end
  redis.call('HINCRBY', event, 'claim', 1)
  redis.call('ZADD', keys.sending, format_time(at + args.lease_s), id)
  return redis.call('HGETALL', event)
end

local function take_of(name, at, taken)
  local keys = receiver_keys(name)
  take_back(keys, at)
  local n = math.min(room(keys), args.limit - #taken)
  if n > 0 and open_until(keys) <= at then
    for _, id in ipairs(redis.call('ZRANGE', keys.due, '-inf', format_time(at), 'BYSCORE', 'LIMIT', 0, n)) do
      table.insert(taken, take(keys, id, at))
    end
  end
  look_again(name, keys)
end

local at, taken = now(), {}
note_dispatcher(at)
set_aside_wrong_type(receivers_key(), 'zset')
for _, name in ipairs(redis.call('ZRANGE', receivers_key(), '-inf', format_time(at), 'BYSCORE', 'LIMIT', 0,
  MAX_RECEIVERS)) do
  if #taken >= args.limit then break end
  take_of(name, at, taken)
end
return {format_time(at), unpack(taken)}
