-- Compare what Redis knows of its deployment with the marker of a storage. Where neither has one, a deployment is founded.
--
-- KEYS: hash: `id`; `marked`, once a storage was seen with that id.
-- Arguments:
--   marker ?     the id that the storage holds
--   known ?      the id that the caller has seen both have: a Redis that has lost it is given it back
--   candidate    the id of a deployment that is founded now
-- Returns the verdict and an id:
--   same         the storage is this deployment's
--   mark         nobody's storage was seen yet: this one is to hold the id
--   unmarked     the storage holds none, and another one did
--   foreign      the storage is another deployment's
--   unknown      the storage is a deployment's, and Redis knows of none
set_aside_wrong_types({'hash'})
local deployment = KEYS[1]
local id, is_marked = redis.call('HGET', deployment, 'id'), redis.call('HGET', deployment, 'marked')

local function note()
  redis.call('HSET', deployment, 'id', args.marker, 'marked', '1')
  return {'same', args.marker}
end

if not id then
  if args.marker then return args.marker == args.known and note() or {'unknown', args.marker} end
  redis.call('HSET', deployment, 'id', args.candidate)
  return {'mark', args.candidate}
end
if not args.marker then return {is_marked and 'unmarked' or 'mark', id} end
if args.marker ~= id then return {'foreign', id} end
return is_marked and {'same', id} or note()
