-- What the scripts of idempotency keys share. Precedes each of them.
--
-- KEYS: the entry, a hash: `token` and `lease_until` of the request that works under the key, `job_id` of the job it
-- makes; once answered also status, headers, body, fingerprint, request_print. With `discard` no response is stored.
-- Arguments of every script: token, of the request that calls; ttl_s, of the entry.
local entry = KEYS[1]

local function owns_lock() return redis.call('HGET', entry, 'token') == args.token end
