-- Compare what Redis knows of its deployment with the marker of a storage. Where neither has one, a deployment is founded:
-- whoever finds that marks the storage with an id of its own, and the first marker that is then shown is the deployment's.
--
-- KEYS: hash: `id` and `marked`, once a storage was seen with that id; before, `candidate:ID` for each that was given out.
-- Arguments:
--   marker ?     the id that the storage holds
--   known ?      the id that the caller has seen both have: a Redis that has lost it is given it back
--   candidate    the caller's own id, for a deployment that is founded now
-- Returns what was found, and an id:
--   same         the storage is this deployment's
--   mark         nobody's storage was seen yet: this one is to hold the id
--   unmarked     the storage holds none, and another one did
--   foreign      the storage is another deployment's
--   unknown      the storage is a deployment's, and Redis knows of none

-- Ids that were given out and never shown are forgotten after so long.
local CANDIDATES_TTL_S = 24 * 60 * 60

set_aside_wrong_types({'hash'})
local deployment = KEYS[1]
local id = redis.call('HGET', deployment, 'id')
if id and redis.call('HGET', deployment, 'marked') then
  if not args.marker then return {'unmarked', id} end
  return {args.marker == id and 'same' or 'foreign', id}
end
if not args.marker then
  redis.call('HSET', deployment, 'candidate:' .. args.candidate, '1')
  redis.call('EXPIRE', deployment, CANDIDATES_TTL_S)
  return {'mark', args.candidate}
end
-- An older version noted the id before the storage had it.
local is_ours = args.marker == args.known or args.marker == id
  or redis.call('HEXISTS', deployment, 'candidate:' .. args.marker) == 1
if not is_ours then return {'unknown', args.marker} end
redis.call('DEL', deployment)
redis.call('HSET', deployment, 'id', args.marker, 'marked', '1')
return {'same', args.marker}
