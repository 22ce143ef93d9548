#!lua flags=no-writes
-- ARGV: below which id ("" for the newest), most ids to return, states ("" for any), queue or "" with a "=" before it,
-- worker, the beginning of the task's JSON and that of the live one likewise, how many ids may be looked at.
-- Returns ids, newest first; the last id looked at, "" when there is nothing below it.

local after, limit, states = ARGV[1], tonumber(ARGV[2]), ARGV[3]
local queue, worker = match(ARGV[4], '^=(.*)$'), match(ARGV[5], '^=(.*)$')
local path, reason, most = match(ARGV[6], '^=(.*)$'), match(ARGV[7], '^=(.*)$'), tonumber(ARGV[8])
local STEP = 100

-- Where few are in the states asked for, they are read and sorted; otherwise the newest of all are looked through.
-- What runs is sought among all that runs as long as it can be: after a restart of the server each worker asks at once.
local FEW = states == 'x' and 5 * most or most

local function places()
  local keys = {}
  for state in string.gmatch(states, '.') do
    if state == 'd' then
      keys[#keys + 1] = DEFERRED
    elseif state == 'x' then
      keys[#keys + 1] = LEASES
    elseif state == 'r' and queue then
      keys[#keys + 1] = READY .. queue
    elseif state == 'r' then
      if call('HLEN', QUEUES) > FEW then
        return nil
      end
      for _, name in ipairs(call('HKEYS', QUEUES)) do
        keys[#keys + 1] = READY .. name
      end
    else
      keys[#keys + 1] = FINISHED[state]
    end
  end
  return keys
end

local function few()
  local keys, number, ids = states ~= '' and places(), 0, {}
  if not keys then
    return nil
  end
  for _, key in ipairs(keys) do
    number = number + call('ZCARD', key)
    if number > FEW then
      return nil
    end
  end
  for _, key in ipairs(keys) do
    for _, id in ipairs(call('ZRANGE', key, 0, -1)) do
      if after == '' or id < after then
        ids[#ids + 1] = id
      end
    end
  end
  table.sort(ids, function(one, other) return one > other end)
  return ids
end

-- Whether the JSON that follows so many lines begins like this.
local function begins(text, lines, start)
  local at = 0
  for _ = 1, lines do
    at = find(text, '\n', at + 1, true)
    if not at then
      return false
    end
  end
  return string.sub(text, at + 1, at + #start) == start
end

local function fits(live, task)
  local state, owner, name
  if live then
    state, owner, name = match(live, '^%d+ (%a) %S+ %S+ %S+ (%S+) %S+ %S+ ([^\n]*)')
  elseif task then
    local line = line_of(task)
    state, name = state_in(line), match(line, '^%S+ %S+ (.*)$')
  else
    return false
  end
  return (states == '' or find(states, state, 1, true)) and (not queue or name == queue)
    and (not worker or owner == worker) and (not path or (task and begins(task, 1, path)))
    and (not reason or (live and begins(live, 2, reason)))
end

-- Which of some ids fit, reading no more of them than it takes to tell.
local function fitting(some)
  if states == '' and not queue and not path then
    return some
  end
  local lives, found = values_of(LIVE, some), {}
  local tasks = path and values_of(TASKS, some)
  for index, id in ipairs(some) do
    local live = lives[index]
    local task = tasks and tasks[index] or not tasks and not live and call('HGET', TASKS, id)
    found[index] = fits(live, task) and id or false
  end
  return found
end

local ids = few()
local is_all = ids ~= nil
if not ids then
  ids = call('ZRANGE', ALL, after == '' and '+' or '(' .. after, '-', 'BYLEX', 'REV', 'LIMIT', 0, most)
  is_all = #ids < most
end
local found, last = {}, ''
for first = 1, #ids, STEP do
  local some = { unpack(ids, first, math.min(first + STEP - 1, #ids)) }
  for index, id in ipairs(fitting(some)) do
    if #found < limit then
      last = some[index]
      if id then
        found[#found + 1] = id
      end
    end
  end
  if #found == limit then
    break
  end
end
if is_all and last == (ids[#ids] or '') then
  last = ''
end
return { found, last }
