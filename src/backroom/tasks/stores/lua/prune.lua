#!lua flags=allow-oom
-- Delete finished tasks. ARGV: up to which prune_at, at most how many. Returns how many there were.

local ids, gone, limit = {}, {}, tonumber(ARGV[2])
for state, key in pairs(FINISHED) do
  local found = call('ZRANGE', key, '-inf', ARGV[1], 'BYSCORE', 'LIMIT', 0, limit - #ids)
  for _, id in ipairs(found) do
    ids[#ids + 1] = id
    add(gone, key, id)
  end
end
for index, live in ipairs(values_of(LIVE, ids)) do
  local state, flags, queue = match(live or '', '^%d+ (%a) %S+ %S+ %S+ %S+ (%S+) %S+ ([^\n]*)')
  if state then
    count(state, queue, -1)
  end
  if not flags or find(flags, '[up]') then
    release_key(ids[index])
  end
end
do_all('ZREM', gone)
with_all('ZREM', ALL, ids)
with_all('HDEL', TASKS, ids)
with_all('HDEL', LIVE, ids)
with_all('HDEL', PROGRESS, ids)
with_all('HDEL', PAYLOADS, ids)
with_all('HDEL', RESULTS, ids)
write_counts()
return #ids
