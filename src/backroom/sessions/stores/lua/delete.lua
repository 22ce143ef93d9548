-- ARGV: hashes. Returns the headers of those that were there, and of those that took their place.

local found = {}
for _, hash in ipairs(ARGV) do
  found[#found + 1] = end_session(hash)
  local leads_to = call('GET', base .. ':was:' .. hash)
  if leads_to then found[#found + 1] = end_session(string.match(leads_to, '^%S+')) end
end
return found
