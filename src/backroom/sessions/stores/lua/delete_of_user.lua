-- ARGV: a user id, the present moment, a hash to spare or "". Ends the sessions that have not ended, but the one that
-- has this hash or has just taken its place. Returns their headers.

local found = {}
local spared = call('GET', base .. ':was:' .. ARGV[3])
spared = spared and string.match(spared, '^%S+')
for _, hash in ipairs(call('ZRANGE', user(ARGV[1]), 0, -1, 'REV')) do
  local ends = call('HGET', session(hash), 'x')
  if not ends then
    leave(ARGV[1], hash)
  elseif hash ~= ARGV[3] and hash ~= spared and tonumber(ends) > tonumber(ARGV[2]) then
    found[#found + 1] = end_session(hash)
  end
end
return found
