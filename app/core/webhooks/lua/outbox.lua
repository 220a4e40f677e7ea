-- The outbox: events that are to be sent to receivers, and when. Precedes each script that adds to it or takes from it.
--
-- Argument of each of them: webhooks, what stands before these names:
--   event:ID            hash: an event and what came of it, every value JSON; attempt:N, the last few of its attempts
--   receivers           sorted set: receivers for which something is to be done, by when
--   due:RECEIVER        sorted set: ids of its events that wait, by when each is due
--   sending:RECEIVER    sorted set: ids of its events that a dispatcher has, by when the dispatcher's lease ends
--   receiver:RECEIVER   hash: failures in a row, and open_until, before which nothing is sent: the circuit is open
--   dispatchers         sorted set: dispatchers by when they last asked for events
--
-- A receiver is a host together with the tenant whose URL names it, so that no tenant's receiver delays another's. An
-- event's id follows from what it is about: an end that a failover undid and another run made again is the same event.

local MAX_SENDING = 8
local FAILURES_TO_OPEN, FIRST_OPEN_S, MAX_OPEN_S = 5, 5, 300
local RECEIVER_TTL_S = 2 * 24 * 60 * 60

local function event_key(id) return args.webhooks .. 'event:' .. id end

local function receivers_key() return args.webhooks .. 'receivers' end

-- The keys of a receiver, each of the type that it must have.
local function receiver_keys(name)
  local keys = {due = args.webhooks .. 'due:' .. name, sending = args.webhooks .. 'sending:' .. name,
    circuit = args.webhooks .. 'receiver:' .. name}
  set_aside_wrong_type(receivers_key(), 'zset')
  set_aside_wrong_type(keys.due, 'zset')
  set_aside_wrong_type(keys.sending, 'zset')
  set_aside_wrong_type(keys.circuit, 'hash')
  return keys
end

local function first_score(key) return tonumber(redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')[2] or nil) end

local function n_failures(keys) return to_number(redis.call('HGET', keys.circuit, 'failures')) end

-- How many more events may be sent to a receiver now: one at a time until it answers again.
local function room(keys)
  local most = n_failures(keys) >= FAILURES_TO_OPEN and 1 or MAX_SENDING
  return most - redis.call('ZCARD', keys.sending)
end

-- The time at which the circuit lets events through; never further off than it may be: the clock may have been set back.
local function open_until(keys)
  return math.min(to_number(redis.call('HGET', keys.circuit, 'open_until')), now() + MAX_OPEN_S)
end

-- Note when there is something to be done for a receiver.
local function look_again(name, keys)
  local due, lease_end = first_score(keys.due), first_score(keys.sending)
  local at = due and room(keys) > 0 and math.max(due, open_until(keys)) or nil
  if lease_end then at = math.min(at or lease_end, lease_end) end
  if at then
    redis.call('ZADD', receivers_key(), format_time(at), name)
  else
    redis.call('ZREM', receivers_key(), name)
  end
end

-- A text that is stored as JSON; nil for anything else.
local function stored_text(key, field)
  local readable, value = pcall(cjson.decode, redis.call('HGET', key, field) or 'null')
  return readable and type(value) == 'string' and value or nil
end

-- Have an event wait until a time.
local function schedule(id, receiver, at)
  local keys = receiver_keys(receiver)
  redis.call('HSET', event_key(id), 'status', '"pending"', 'next_attempt_at', format_time(at))
  redis.call('ZADD', keys.due, format_time(at), id)
  look_again(receiver, keys)
end

-- Add an event, unless it is there: `fields` are texts, with id, tenant and url among them.
local function add_event(fields, ttl_s)
  local key, host = event_key(fields.id), string.match(fields.url, '^%a+://([^/?#]+)')
  set_aside_wrong_type(key, 'hash')
  if not host or redis.call('EXISTS', key) == 1 then return end
  fields.receiver = fields.tenant .. ':' .. string.lower(host)
  local at = format_time(now())
  local values = {created_at = at, round_at = at, tries = '0', claim = '0'}
  for name, value in pairs(fields) do values[name] = cjson.encode(value) end
  set_fields(key, values)
  redis.call('EXPIRE', key, ttl_s)
  schedule(fields.id, fields.receiver, now())
end

-- The URL to which the owner of a record wants events of this type sent; nil for none.
local function url_for(record, event_type)
  local url = stored_text(record, 'webhook_url')
  local readable, types = pcall(cjson.decode, url and redis.call('HGET', record, 'webhook_events') or 'null')
  if not readable or type(types) ~= 'table' then return nil end
  for _, wanted in ipairs(types) do
    if wanted == event_type then return url end
  end
end

local function event_id(subject) return 'evt_' .. subject end

-- Add the event of what a record is about, if its owner wants to be told.
local function post_event(record, event_type, ttl_s)
  local url = url_for(record, event_type)
  if not url then return end
  local subject, tenant, request_id = stored_text(record, 'id'), stored_text(record, 'tenant'),
    stored_text(record, 'request_id')
  if not (subject and tenant) then return end
  add_event({id = event_id(subject), type = event_type, subject = subject, tenant = tenant, url = url,
    request_id = request_id}, ttl_s)
end

-- Delete an event, wherever it is.
local function forget_event(id)
  local key = event_key(id)
  set_aside_wrong_type(key, 'hash')
  local receiver = stored_text(key, 'receiver')
  if receiver then
    local keys = receiver_keys(receiver)
    redis.call('ZREM', keys.due, id)
    redis.call('ZREM', keys.sending, id)
    look_again(receiver, keys)
  end
  redis.call('DEL', key)
end
