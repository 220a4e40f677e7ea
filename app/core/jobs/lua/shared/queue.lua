-- The order of the queue, and how much of whose audio waits in it. Precedes each script, after common.lua.
--
-- Start-time fair queueing: a job's tag is the seconds of audio that its tenant has had queued before it. Tags of a
-- tenant follow one another by the lengths of its jobs, and begin where the queue is: at the tag of its first job. So
-- tenants take turns by seconds of audio, and a tenant alone is served in the order in which its jobs came. RQ's list is
-- kept in the order of the tags.
--
-- Lengths are estimates. What a job proves longer than estimated is its tenant's debt, by which its next job comes later.
--
-- What waits is counted beside `waiting`, which is the truth. An older version does not count: `check_counts`, which every
-- reconciler runs, repairs that.

local ALL_TENANTS = ''
-- Jobs whose tags differ by less than a second of audio came at the same time: the later one is put behind the others, a
-- step further. So a million tenants can begin together and no two jobs have the same tag.
local SAME_TIME_S, STEP_S = 1, 0.000001
-- Jobs that are looked for in RQ's list, one after the other, before the new one is put at its end.
local MAX_NEIGHBOURS = 8

local function format_tag(tag) return string.format('%.6f', tag) end

local function read_count(tenant)
  local readable, count = pcall(cjson.decode, redis.call('HGET', tenant_queues, tenant))
  if readable and type(count) == 'table' and tonumber(count.jobs) and tonumber(count.audio_ms) then return count end
  return {jobs = 0, audio_ms = 0}
end

local function add(count, jobs, audio_s, next_tag)
  count.jobs = count.jobs + jobs
  count.audio_ms = math.max(count.audio_ms + math.floor(audio_s * 1000 + 0.5), 0)
  if next_tag then count.next_tag, count.debt_s = format_tag(next_tag), nil end
  if count.jobs <= 0 then count.jobs, count.next_tag = 0, nil end
  return count
end

local function write_count(tenant, count)
  if count.jobs > 0 or count.debt_s then
    redis.call('HSET', tenant_queues, tenant, cjson.encode(count))
  else
    redis.call('HDEL', tenant_queues, tenant)
  end
end

local function change_counts(jobs, audio_s, next_tag)
  write_count(args.tenant, add(read_count(args.tenant), jobs, audio_s, next_tag))
  write_count(ALL_TENANTS, add(read_count(ALL_TENANTS), jobs, audio_s))
end

-- Count anew what waits, from the record of each job, if the counts are of another number of jobs.
local function check_counts()
  if read_count(ALL_TENANTS).jobs == redis.call('ZCARD', waiting) then return end
  local counts, entries = {}, redis.call('ZRANGE', waiting, 0, -1, 'WITHSCORES')
  local function add_to(tenant, ...) counts[tenant] = add(counts[tenant] or {jobs = 0, audio_ms = 0}, 1, ...) end
  for index = 1, #entries, 2 do
    local stored = redis.pcall('HMGET', args.record_prefix .. entries[index], 'tenant', 'estimated_s')
    local tenant, audio_s = string.match(stored[1] or '', '^"(.+)"$'), tonumber(stored[2] or nil) or 0
    if tenant then add_to(tenant, audio_s, entries[index + 1] + audio_s) end
    add_to(ALL_TENANTS, audio_s)
  end
  redis.call('DEL', tenant_queues)
  for tenant, count in pairs(counts) do write_count(tenant, count) end
end

-- Why a tenant may have no more audio waiting, nil where it may. `share` is how much of all it may take while alone.
local function backlog_refusal(tenant, max_audio_s, share)
  local free_ms = max_audio_s * 1000 - read_count(ALL_TENANTS).audio_ms
  if free_ms <= 0 then return 'queue_full' end
  if read_count(tenant).audio_ms * (1 - share) >= free_ms * share then return 'queue_share_exceeded' end
end

local function first_tag() return tonumber(redis.call('ZRANGE', waiting, 0, 0, 'WITHSCORES')[2] or nil) end

-- The tag of the tenant's next job.
local function next_tag()
  local from, count = first_tag() or 0, read_count(args.tenant)
  local tag = math.max(tonumber(count.next_tag) or from, from) + (tonumber(count.debt_s) or 0)
  local same_time = redis.call('ZRANGE', waiting, '(' .. format_tag(tag + SAME_TIME_S), format_tag(tag), 'BYSCORE', 'REV',
    'LIMIT', 0, 1, 'WITHSCORES')
  return same_time[2] and same_time[2] + STEP_S or tag
end

-- The tag of a job that has run before: it is before all others, by its own length.
local function front_tag(audio_s) return (first_tag() or 0) - audio_s end

local function tag_at(index)
  local id = redis.call('LRANGE', rq_queue, index, index)[1]
  return id and tonumber(redis.call('ZSCORE', waiting, id) or nil)
end

-- Put the id into RQ's list, before the jobs with a greater tag; without a tag, before all.
local function push(tag)
  local first, last = tag_at(0), tag_at(-1)
  if not tag or (first and first > tag) then return redis.call('LPUSH', rq_queue, args.id) end
  if last and last > tag then
    -- A worker may have taken a neighbour from the list and not begun it yet.
    for _, neighbour in ipairs(redis.call('ZRANGE', waiting, '(' .. format_tag(tag), '+inf', 'BYSCORE', 'LIMIT', 0,
      MAX_NEIGHBOURS)) do
      local length = redis.pcall('LINSERT', rq_queue, 'BEFORE', neighbour, args.id)  -- no older ACL allows it
      if type(length) == 'number' and length > 0 then return end
    end
  end
  redis.call('RPUSH', rq_queue, args.id)
end

-- Give the id to RQ, with what RQ keeps of a queued job, unless RQ has it. Returns whether it had not.
local function enqueue(tag)
  redis.call('SADD', rq_queues, rq_queue)
  if redis.call('EXISTS', rq_job) == 1 then return false end
  push(tag)
  set_fields(rq_job, args.rq_fields)
  return true
end

-- Have the job wait at this tag. `next_tag` is that of the job which its tenant sends next, where that changes.
local function wait(tag, audio_s, next_tag)
  if redis.call('ZADD', waiting, format_tag(tag), args.id) == 1 then change_counts(1, audio_s, next_tag) end
end

-- Have the job wait behind those of its tenant.
local function wait_in_turn(tag, audio_s) wait(tag, audio_s, tag + audio_s) end

-- Note by how much a finished job was longer than estimated, if its tenant has others to share the workers with.
local function charge(underestimate_s)
  if redis.call('EXISTS', waiting) == 0 then return end
  local count = read_count(args.tenant)
  local debt_s = (tonumber(count.debt_s) or 0) + underestimate_s
  count.debt_s = debt_s > 0 and debt_s or nil  -- a credit would have the next job overtake the tenant's own
  write_count(args.tenant, count)
end

function leave_queue()
  if redis.call('ZREM', waiting, args.id) == 0 then return end
  if redis.call('EXISTS', waiting) == 1 then
    change_counts(-1, -(tonumber(field('estimated_s', '0')) or 0))
  else
    redis.call('DEL', tenant_queues)
  end
end
