-- What the scripts of the job state machine share. Precedes each of them, after outbox.lua and batch.lua,
-- without which a step can end nothing.
--
-- KEYS, the same for every script, as `JobStateMachine` lists them:
--   record              hash: the job's record, every value JSON
--   events              stream: what happened to the job
--   tombstone           string: who owned the job and when it went away, as JSON; outlives the record
--   by_created          sorted set: ids of all jobs of the tenant, by created_at
--   in_flight           sorted set: ids of the tenant's unfinished jobs
--   unfinished          sorted set: ids of all unfinished jobs, by created_at
--   waiting             sorted set: ids of queued jobs, by their tags (queue.lua)
--   deadlines           sorted set: ids of unfinished jobs that have a deadline, by it
--   running             hash: id -> start and length of a run in progress, as JSON
--   tenant_queues       hash: tenant -> jobs and audio_ms that wait, next_tag and debt_s, as JSON; under '' the sums
--   batch, batch_items, batch_unfinished, batch_states
--                       the batch's record, list and sets; names of nothing for a job without a batch
--   rq_queues, rq_queue, rq_job
--                       RQ's set of queues, list of ids, and hash of this job
--   cached_result ?     string: id of the job whose scores answer the same bytes and model
--
-- Arguments of every script: id, tenant, ttl_s (of a finished job), updates_channel; model_queue_prefix, what stands
-- before a model's version in the name of the list of ids that wait for workers of that model; webhooks (outbox.lua);
-- usage_prefix, what stands before a day in the names of what was used on it; activity_prefix ?, the same before a quarter
-- of an hour, absent for a test job; fetch_prefix (fetch.lua); batch_channel ?.
local record, events, tombstone, by_created, in_flight, unfinished, waiting, deadlines, running, tenant_queues,
  batch, batch_items, batch_unfinished, batch_states, rq_queues, rq_queue, rq_job, cached_result = unpack(KEYS)

set_aside_wrong_types({'hash', 'stream', 'string', 'zset', 'zset', 'zset', 'zset', 'zset', 'hash', 'hash',
  'hash', 'list', 'set', 'zset', 'set', 'list', 'hash', 'string'})

local TOMBSTONE_TTL_S = 30 * 24 * 60 * 60
local MAX_EVENTS = 256
local RQ_JOB_TTL_S = 60 * 60

-- A field of the record as JSON text; a record that an older version wrote may lack it.
local function field(name, default) return redis.call('HGET', record, name) or default end

-- A field that holds a number or null: the number, or nil.
local function number(name) return tonumber(field(name, 'null')) end

-- Whether the record has all of these fields already.
local function holds(fields)
  for name, value in pairs(fields) do
    if field(name) ~= value then return false end
  end
  return true
end

local function is_unfinished(status) return status == '"queued"' or status == '"running"' end

-- Whether a worker has the job. A record that an older version wrote does not tell the length of its lease.
local LONGEST_LEASE_S = 60 * 60
local function is_leased()
  return is_ahead(field('lease_until'), number('lease_s') or LONGEST_LEASE_S)
end

-- What gives a run its lease: names and values.
local function lease(lease_s)
  return 'lease_until', format_time(now() + lease_s), 'lease_s', tostring(lease_s)
end

-- Whether the record is still that of the run which calls.
local function is_current_run() return field('status') == '"running"' and number('attempt') == args.attempt end

-- Add an event, and wake whoever waits for the job.
local function publish_event(name, data)
  redis.call('XADD', events, 'MAXLEN', '~', MAX_EVENTS, '*', 'event', name, 'data', data)
  redis.call('PUBLISH', args.updates_channel, name)
end

-- The version of the model that must run the job, nil where any may.
local function model_version()
  local readable, version = pcall(cjson.decode, field('model_version', 'null'))
  return readable and type(version) == 'string' and version or nil
end

-- Take the id out of the list of those that wait for workers of their model.
local function leave_model_queue()
  local version = model_version()
  if version then redis.pcall('LREM', args.model_queue_prefix .. version, 0, args.id) end
end

local leave_queue, leave_fetches  -- in queue.lua, in fetch.lua

local function remove_from_indexes()
  leave_queue()
  leave_fetches()
  for _, index in ipairs({unfinished, in_flight, deadlines}) do redis.call('ZREM', index, args.id) end
  redis.call('HDEL', running, args.id)
  -- RQ deletes what it keeps of a job at the end of a run. There may be none: a list that was lost has no ids.
  redis.call('EXPIRE', rq_job, RQ_JOB_TTL_S)
end

-- Take the id out of RQ's list, with what RQ keeps of it, unless a worker has taken it already.
local function remove_from_queue()
  if redis.call('LREM', rq_queue, 1, args.id) > 0 then redis.call('DEL', rq_job) end
end

local function write_tombstone(expired_at, ttl_s)
  local content = cjson.encode({tenant = args.tenant, expired_at = tonumber(format_time(expired_at))})
  redis.call('SET', tombstone, content, 'EX', ttl_s)
end

-- Have all that a finished job owns expire together.
local function expire()
  redis.call('EXPIRE', record, args.ttl_s)
  redis.call('EXPIRE', events, args.ttl_s)
  write_tombstone(now() + args.ttl_s, args.ttl_s + TOMBSTONE_TTL_S)
end

-- Keep the embedding of the job's track for as long as the finished job.
local function keep_embedding()
  if args.embedding then redis.call('SET', args.embedding_key, args.embedding, 'EX', args.ttl_s) end
end

-- Wake whoever follows the batch of the job.
local function wake_batch()
  if args.batch_channel then redis.call('PUBLISH', args.batch_channel, 'job.progress') end
end

-- Note the job's new state in its batch.
local function move_in_batch(state, expires_at)
  change_state(batch_states, args.id, state, expires_at)
  wake_batch()
end

local function leave_batch()
  if redis.call('SREM', batch_unfinished, args.id) == 1 then
    keep_batch(batch, batch_items, batch_unfinished, batch_states, args.ttl_s)
    complete_batch(batch, batch_unfinished, args.ttl_s)
  end
end

local DAY_S = 24 * 60 * 60
local USAGE_TTL_S = 400 * DAY_S
local INTERVAL_S = 15 * 60
local ACTIVITY_TTL_S = 3 * DAY_S

local function decoded(name, default)
  local readable, value = pcall(cjson.decode, field(name, 'null'))
  return readable and type(value) == type(default) and value or default
end

-- Whether the model has worked for the job: its scores were not known before.
local function is_scored_anew(state) return state == 'succeeded' and field('cached') ~= 'true' end

-- Count an ended job for its key, its tenant and this day in UTC. A count that is damaged keeps no job from its end.
--
-- The day's set has its tenants; the hash of a day and a tenant has a count for each key and measure.
local function count_usage(state)
  local day = args.usage_prefix .. string.format('%d', math.floor(now() / DAY_S))
  local usage, key_id, audio = day .. ':' .. args.tenant, decoded('key_id', ''), decoded('audio', {})
  local function add(measure, amount)
    return redis.pcall('HINCRBY', usage, key_id .. ':' .. measure, string.format('%.0f', amount))
  end
  if add('jobs', 1) == 1 then  -- the first of this key on this day
    redis.pcall('SADD', day, args.tenant)
    for _, key in ipairs({usage, day}) do redis.pcall('EXPIRE', key, USAGE_TTL_S) end
  end
  add(state, 1)
  add('bytes', to_number(audio.bytes))
  if is_scored_anew(state) then add('audio_ms', to_number(audio.duration_s) * 1000) end
end

-- Count an ended job of any tenant for this quarter of an hour: how it ended, and how long it had waited for its last run.
local function count_activity(state)
  if not args.activity_prefix then return end
  local activity = args.activity_prefix .. string.format('%d', math.floor(now() / INTERVAL_S))
  local function add(measure, amount)
    return redis.pcall('HINCRBY', activity, measure, string.format('%.0f', amount))
  end
  if add('jobs', 1) == 1 then redis.pcall('EXPIRE', activity, ACTIVITY_TTL_S) end
  add(state, 1)
  local code, started_at = decoded('error', {}).code, number('started_at')
  if state == 'failed' and type(code) == 'string' then add('failed:' .. string.sub(code, 1, 64), 1) end
  if is_scored_anew(state) then add('audio_ms', to_number(decoded('audio', {}).duration_s) * 1000) end
  if not started_at then return end
  local wait_ms = math.max(started_at - to_number(field('created_at')), 0) * 1000
  add('waits', 1)
  add('wait_ms', wait_ms)
  if wait_ms > to_number(redis.pcall('HGET', activity, 'longest_wait_ms')) then
    redis.pcall('HSET', activity, 'longest_wait_ms', string.format('%.0f', wait_ms))
  end
end

local function count_end(state)
  count_usage(state)
  count_activity(state)
end

-- What must be counted and said once of the end of a job, decided in the step that ends it.
local function announce_end(state)
  count_end(state)
  publish_event('job.' .. state, '{}')
  post_event(record, 'job.' .. state, args.ttl_s)
end

-- Move the job into a state that never changes.
local function finish(state)
  redis.call('HSET', record, 'status', '"' .. state .. '"', 'finished_at', format_time(now()))
  remove_from_indexes()
  leave_model_queue()
  move_in_batch(state, now() + args.ttl_s)
  announce_end(state)
  leave_batch()
  expire()
end
