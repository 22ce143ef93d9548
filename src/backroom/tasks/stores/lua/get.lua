#!lua flags=no-writes
-- ARGV: after how many bytes to stop, ids. Returns the rows of those that are there, and how many ids were looked at.
-- Each row: id, task, live, unique key, progress, end of the lease.

local STEP = 50

local function row_of(id, task, live)
  task = whole(task, match(task, '^%S+'), 'l', PAYLOADS, id)
  if not live then
    return { id, task, '', call('HGET', HOLDS, id) or '', '', '' }
  end
  local state, flags = match(live, '^%d+ (%a) %S+ %S+ %S+ %S+ (%S+)')
  return {
    id,
    task,
    whole(live, flags, 'm', RESULTS, id),
    call('HGET', HOLDS, id) or '',
    call('HGET', PROGRESS, id) or '',
    state == 'x' and call('ZSCORE', LEASES, id) or '',
  }
end

local rows, left, looked_at = {}, tonumber(ARGV[1]), 1
while looked_at < #ARGV and left > 0 do
  local ids = { unpack(ARGV, looked_at + 1, math.min(looked_at + STEP, #ARGV)) }
  local tasks, lives = values_of(TASKS, ids), values_of(LIVE, ids)
  for index, id in ipairs(ids) do
    looked_at = looked_at + 1
    if tasks[index] then
      local row = row_of(id, tasks[index], lives[index])
      rows[#rows + 1] = row
      left = left - #row[2] - #row[3]
      if left <= 0 then
        break
      end
    end
  end
end
return { rows, looked_at - 1 }
