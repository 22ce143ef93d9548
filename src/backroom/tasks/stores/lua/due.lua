#!lua flags=no-writes
-- ARGV: "leases" or "expires", the present moment, limit. Returns the rows of what is over by then, the first first.

return rows_of(call('ZRANGE', base .. ':' .. ARGV[1], '-inf', ARGV[2], 'BYSCORE', 'LIMIT', 0, ARGV[3]))
