-- Note a sign of life of a worker by Redis's clock, and all that a Redis without its keys has forgotten of it.
--
-- KEYS: RQ's hash of the worker; RQ's sets of all workers and of those of the queue; the model; what its sandbox lacks.
-- Arguments:
--   fields           what RQ keeps of the worker
--   heartbeat_field  where its hash has the time
--   ttl_s            of the hash
--   model ?, missing_layers ?   what this worker publishes, as JSON text: only where nothing is published
set_aside_wrong_types({'hash', 'set', 'set', 'string', 'string'})
local worker, all_workers, workers, model, missing_layers = unpack(KEYS)
set_fields(worker, args.fields)
redis.call('HSET', worker, args.heartbeat_field, string.format('%.3f', now()))
redis.call('EXPIRE', worker, args.ttl_s)
redis.call('SADD', all_workers, worker)
redis.call('SADD', workers, worker)
if args.model then redis.call('SET', model, args.model, 'NX') end
if args.missing_layers then redis.call('SET', missing_layers, args.missing_layers, 'NX') end
return 1
