-- What `insert` does first: plain tasks that are alike are added by the shortest way. No common part stands above this
-- one: on a server that was idle all the functions there take longer than what is done for one task here.
--
-- Alike is what has the same first line, plain what has no flags and the priority 0. None of them may be here already,
-- and they come in the order of their ids, behind another first task of their queue. All else goes on below.

if #ARGV < 2100 and string.sub(ARGV[4] or '', 1, 4) == '- 0 ' then
  local call, base, most, last = redis.call, KEYS[1], tonumber(ARGV[1]), #ARGV
  local line = string.match(ARGV[4], '^%- 0 [^\n]*\n')
  local queue, length, count = string.sub(line, 5, -2), #line, (last - 2) / 2
  local first = call('HGET', base .. ':queues', queue)
  local is_plain, before = first and string.sub(first, 1, 2) == '0 ', string.sub(first or '', 3)
  local scored, ids, place = {}, {}, 0
  for at = 3, is_plain and last or 0, 2 do
    local id = ARGV[at]
    if id < before or id == ARGV[at - 2] or string.sub(ARGV[at + 1] or '', 1, length) ~= line then
      is_plain = false
      break
    end
    place = place + 1
    ids[place], scored[2 * place - 1], scored[2 * place], before = id, '0', id, id
  end
  local is_new = false
  if is_plain and count == 1 then
    if call('HSETNX', base .. ':tasks', ARGV[3], ARGV[4]) == 0 then
      return {}
    end
    is_new = true
  elseif is_plain then
    is_new = true
    for _, task in ipairs(call('HMGET', base .. ':tasks', unpack(ids))) do
      is_new = is_new and not task
    end
    if is_new then
      call('HSET', base .. ':tasks', unpack(ARGV, 3))
    end
  end
  if is_new then
    call('ZADD', base .. ':all', unpack(scored))
    call('ZADD', base .. ':ready:' .. queue, unpack(scored))
    call('HINCRBY', base .. ':counts', 'r' .. queue, count)
    for _, bell in ipairs(most > 0 and { base .. ':bell:' .. queue, base .. ':bell:' } or {}) do
      for _ = call('LLEN', bell) + 1, math.min(count, most) do
        call('RPUSH', bell, '1')
      end
    end
    return {}
  end
end
