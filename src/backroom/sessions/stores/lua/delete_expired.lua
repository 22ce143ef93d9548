-- ARGV: the present moment, a limit. Returns the headers of those that were deleted; of one that the server has
-- deleted before, little more than its hash.

local found = {}
local due = call('ZRANGE', ENDS, '-inf', ARGV[1], 'BYSCORE', 'LIMIT', 0, ARGV[2])
for _, hash in ipairs(due) do
  found[#found + 1] = end_session(hash) or { hash, '', '0', '0', '0', '0', '', '', '' }
end
return found
