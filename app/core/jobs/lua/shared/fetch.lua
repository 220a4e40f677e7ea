-- Tracks that are to be fetched from a URL before they can wait in the queue. Precedes each script, after queue.lua.
--
-- A job whose record has a `source` is one of them; it is queued, and among the unfinished jobs like any other. Names
-- begin with the argument fetch_prefix:
--   jobs          sorted set: ids of these jobs, by the time from which on each may be taken: that of its creation, the end
--                 of the lease of a fetch, the end of a pause after one that failed
--   of:<tenant>   the same of one tenant, until next.lua has found them to be due
--   due:<tenant> <host>   the same of those that are due, by the host of the URL
--   hosts:<tenant>        sorted set: hosts with any that are due, by the time at which one of theirs was last taken
--   host_of       hash: id -> host, of those that are due or are being fetched
--   tenants       sorted set: tenants that have any, by the time at which one of theirs was last taken
--   running       hash: id -> tenant, of those that a fetcher has taken
local fetch_jobs, fetch_tenants, fetch_running, fetch_hosts = args.fetch_prefix .. 'jobs', args.fetch_prefix .. 'tenants',
  args.fetch_prefix .. 'running', args.fetch_prefix .. 'host_of'

local function fetches_of(tenant) return args.fetch_prefix .. 'of:' .. tenant end

local function hosts_of(tenant) return args.fetch_prefix .. 'hosts:' .. tenant end

local function due_at(tenant, host) return args.fetch_prefix .. 'due:' .. tenant .. ' ' .. host end

-- Take an id out of those that are due at its host.
local function leave_due(tenant, id)
  local host = redis.call('HGET', fetch_hosts, id)
  if not host then return end
  redis.call('ZREM', due_at(tenant, host), id)
  if redis.call('EXISTS', due_at(tenant, host)) == 0 then redis.call('ZREM', hosts_of(tenant), host) end
end

local function is_unfetched() return field('source', 'null') ~= 'null' end

-- Whether the caller still has the job: it is not fetched, and no other fetch of it has begun since.
local function is_current_fetch()
  return field('status') == '"queued"' and is_unfetched() and number('fetch') == args.fetch
end

-- Have the job fetched, not before a time.
local function fetch_at(time)
  redis.call('ZADD', fetch_jobs, format_tag(time), args.id)
  redis.call('ZADD', fetches_of(args.tenant), format_tag(time), args.id)
  redis.call('ZADD', fetch_tenants, 'NX', format_tag(now()), args.tenant)
end

local function forget_fetch()
  redis.call('ZREM', fetch_jobs, args.id)
  redis.call('HDEL', fetch_running, args.id)
  redis.call('ZREM', fetches_of(args.tenant), args.id)
  leave_due(args.tenant, args.id)
  redis.call('HDEL', fetch_hosts, args.id)
  if redis.call('EXISTS', fetches_of(args.tenant), hosts_of(args.tenant)) == 0 then
    redis.call('ZREM', fetch_tenants, args.tenant)
  end
end

-- The URL goes with the need for it.
function leave_fetches()
  if redis.call('HDEL', record, 'source') == 1 then forget_fetch() end
end
