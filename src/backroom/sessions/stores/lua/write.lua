-- Merge changes into a session that is there.
--
-- ARGV: hash, "1" if all other names go, number of fields and values, these, number of names that go, these, the new
-- hash or "", until when the old one leads to it or "0". Returns whether the session was there.

local hash, replaces, many = ARGV[1], ARGV[2] == '1', tonumber(ARGV[3])
local name = session(hash)
local was = call('HMGET', name, 'u', 'c', 'x')
if not was[2] then return 0 end

if replaces then
  for _, field in ipairs(call('HKEYS', name)) do
    if string.sub(field, 1, 1) == '=' then call('HDEL', name, field) end
  end
end
in_slices('HSET', name, ARGV, 4, 3 + many)
local gone = tonumber(ARGV[4 + many])
in_slices('HDEL', name, ARGV, 5 + many, 4 + many + gone)

local renamed, leads = ARGV[5 + many + gone], ARGV[6 + many + gone]
local is = call('HMGET', name, 'u', 'x', 'c')
if renamed ~= '' then
  leave(was[1], hash)
  call('ZREM', ENDS, hash)
  call('RENAME', name, session(renamed))
  if leads ~= '0' then
    call('SET', base .. ':was:' .. hash, renamed .. ' ' .. leads, 'PXAT', string.format('%.0f', math.floor(leads / 1000)))
  end
  keep_until(renamed, is[2])
  join(is[1], renamed, is[3])
  return 1
end
if is[1] ~= was[1] then
  leave(was[1], hash)
  join(is[1], hash, is[3])
end
if is[2] ~= was[3] then keep_until(hash, is[2]) end
return 1
