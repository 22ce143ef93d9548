#!lua flags=no-writes
-- ARGV: a hash, the present moment. Returns the hash that took its place, and that session's fields and values.

local found = call('GET', base .. ':was:' .. ARGV[1])
if not found then return nil end
local hash, leads = string.match(found, '^(%S+) (%S+)$')
if tonumber(leads) <= tonumber(ARGV[2]) then return nil end
return { hash, call('HGETALL', session(hash)) }
