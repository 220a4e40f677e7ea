-- Take the next id from the lists of ids, the first list first. What is not there, or is no list, has none.
--
-- Keys: the lists in their order, and last the list that keeps a copy until the run has begun.
-- Returns the id, or nothing.
for index = 1, #KEYS - 1 do
  local found = redis.pcall('LMOVE', KEYS[index], KEYS[#KEYS], 'LEFT', 'RIGHT')
  if type(found) == 'string' then return found end
end
return false
