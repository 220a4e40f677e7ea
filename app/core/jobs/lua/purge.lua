-- Delete a job in any state, and the stored response of its idempotency key. Only a tombstone stays.
publish_event('job.purged', '{}')
remove_from_indexes()
remove_from_queue()
leave_batch()
redis.call('ZREM', by_created, args.id)
local idempotency_key = cjson.decode(field('idempotency', 'null'))
if type(idempotency_key) == 'string' then redis.call('DEL', idempotency_key) end
redis.call('DEL', record, events)
write_tombstone(now(), TOMBSTONE_TTL_S)
return 1
