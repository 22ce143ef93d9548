#!lua flags=no-writes
-- ARGV: ids. Returns the rows of those that are there.

return rows_of(ARGV)
