-- Take the next job that is to be fetched. Tenants take turns, and none may hold more fetches than are left to others.
--
-- Arguments:
--   max_fetches       fetches at a time, of all fetchers
--   only_tenant       that of a service without API keys, which shares with nobody
--   lease_s           how long the job is the fetcher's
--   max_backlog_s, tenant_share   as in create.lua: while no room is left in the queue for a tenant's tracks, none is fetched
-- Returns its id and tenant, or nothing.

-- Longer than any pause. What is further off was written before the clock was set back.
local MAX_PAUSE_S = 60 * 60

local function running_by_tenant()
  local n, counts, entries = 0, {}, redis.call('HGETALL', fetch_running)
  for index = 1, #entries, 2 do
    local id, tenant = entries[index], entries[index + 1]
    if is_ahead(redis.call('ZSCORE', fetch_jobs, id), args.lease_s) then
      n, counts[tenant] = n + 1, (counts[tenant] or 0) + 1
    else
      redis.call('HDEL', fetch_running, id)
    end
  end
  return n, counts
end

local function due(tenant)
  local key, at = fetches_of(tenant), format_tag(now())
  return redis.call('ZRANGE', key, '-inf', at, 'BYSCORE', 'LIMIT', 0, 1)[1]
    or redis.call('ZRANGE', key, format_tag(now() + MAX_PAUSE_S), '+inf', 'BYSCORE', 'LIMIT', 0, 1)[1]
end

local function may_take(tenant, n_own, n_free)
  if tenant == args.only_tenant then return not backlog_refusal(tenant, args.max_backlog_s, 1) end
  return n_own < n_free and not backlog_refusal(tenant, args.max_backlog_s, args.tenant_share)
end

local n_running, counts = running_by_tenant()
local n_free = args.max_fetches - n_running
if n_free <= 0 then return false end
for _, tenant in ipairs(redis.call('ZRANGE', fetch_tenants, 0, -1)) do
  local id = may_take(tenant, counts[tenant] or 0, n_free) and due(tenant)
  if id then
    args.id, args.tenant = id, tenant
    fetch_at(now() + args.lease_s)
    redis.call('ZADD', fetch_tenants, format_tag(now()), tenant)
    redis.call('HSET', fetch_running, id, tenant)
    return {id, tenant}
  end
end
return false
