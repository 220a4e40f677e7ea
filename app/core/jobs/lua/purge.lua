-- Delete a job in any state, and every copy of what it holds. Only a tombstone stays.
--
-- Arguments: cached_result_pattern, the name of the key by which later requests find scores: `%s` stands for the SHA-256
-- of the bytes, and for the model's version; metadata_indexes, names of the sorted sets that may have the job;
-- embedding_key, what is kept of the embedding of the job's track.

local function member(name, key)
  local value = cjson.decode(field(name, 'null'))
  return type(value) == 'table' and type(value[key]) == 'string' and value[key]
end

local function forget_scores()
  local sha256, version = member('audio', 'sha256'), member('model', 'version')
  if not (sha256 and version) then return end
  local key = string.format(args.cached_result_pattern, sha256, version)
  if redis.call('GET', key) == args.id then redis.call('DEL', key) end
end

-- Delete the stored response of the request that made the job.
local function forget_response()
  local entry = cjson.decode(field('idempotency', 'null'))
  if type(entry) == 'string' then redis.call('DEL', entry) end
end

-- Delete the stored response of the request that made the job's batch; one that is still at work will not store any. The
-- batch's id stays in the entry: whoever repeats the request is told what is left of the batch.
local function forget_batch_response()
  local entry = cjson.decode(redis.call('HGET', batch, 'idempotency') or 'null')
  if type(entry) ~= 'string' or redis.call('EXISTS', entry) == 0 then return end
  if redis.call('HDEL', entry, 'status', 'headers', 'body') > 0 then
    redis.call('HDEL', entry, 'token', 'lease_until')
  else
    redis.call('HSET', entry, 'discard', '1')
  end
end

if is_unfinished(field('status')) then count_end('canceled') end
publish_event('job.purged', '{}')
remove_from_indexes()
remove_from_queue()
leave_model_queue()
if redis.call('ZREM', batch_states, args.id) == 1 then redis.call('HINCRBY', batch, 'deleted', 1) end
leave_batch()
wake_batch()
redis.call('ZREM', by_created, args.id)
for _, list in ipairs(args.metadata_indexes) do redis.pcall('ZREM', list, args.id) end
forget_scores()
forget_response()
forget_batch_response()
forget_event(event_id(args.id))
redis.call('DEL', record, events, args.embedding_key)
write_tombstone(now(), TOMBSTONE_TTL_S)
return 1
