#!lua flags=no-writes
-- ARGV: until when, limit, due_at and id of the mark after which they come. Returns the ids of what is deferred, the
-- first due first.

local limit, due_at, id = tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]

-- Thousands may be due at one moment, so they are gone through by rank; where the mark has gone, from its moment on.
local function first()
  local score = id ~= '' and call('ZSCORE', DEFERRED, id)
  if score and tonumber(score) == due_at then
    return call('ZRANK', DEFERRED, id) + 1
  end
  return call('ZCOUNT', DEFERRED, '-inf', '(' .. ARGV[3])
end

local STEP, ids, at = 500, {}, first()
local last = call('ZCOUNT', DEFERRED, '-inf', ARGV[1]) - 1
while #ids < limit and at <= last do
  local found = call('ZRANGE', DEFERRED, at, math.min(at + STEP - 1, last), 'WITHSCORES')
  for index = 1, #found, 2 do
    if #ids < limit and (tonumber(found[index + 1]) > due_at or found[index] > id) then
      ids[#ids + 1] = found[index]
    end
  end
  at = at + STEP
end
return ids
