-- Keep a batch as long as its jobs: without an end while one of them is unfinished, then as long as the last to end.
local function keep_batch(batch, batch_items, batch_unfinished, ttl_s)
  local has_unfinished = redis.call('SCARD', batch_unfinished) > 0
  for _, key in ipairs({batch, batch_items}) do
    if has_unfinished then redis.call('PERSIST', key) else redis.call('EXPIRE', key, ttl_s) end
  end
end
