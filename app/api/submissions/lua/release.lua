-- Let the next request lock the key, unless a response is stored. The job's id stays.
if owns_lock() and redis.call('HEXISTS', entry, 'status') == 0 then
  redis.call('HDEL', entry, 'token', 'lease_until')
end
return 1
