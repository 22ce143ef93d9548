-- ARGV: hashes. Returns the headers of those that were there.

local found = {}
for _, hash in ipairs(ARGV) do
  found[#found + 1] = end_session(hash)
end
return found
