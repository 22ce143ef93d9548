#!lua flags=no-writes
-- Returns the lowest ready id of each queue: the first of each priority in use is looked at.

local ids = {}
for _, queue in ipairs(call('HKEYS', QUEUES)) do
  local lowest
  local found = call('ZRANGE', READY .. queue, 0, 0, 'WITHSCORES')
  while #found > 0 do
    if not lowest or found[1] < lowest then
      lowest = found[1]
    end
    found = call('ZRANGE', READY .. queue, '(' .. found[2], '+inf', 'BYSCORE', 'LIMIT', 0, 1, 'WITHSCORES')
  end
  ids[#ids + 1] = lowest
end
return ids
