#!lua flags=no-writes
-- ARGV: after how many looks to stop, queues. Returns the lowest ready id of each queue that has one, and how many
-- queues were looked into: the first of each priority in use is looked at.

local ids, left, at = {}, tonumber(ARGV[1]), 1
while at < #ARGV and left > 0 do
  at = at + 1
  local ready, lowest = READY .. ARGV[at], nil
  local found = call('ZRANGE', ready, 0, 0, 'WITHSCORES')
  left = left - 1
  while #found > 0 do
    if not lowest or found[1] < lowest then
      lowest = found[1]
    end
    found = call('ZRANGE', ready, '(' .. found[2], '+inf', 'BYSCORE', 'LIMIT', 0, 1, 'WITHSCORES')
    left = left - 1
  end
  ids[#ids + 1] = lowest
end
return { ids, at - 1 }
