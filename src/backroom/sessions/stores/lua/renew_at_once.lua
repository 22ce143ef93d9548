-- ARGV: user ids. Each of these users' sessions is to get a new id when it is used next.

for _, id in ipairs(ARGV) do
  for _, hash in ipairs(call('ZRANGE', user(id), 0, -1)) do
    if call('EXISTS', session(hash)) == 1 then call('HSET', session(hash), 'r', '0') end
  end
end
