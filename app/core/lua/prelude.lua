-- Precedes every script.

-- A server may have come up, or another may have become master, after its version was looked at. Valkey tells the version
-- of Redis that it is compatible with; servers before 7.0 tell none.
if (redis.REDIS_VERSION_NUM or 0) < MIN_VERSION_NUM then return redis.error_reply('OUTDATED server') end

-- ARGV: one JSON object, the script's named arguments. A file lists its own; one that is marked `?` may be absent.
local args = cjson.decode(ARGV[1])

-- How far Redis's clock may be set back before a time of the future is taken for one that is over.
local CLOCK_TOLERANCE_S = 1

-- Seconds since the epoch by Redis's clock, so that the clocks of several machines need not agree.
local function now()
  local clock = redis.call('TIME')
  return clock[1] + clock[2] / 1000000
end

-- A number that is stored as text; 0 for anything else.
local function to_number(value)
  local number = tonumber(value or '') or 0
  return number == number and math.abs(number) < math.huge and number or 0
end

-- Whether a lease holds. It never holds for longer than its own length: the clock may have been set back.
local function is_ahead(lease_until, lease_s)
  local left_s = to_number(lease_until) - now()
  return left_s > 0 and left_s <= lease_s + CLOCK_TOLERANCE_S
end

-- A time as it is stored.
local function format_time(seconds) return string.format('%.3f', seconds) end

-- A key of another type than expected would fail a script halfway, again and again. Such a key gets another name, under
-- which it can be looked at for a month.
local function set_aside_wrong_type(key, expected)
  local found = redis.pcall('TYPE', key).ok
  if found and found ~= 'none' and found ~= expected then
    local aside = key .. ':set_aside'
    redis.call('RENAME', key, aside)
    redis.call('EXPIRE', aside, 30 * 24 * 60 * 60)
    redis.log(redis.LOG_WARNING, 'set aside: ' .. key .. ' is of the type ' .. found)
  end
end

-- The same for all keys that the script was given: `types` names the type of each.
local function set_aside_wrong_types(types)
  for index, key in ipairs(KEYS) do set_aside_wrong_type(key, types[index]) end
end

-- Write a table of fields into a hash.
local function set_fields(key, fields)
  local flat = {}
  for name, value in pairs(fields) do
    table.insert(flat, name)
    table.insert(flat, value)
  end
  if #flat > 0 then redis.call('HSET', key, unpack(flat)) end
end
