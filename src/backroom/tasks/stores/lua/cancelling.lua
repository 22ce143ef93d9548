#!lua flags=no-writes
-- ARGV: a worker. Returns the ids of what it runs and somebody wants cancelled.

local ids, found = call('SMEMBERS', CANCELLING), {}
for index, live in ipairs(values_of(LIVE, ids)) do
  if match(live or '', '^%d+ x %S+ %S+ %S+ (%S+)') == ARGV[1] then
    found[#found + 1] = ids[index]
  end
end
return found
