-- Take from all limits of an API key at once, or from none when one is reached: the generic cell rate algorithm.
--
-- A meter is one number: the time at which it will have drained. Each unit moves that time by window / limit.
-- KEYS: meter of requests, meter of bytes, the tenant's unfinished jobs, the hash of last uses.
-- Arguments:
--   burst, bytes       each {cost, limit, window_s}; a negative cost gives back
--   inflight           {cost, limit, retry_s}; cost is only looked at, because jobs count themselves
--   use ?              {key_id, every_s}: note that the key is used, unless it was noted less than every_s ago
--   force              whether a limit may be passed
-- Returns the limits that are reached, joined by commas; the seconds until they are not; what is left of burst and the
-- seconds until all of it is; the same of bytes; what is left of inflight.
set_aside_wrong_types({'string', 'string', 'zset', 'hash'})
local at = now()
local reached, retry_s = {}, 0

local function read(name, key, limit)
  -- Never further off than an empty meter needs to drain: the clock may have been set back.
  local empty_at = math.min(math.max(to_number(redis.call('GET', key)), at), at + limit.window_s)
  local per_unit_s = limit.window_s / limit.limit
  local after = math.max(empty_at + limit.cost * per_unit_s, at)
  if limit.cost > 0 and after - at > limit.window_s + 0.001 then
    table.insert(reached, name)
    retry_s = math.max(retry_s, math.min(after - at - limit.window_s, limit.window_s))
  end
  return {key = key, before = empty_at, after = after, per_unit_s = per_unit_s, limit = limit}
end

local meters = {read('burst', KEYS[1], args.burst), read('bytes', KEYS[2], args.bytes)}
local jobs = redis.call('ZCARD', KEYS[3])
if args.inflight.cost > 0 and jobs + args.inflight.cost > args.inflight.limit then
  table.insert(reached, 'inflight')
  retry_s = math.max(retry_s, args.inflight.retry_s)
end

if args.use and math.abs(at - to_number(redis.call('HGET', KEYS[4], args.use.key_id))) >= args.use.every_s then
  redis.call('HSET', KEYS[4], args.use.key_id, string.format('%.3f', at))
end

local consumed, left = #reached == 0 or args.force, {}
for _, meter in ipairs(meters) do
  local empty_at = consumed and meter.after or meter.before
  if consumed and meter.limit.cost ~= 0 then
    redis.call('SET', meter.key, string.format('%.6f', empty_at), 'PX', math.max(math.ceil((empty_at - at) * 1000), 1))
  end
  table.insert(left, math.floor((meter.limit.window_s - (empty_at - at)) / meter.per_unit_s + 0.001))
  table.insert(left, math.ceil(empty_at - at))
end
return {table.concat(reached, ','), math.ceil(retry_s), left[1], left[2], left[3], left[4],
  args.inflight.limit - jobs}
