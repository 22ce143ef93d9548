-- ARGV: a user id, the present moment, a hash to spare or "", a moment to begin at, how many to look at. Ends the sessions
-- of a page that have not ended, but the one that has this hash or has just taken its place. Returns their headers, and
-- the moment at which the next page begins, or "".

local found = {}
local spared = call('GET', base .. ':was:' .. ARGV[3])
spared = spared and string.match(spared, '^%S+')
local hashes, following = page(ARGV[1], ARGV[4], tonumber(ARGV[5]))
for _, hash in ipairs(hashes) do
  local ends = call('HGET', session(hash), 'x')
  if not ends then
    leave(ARGV[1], hash)
  elseif hash ~= ARGV[3] and hash ~= spared and tonumber(ends) > tonumber(ARGV[2]) then
    found[#found + 1] = end_session(hash)
  end
end
return { found, following }
