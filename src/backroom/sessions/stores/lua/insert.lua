-- ARGV: hash, user id, began, ends, number of fields and values, these. Returns whether there was no such session.

local hash = ARGV[1]
if call('EXISTS', session(hash)) == 1 then return 0 end
in_slices('HSET', session(hash), ARGV, 6, 5 + tonumber(ARGV[5]))
keep_until(hash, ARGV[4])
join(ARGV[2], hash, ARGV[3])
return 1
