-- ARGV: a moment to begin at with the first user, how many to look at, user ids. Each of these users' sessions is to get a
-- new id when it is used next. Returns how many of the users are done, and the moment at which to go on with the next.

local moment, left = ARGV[1], tonumber(ARGV[2])
for index = 3, #ARGV do
  if left <= 0 then return { index - 3, '-inf' } end
  local hashes, following = page(ARGV[index], moment, left)
  for _, hash in ipairs(hashes) do
    if call('EXISTS', session(hash)) == 1 then call('HSET', session(hash), 'r', '0') end
  end
  if following ~= '' then return { index - 3, following } end
  moment, left = '-inf', left - #hashes
end
return { #ARGV - 2, '-inf' }
