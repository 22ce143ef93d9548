#!lua flags=no-writes
-- ARGV: "leases" or "expires", the present moment, limit. Returns the ids of what is over by then, the first first.

return call('ZRANGE', base .. ':' .. ARGV[1], '-inf', ARGV[2], 'BYSCORE', 'LIMIT', 0, ARGV[3])
