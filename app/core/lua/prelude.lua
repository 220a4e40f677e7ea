-- Precedes every script.
-- ARGV: one JSON object, the script's named arguments. A file lists its own; one that is marked `?` may be absent.
local args = cjson.decode(ARGV[1])

-- Seconds since the epoch by Redis's clock, so that the clocks of several machines need not agree.
local function now()
  local clock = redis.call('TIME')
  return clock[1] + clock[2] / 1000000
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
