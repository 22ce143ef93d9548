-- ARGV: a user id, the present moment. Returns the headers of the sessions that have not ended, the newest first.

local found = {}
for _, hash in ipairs(call('ZRANGE', user(ARGV[1]), 0, -1, 'REV')) do
  local it = header(hash)
  if not it then
    leave(ARGV[1], hash)
  elseif tonumber(it[6]) > tonumber(ARGV[2]) then
    found[#found + 1] = it
  end
end
return found
