-- ARGV: a user id, the present moment, a moment to begin at, how many to look at. Returns the headers of the sessions of a
-- page that have not ended, and the moment at which the next page begins, or "".

local found = {}
local hashes, following = page(ARGV[1], ARGV[3], tonumber(ARGV[4]))
for _, hash in ipairs(hashes) do
  local it = header(hash)
  if not it then
    leave(ARGV[1], hash)
  elseif tonumber(it[6]) > tonumber(ARGV[2]) then
    found[#found + 1] = it
  end
end
return { found, following }
