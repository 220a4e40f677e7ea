-- Take the next job that is to be fetched. Tenants take turns, and the hosts of a tenant; none may hold more fetches than
-- are left to others, so that a slow host delays no other.
--
-- Arguments:
--   max_fetches       fetches at a time, of all fetchers
--   only_tenant       that of a service without API keys, which shares with nobody
--   lease_s           how long the job is the fetcher's
--   record_prefix     what stands before a job's id in the name of its record
--   max_backlog_s, tenant_share   as in create.lua: while no room is left in the queue for a tenant's tracks, none is fetched
-- Returns its id and tenant, or nothing.

-- Longer than any pause. What is further off was written before the clock was set back.
local MAX_PAUSE_S = 60 * 60
-- Jobs whose host is looked up in one step.
local MAX_SORTED = 500

local function host_of(id)
  local known = redis.call('HGET', fetch_hosts, id)
  if known then return known end
  local readable, source = pcall(cjson.decode, redis.pcall('HGET', args.record_prefix .. id, 'source') or 'null')
  local url = readable and type(source) == 'table' and source.url
  return string.lower(type(url) == 'string' and string.match(url, '^%a+://([^/?#]+)') or '')
end

-- How many fetches there are, of all, of each tenant, and of each host of a tenant.
local function count_running()
  local n, by_tenant, by_host, entries = 0, {}, {}, redis.call('HGETALL', fetch_running)
  for index = 1, #entries, 2 do
    local id, tenant = entries[index], entries[index + 1]
    if is_ahead(redis.call('ZSCORE', fetch_jobs, id), args.lease_s) then
      local at = due_at(tenant, redis.call('HGET', fetch_hosts, id) or '')
      n, by_tenant[tenant], by_host[at] = n + 1, (by_tenant[tenant] or 0) + 1, (by_host[at] or 0) + 1
    else
      redis.call('HDEL', fetch_running, id)
    end
  end
  return n, by_tenant, by_host
end

-- Have jobs that are due wait at their hosts.
local function sort_due(tenant)
  local key, at = fetches_of(tenant), now()
  for _, range in ipairs({{'-inf', format_tag(at)}, {format_tag(at + MAX_PAUSE_S), '+inf'}}) do
    local found = redis.call('ZRANGE', key, range[1], range[2], 'BYSCORE', 'LIMIT', 0, MAX_SORTED, 'WITHSCORES')
    for index = 1, #found, 2 do
      local id, host = found[index], host_of(found[index])
      redis.call('ZREM', key, id)
      redis.call('HSET', fetch_hosts, id, host)
      redis.call('ZADD', due_at(tenant, host), found[index + 1], id)
      redis.call('ZADD', hosts_of(tenant), 'NX', found[index + 1], host)
    end
  end
end

-- How many more jobs of a tenant may be fetched now.
local function room_of(tenant, n_own, n_free)
  local is_alone = tenant == args.only_tenant
  if backlog_refusal(tenant, args.max_backlog_s, is_alone and 1 or args.tenant_share) then return 0 end
  return is_alone and n_free or math.ceil((n_free - n_own) / 2)
end

-- Whether a host may have one more: where others wait no more than are left to these, alone all but the last.
local function may_take(n_own, n_left, is_alone)
  return n_own == 0 or n_own < n_left or (is_alone and n_left > 1)
end

-- The host whose turn it is. One that may have no more has a fetch, so no more hosts than there are fetches are passed.
local function next_host(tenant, n_left, n_running, by_host)
  local hosts = redis.call('ZRANGE', hosts_of(tenant), 0, n_running)
  for _, host in ipairs(hosts) do
    if may_take(by_host[due_at(tenant, host)] or 0, n_left, #hosts == 1) then return host end
  end
end

local function take(tenant, host)
  args.id, args.tenant = redis.call('ZRANGE', due_at(tenant, host), 0, 0)[1], tenant
  leave_due(tenant, args.id)
  fetch_at(now() + args.lease_s)
  redis.call('ZADD', hosts_of(tenant), 'XX', format_tag(now()), host)
  redis.call('ZADD', fetch_tenants, format_tag(now()), tenant)
  redis.call('HSET', fetch_running, args.id, tenant)
  return {args.id, tenant}
end

local n_running, by_tenant, by_host = count_running()
local n_free = args.max_fetches - n_running
if n_free <= 0 then return false end
for _, tenant in ipairs(redis.call('ZRANGE', fetch_tenants, 0, -1)) do
  local n_left = room_of(tenant, by_tenant[tenant] or 0, n_free)
  if n_left > 0 then
    sort_due(tenant)
    local host = next_host(tenant, n_left, n_running, by_host)
    if host then return take(tenant, host) end
  end
end
return false
