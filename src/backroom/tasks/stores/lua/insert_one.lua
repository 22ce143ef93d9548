-- What `insert` does first: one plain task is added by the shortest way. No common part stands above this one, for on a
-- server that was idle all the functions there take longer than what is done here.
--
-- Plain is what has no flags and the priority 0, behind another first task of its queue. All else goes on below.

if #ARGV == 4 and string.sub(ARGV[4], 1, 4) == '- 0 ' then
  local call, base, most, id, task = redis.call, KEYS[1], tonumber(ARGV[1]), ARGV[3], ARGV[4]
  local queue = string.match(task, '^%- 0 ([^\n]*)')
  local first = call('HGET', base .. ':queues', queue)
  if first and string.sub(first, 1, 2) == '0 ' and string.sub(first, 3) <= id then
    if call('HSETNX', base .. ':tasks', id, task) == 1 then
      call('ZADD', base .. ':all', '0', id)
      call('ZADD', base .. ':ready:' .. queue, '0', id)
      call('HINCRBY', base .. ':counts', 'r' .. queue, 1)
      for _, bell in ipairs(most > 0 and { base .. ':bell:' .. queue, base .. ':bell:' } or {}) do
        if call('LLEN', bell) == 0 then
          call('RPUSH', bell, '1')
        end
      end
    end
    return {}
  end
end
