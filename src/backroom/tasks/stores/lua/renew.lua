#!lua flags=allow-oom
-- Extend leases and note progress. ARGV: end of the lease; for each claim id, fence, progress ("" for no news).
-- Returns the ids that are held, and those of them that somebody wants cancelled.

local ids = {}
for at = 2, #ARGV, 3 do
  ids[#ids + 1] = ARGV[at]
end
local held, cancelled, leases, reports = {}, {}, {}, {}
for index, live in ipairs(values_of(LIVE, ids)) do
  local fence, state, flags = match(live or '', '^(%d+) (%a) %S+ %S+ %S+ %S+ (%S+)')
  local id, progress = ids[index], ARGV[3 * index + 1]
  if state == 'x' and fence == ARGV[3 * index] then
    held[#held + 1] = id
    leases[#leases + 1] = ARGV[1]
    leases[#leases + 1] = id
    if find(flags, 'c', 1, true) then
      cancelled[#cancelled + 1] = id
    end
    if progress ~= '' then
      reports[#reports + 1] = id
      reports[#reports + 1] = progress
    end
  end
end
with_all('ZADD', LEASES, leases)
with_all('HSET', PROGRESS, reports)
return { held, cancelled }
