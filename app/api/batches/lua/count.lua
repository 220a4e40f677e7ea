-- Count the items of a batch by state. `core/jobs/lua/shared/batch.lua` precedes.
--
-- KEYS: the batch's record, its items, its unfinished jobs, the states of its jobs.
-- Arguments: record_prefix, what stands before a job's id in the name of its record; ttl_s.
-- Returns as JSON: counts of each state, of `rejected`, `expired` and in `total`; and `last_open`, the id of the last job
-- that waits, or else of the last that runs, if there is one.
local batch, batch_items, batch_unfinished, batch_states = unpack(KEYS)
set_aside_wrong_types({'hash', 'list', 'set', 'zset'})

-- How many jobs have a lower score. Not by ZCOUNT: Redis users of an older release may not use it.
local function n_below(score)
  local next_id = redis.call('ZRANGE', batch_states, format_score(score), '+inf', 'BYSCORE', 'LIMIT', 0, 1)[1]
  if next_id then return redis.call('ZRANK', batch_states, next_id) end
  return redis.call('ZCARD', batch_states)
end

local function last_in(state)
  local first = FIRST_SCORES[state]
  return redis.call('ZRANGE', batch_states, '(' .. format_score(first + STATE_SPAN), format_score(first), 'BYSCORE', 'REV',
    'LIMIT', 0, 1)[1]
end

local function kept(name) return to_number(redis.call('HGET', batch, name)) end

local function count()
  local counts = {total = redis.call('LLEN', batch_items), rejected = kept('rejected'), expired = kept('deleted')}
  for _, state in ipairs(STATES) do
    local first = FIRST_SCORES[state]
    local n_expired_or_before = n_below(is_open(state) and first or first + now())
    counts[state] = n_below(first + STATE_SPAN) - n_expired_or_before
    counts.expired = counts.expired + n_expired_or_before - n_below(first)
  end
  return counts
end

-- Whether the states are of all items. They are not when an older version added or finished a job.
local function is_complete(counts)
  local sum = counts.rejected + counts.expired
  for _, state in ipairs(STATES) do sum = sum + counts[state] end
  return sum == counts.total and redis.call('SCARD', batch_unfinished) == counts.queued + counts.running
end

local function state_of(id)
  local stored = redis.pcall('HMGET', args.record_prefix .. id, 'status', 'finished_at')
  local state = string.match(stored[1] or '', '^"(%l+)"$')
  if FIRST_SCORES[state] then return state, (tonumber(stored[2] or nil) or 0) + args.ttl_s end
end

-- Note the states anew, from the record of each job.
local function note_states()
  local has_end, rejected, deleted = redis.call('SCARD', batch_unfinished) == 0, 0, 0
  redis.call('DEL', batch_states, batch_unfinished)
  for index, item in ipairs(redis.call('LRANGE', batch_items, 0, -1)) do
    local id = string.match(item, '^"(.+)"$')
    local state, expires_at = state_of(id or '')
    if state then
      note_state(batch_states, id, state, is_open(state) and index - 1 or expires_at)
      if is_open(state) then
        redis.call('SADD', batch_unfinished, id)
        has_end = false
      end
    elseif id then
      deleted = deleted + 1
    else
      rejected = rejected + 1
    end
  end
  redis.call('HSET', batch, 'rejected', rejected, 'deleted', deleted)
  if has_end then
    redis.call('EXPIRE', batch_states, args.ttl_s)  -- the batch itself is not kept longer because it is read
  else
    keep_batch(batch, batch_items, batch_unfinished, batch_states, args.ttl_s)
  end
end

local counts = count()
if not is_complete(counts) and redis.call('EXISTS', batch) == 1 then
  note_states()
  counts = count()
end
return cjson.encode({counts = counts, last_open = last_in('queued') or last_in('running') or nil})
