-- End a queued job at once: queued -> canceled. Ask a running one to stop. Leave a finished one as it is.
local status = field('status')
if status == '"queued"' then
  redis.call('HSET', record, 'status_reason', '"by_client"')
  finish('canceled')
  remove_from_queue()
elseif status == '"running"' and not number('cancel_requested_at') then
  redis.call('HSET', record, 'cancel_requested_at', format_time(now()))
end
return 1
