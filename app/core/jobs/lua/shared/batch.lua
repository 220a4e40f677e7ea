-- How long a batch is kept, the states of its jobs, and when it is complete. The names of its keys are parameters: two
-- kinds of script use this. outbox.lua precedes.
--
-- batch_states   sorted set: each job of the batch that was not deleted, by its state and, within a state, by its index
--                in the batch until it is done, then by the time at which its record expires

-- Keep a batch as long as its jobs: without an end while one of them is unfinished, then as long as the last to end.
local function keep_batch(batch, batch_items, batch_unfinished, batch_states, ttl_s)
  local has_unfinished = redis.call('SCARD', batch_unfinished) > 0
  for _, key in ipairs({batch, batch_items, batch_states}) do
    if has_unfinished then redis.call('PERSIST', key) else redis.call('EXPIRE', key, ttl_s) end
  end
end

-- Scores of one state, larger than any index or time.
local STATE_SPAN = 100000000000
local STATES = {'queued', 'running', 'succeeded', 'failed', 'canceled'}
local FIRST_SCORES = {}
for index, state in ipairs(STATES) do FIRST_SCORES[state] = index * STATE_SPAN end

local function format_score(score) return string.format('%.3f', score) end

local function is_open(state) return state == 'queued' or state == 'running' end

-- Note the state of a job. `within` is its index, or when its record expires.
local function note_state(batch_states, id, state, within)
  redis.call('ZADD', batch_states, format_score(FIRST_SCORES[state] + within), id)
end

-- Note the new state of a job that the batch has.
local function change_state(batch_states, id, state, expires_at)
  local before = redis.call('ZSCORE', batch_states, id)
  if before then note_state(batch_states, id, state, is_open(state) and before % STATE_SPAN or expires_at) end
end

-- Say once that every item of a batch is final. That is awaited from when the request that made the batch was carried
-- out; before, the jobs that are there may be over while others are still to come.
local function complete_batch(batch, batch_unfinished, ttl_s)
  if redis.call('HGET', batch, 'completion') ~= 'awaited' or redis.call('SCARD', batch_unfinished) > 0 then return end
  redis.call('HSET', batch, 'completion', 'reached')
  post_event(batch, 'batch.completed', ttl_s)
end
