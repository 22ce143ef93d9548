-- ARGV: a user id. Each of the user's sessions is to get a new id when it is used next.

for _, hash in ipairs(call('ZRANGE', user(ARGV[1]), 0, -1)) do
  if call('EXISTS', session(hash)) == 1 then call('HSET', session(hash), 'r', '0') end
end
