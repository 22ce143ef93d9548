-- What `exchange` does first: an idle worker claims a few plain tasks by the shortest way. No common part stands above
-- this one, for on a server that was idle all the functions there take longer than what is done here.
--
-- So it is when there is nothing to apply, one queue, nothing due, and what is taken are not all that were asked for, and
-- have no flags, and nobody has touched them. All else goes on below; what was taken by then stands in `taken`.

local taken

-- The worker's present moment and the end of a lease, in its own clock.
local function times(now, lease_until)
  if string.sub(now, 1, 1) ~= '@' then
    return now, lease_until
  end
  local time = redis.call('TIME')
  local moment = time[1] * 1000000 + time[2] + string.sub(now, 2)
  return string.format('%.0f', moment), string.format('%.0f', moment + string.sub(lease_until, 2))
end

if #ARGV == 9 and ARGV[2] == '0' and ARGV[7] == '1' and ARGV[9] == '-1' then
  local call, base, limit, worker, queue = redis.call, KEYS[1], tonumber(ARGV[3]), ARGV[6], ARGV[8]
  local now, lease_until = times(ARGV[4], ARGV[5])
  local due_at = call('ZRANGE', base .. ':deferred', '0', '0', 'WITHSCORES')[2]
  if not due_at or tonumber(due_at) > tonumber(now) then
    local popped, ids = call('ZPOPMIN', base .. ':ready:' .. queue, limit), {}
    for index = 1, #popped, 2 do
      ids[#ids + 1] = popped[index]
    end
    local tasks, known, is_plain = {}, {}, #ids < limit and #ids <= 16
    if is_plain and #ids > 0 then
      tasks, known = call('HMGET', base .. ':tasks', unpack(ids)), call('HMGET', base .. ':live', unpack(ids))
    end
    local claims, written, leases = {}, {}, {}
    for index, id in ipairs(is_plain and ids or {}) do
      local task = tasks[index]
      if not task or known[index] or string.sub(task, 1, 2) ~= '- ' then
        is_plain = false
        break
      end
      claims[#claims + 1], claims[#claims + 2], claims[#claims + 3] = id, task, ''
      written[#written + 1] = id
      written[#written + 1] = table.concat({
        '1 x 1 ', now, ' ', now, ' ', worker, ' ', string.match(task, '^[^\n]*'), '\n', worker, ' \n',
      })
      leases[#leases + 1], leases[#leases + 2] = lease_until, id
    end
    if is_plain then
      if #ids > 0 then
        call('HSET', base .. ':live', unpack(written))
        call('ZADD', base .. ':leases', unpack(leases))
        call('HINCRBY', base .. ':counts', 'r' .. queue, -#ids)
        call('HINCRBY', base .. ':counts', 'x' .. queue, #ids)
      end
      return { {}, {}, claims, due_at or '', now, lease_until }
    end
    taken = ids
  end
end
