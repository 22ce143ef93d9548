-- Merge a few changes into the contents of a session that is there: what nearly every save is, without the rest.
--
-- ARGV: hash, number of fields and values, these, names that go. Returns whether the session was there.

local name, many = KEYS[1] .. ':s:' .. ARGV[1], tonumber(ARGV[2])
if redis.call('EXISTS', name) == 0 then return 0 end
if many > 0 then redis.call('HSET', name, unpack(ARGV, 3, 2 + many)) end
if #ARGV > 2 + many then redis.call('HDEL', name, unpack(ARGV, 3 + many)) end
return 1
