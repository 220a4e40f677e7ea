"""The Lua that runs inside Redis: each change of a job record, with its checks, in one atomic step.

KEYS are always those of `job_keys`. Values in a record are JSON; a name is compared with its quotes. Time is Redis's
own, so that clocks of several machines need not agree.
"""

# What the scripts share. `finish` moves a job into a terminal state; `tell` adds an event and wakes who waits.
_COMMON = """
local record, open, waiting, held, events, gone, listed, deadlines, running = unpack(KEYS)
local function now()
  local clock = redis.call('TIME')
  return clock[1] + clock[2] / 1000000
end
-- A field of the record, as JSON; a record that an older version wrote may lack it.
local function field(name, default) return redis.call('HGET', record, name) or default end
-- Whether the record has all of ARGV's fields already, from the given place on.
local function holds(first)
  for i = first, #ARGV, 2 do
    if field(ARGV[i]) ~= ARGV[i + 1] then return false end
  end
  return true
end
local function stamp(seconds) return string.format('%.3f', seconds) end
local function tell(id, name, data)
  redis.call('XADD', events, 'MAXLEN', '~', 256, '*', 'event', name, 'data', data)
  redis.call('PUBLISH', 'apex:moved:' .. id, name)
end
local function leave_open(id)
  redis.call('ZREM', open, id)
  redis.call('ZREM', waiting, id)
  redis.call('ZREM', held, id)
  redis.call('ZREM', deadlines, id)
  redis.call('HDEL', running, id)
end
local function expire(ttl_s, tenant)
  redis.call('EXPIRE', record, ttl_s)
  redis.call('EXPIRE', events, ttl_s)
  local tombstone = cjson.encode({tenant = tenant, expired_at = tonumber(stamp(now() + ttl_s))})
  redis.call('SET', gone, tombstone, 'EX', ttl_s + TOMBSTONE_S)
end
-- A batch lives as long as its jobs: without an end while one of them is open, then as long as the last to end.
local function keep_batch(batch, ttl_s)
  local is_open = redis.call('SCARD', batch .. ':open') > 0
  for _, key in ipairs({batch, batch .. ':items'}) do
    if is_open then redis.call('PERSIST', key) else redis.call('EXPIRE', key, ttl_s) end
  end
end
local function join_batch(batch, id, is_open, ttl_s)
  redis.call('RPUSH', batch .. ':items', '"' .. id .. '"')
  if is_open then redis.call('SADD', batch .. ':open', id) end
  keep_batch(batch, ttl_s)
end
local function leave_batch(id, ttl_s)
  local batch_id = cjson.decode(field('batch_id', 'null'))
  if type(batch_id) ~= 'string' then return end
  local batch = 'apex:batch:' .. cjson.decode(field('tenant', '"open"')) .. ':' .. batch_id
  if redis.call('SREM', batch .. ':open', id) == 1 then keep_batch(batch, ttl_s) end
end
local function finish(id, state, ttl_s)
  local tenant = cjson.decode(field('tenant', '"open"'))
  redis.call('HSET', record, 'status', '"' .. state .. '"', 'finished_at', stamp(now()))
  leave_open(id)
  leave_batch(id, ttl_s)
  tell(id, 'job.' .. state, '{}')
  expire(ttl_s, tenant)
end
local function is_open(status) return status == '"queued"' or status == '"running"' end
"""

TOMBSTONE_S = 30 * 24 * 60 * 60
#: A look at a batch counts all of its jobs, so there is an end to how many it may have.
MAX_BATCH_ITEMS = 10_000


def _script(body: str) -> str:
    return _COMMON.replace("TOMBSTONE_S", str(TOMBSTONE_S)) + body.replace("MAX_BATCH_ITEMS", str(MAX_BATCH_ITEMS))


# ARGV: id, created_at, estimated_s, max_held, max_backlog_s, ttl_s, batch key, field, value, ... '' is no limit and no
# batch.
# Returns 'ok', 'exists', 'held' (the tenant has too many open jobs), 'backlog' (the queue is too long), 'no_batch' or
# 'batch_full'.
CREATE = _script("""
local id, created_at, estimated_s, max_held, max_backlog_s, ttl_s, batch = unpack(ARGV, 1, 7)
if redis.call('EXISTS', record) == 1 then return 'exists' end
if batch ~= '' then
  if redis.call('EXISTS', batch) == 0 then return 'no_batch' end
  if redis.call('LLEN', batch .. ':items') >= MAX_BATCH_ITEMS then return 'batch_full' end
end
if max_held ~= '' and redis.call('ZCARD', held) >= tonumber(max_held) then return 'held' end
local ticket = tonumber(redis.call('GET', 'apex:queue:ticket') or '0')
local first = redis.call('ZRANGE', waiting, 0, 0, 'WITHSCORES')
if max_backlog_s ~= '' and first[2] and ticket - first[2] >= tonumber(max_backlog_s) then return 'backlog' end
redis.call('HSET', record, unpack(ARGV, 8))
redis.call('ZADD', listed, created_at, id)
-- A record expires without telling; so each new one sweeps the oldest end of its tenant's list.
for _, oldest in ipairs(redis.call('ZRANGE', listed, 0, 3)) do
  if redis.call('EXISTS', 'apex:job:' .. oldest) == 0 then redis.call('ZREM', listed, oldest) end
end
local status = redis.call('HGET', record, 'status')
if batch ~= '' then join_batch(batch, id, is_open(status), ttl_s) end
if not is_open(status) then
  tell(id, 'job.' .. cjson.decode(status), '{}')
  expire(ttl_s, cjson.decode(redis.call('HGET', record, 'tenant')))
  return 'ok'
end
redis.call('ZADD', open, created_at, id)
redis.call('ZADD', held, created_at, id)
redis.call('ZADD', waiting, stamp(ticket), id)
redis.call('INCRBYFLOAT', 'apex:queue:ticket', estimated_s)
local deadline = redis.call('HGET', record, 'deadline')
if deadline ~= 'null' then redis.call('ZADD', deadlines, deadline, id) end
return {'ok', redis.call('ZCARD', waiting), stamp(first[2] and math.max(ticket - first[2], 0) or 0)}
""")

# ARGV: batch key, problem, ttl_s. Adds an item that came to no job; this script alone takes no KEYS.
REJECT = _script("""
redis.call('RPUSH', ARGV[1] .. ':items', ARGV[2])
keep_batch(ARGV[1], ARGV[3])
return 1
""")

# ARGV: id, max_attempts, lease_s, ttl_s, worker.
# Returns the new attempt number; 0 when the job is over, unknown, overdue or in another worker's hands; -1 when its
# attempts are used up. An overdue job is canceled without a run.
START = _script("""
local id, max_attempts, lease_s, ttl_s, worker = unpack(ARGV)
local found = redis.call('HMGET', record, 'status', 'attempt')
if not is_open(found[1]) then return 0 end
if found[1] == '"running"' and tonumber(field('lease_until', '0')) > now() then
  -- Its own worker asks again when the first answer was lost on the way.
  return worker ~= '""' and field('worker') == worker and tonumber(found[2]) or 0
end
local deadline = field('deadline', 'null')
if deadline ~= 'null' and tonumber(deadline) <= now() then
  redis.call('HSET', record, 'status_reason', '"deadline_exceeded"')
  finish(id, 'canceled', ttl_s)
  return 0
end
if found[2] - field('handed_back', '0') >= tonumber(max_attempts) then return -1 end
redis.call('ZREM', waiting, id)
redis.call('HSET', record, 'status', '"running"', 'started_at', stamp(now()), 'lease_until', stamp(now() + lease_s),
  'worker', worker)
local audio_s = field('estimated_s', '0')
redis.call('HSET', running, id, '{"started_at": ' .. stamp(now()) .. ', "audio_s": ' .. audio_s .. '}')
return redis.call('HINCRBY', record, 'attempt', 1)
""")

# ARGV: attempt, lease_s. Returns 0 when the run has lost its job.
RENEW = _script("""
local found = redis.call('HMGET', record, 'status', 'attempt')
if found[1] ~= '"running"' or found[2] ~= ARGV[1] then return 0 end
redis.call('HSET', record, 'lease_until', stamp(now() + ARGV[2]))
return 1
""")

# ARGV: id, attempt, field, value, ... Returns 'ok', 'lost' (the run has lost its job), 'by_client' (a client asked for
# the end) or 'deadline_exceeded'; the fields are written unless the job is lost.
REPORT = _script("""
local found = redis.call('HMGET', record, 'status', 'attempt', 'cancel_requested_at', 'deadline')
if found[1] ~= '"running"' or found[2] ~= ARGV[2] then return 'lost' end
redis.call('HSET', record, unpack(ARGV, 3))
tell(ARGV[1], 'job.progress', redis.call('HGET', record, 'progress'))
if (found[3] or 'null') ~= 'null' then return 'by_client' end
if (found[4] or 'null') ~= 'null' and tonumber(found[4]) <= now() then return 'deadline_exceeded' end
return 'ok'
""")

# ARGV: id, attempt, state, ttl_s, scored key or '', allow queued ('1' or '0'), field, value, ...
# Ends a run, or a queued job where that is allowed. Returns 0 when the job has moved on; 1 also to a repetition
# whose first answer was lost on the way.
END = _script("""
local id, attempt, state, ttl_s, scored, allow_queued = unpack(ARGV, 1, 6)
local found = redis.call('HMGET', record, 'status', 'attempt')
if found[2] ~= attempt then return 0 end
if found[1] == '"' .. state .. '"' then return holds(7) and 1 or 0 end
if found[1] ~= '"running"' and not (found[1] == '"queued"' and allow_queued == '1') then return 0 end
if ARGV[7] then redis.call('HSET', record, unpack(ARGV, 7)) end
if scored ~= '' then redis.call('SET', scored, id, 'EX', ttl_s) end
finish(id, state, ttl_s)
return 1
""")

# ARGV: id, attempt, counted ('1' or '0'). Gives a run's job back. Returns 0 when the run has lost it.
# A run that does not count keeps its number: the number fences off whoever still holds it.
RELEASE = _script("""
local found = redis.call('HMGET', record, 'status', 'attempt')
if found[1] ~= '"running"' or found[2] ~= ARGV[2] then return 0 end
redis.call('HSET', record, 'status', '"queued"', 'lease_until', '0')
if ARGV[3] == '0' then redis.call('HINCRBY', record, 'handed_back', 1) end
-- Back to the front: its ticket is that of the first, or of the next when nobody waits, less its own length.
local first = redis.call('ZRANGE', waiting, 0, 0, 'WITHSCORES')
local ticket = first[2] or redis.call('GET', 'apex:queue:ticket') or '0'
redis.call('ZADD', waiting, stamp(ticket - field('estimated_s', '0')), ARGV[1])
redis.call('HDEL', running, ARGV[1])
return 1
""")

# ARGV: id, ttl_s. Returns the state before: a queued job is canceled, a running one is asked to stop, another left.
CANCEL = _script("""
local status = redis.call('HGET', record, 'status')
if status == '"queued"' then
  redis.call('HSET', record, 'status_reason', '"by_client"')
  finish(ARGV[1], 'canceled', ARGV[2])
elseif status == '"running"' and field('cancel_requested_at', 'null') == 'null' then
  redis.call('HSET', record, 'cancel_requested_at', stamp(now()))
end
return status
""")

# ARGV: id, tenant, ttl_s. Removes everything but a tombstone that says when.
PURGE = _script(
    """
tell(ARGV[1], 'job.purged', '{}')
leave_open(ARGV[1])
leave_batch(ARGV[1], ARGV[3])
redis.call('ZREM', listed, ARGV[1])
local idempotency = cjson.decode(redis.call('HGET', record, 'idempotency') or 'null')
if type(idempotency) == 'string' then redis.call('DEL', idempotency) end
redis.call('DEL', record, events)
local tombstone = cjson.encode({tenant = ARGV[2], expired_at = tonumber(stamp(now()))})
redis.call('SET', gone, tombstone, 'EX', TOMBSTONE_S)
return 1
""".replace("TOMBSTONE_S", str(TOMBSTONE_S))
)
