#!lua flags=no-writes
-- ARGV: below which id ("" for the newest), most rows, states ("" for any), queue or "" with a "=" before it, worker
-- likewise, how many ids may be looked at.
-- Returns rows, newest first; the last id looked at, "" when there is nothing below it.

local after, limit, states = ARGV[1], tonumber(ARGV[2]), ARGV[3]
local queue, worker, most = match(ARGV[4], '^=(.*)$'), match(ARGV[5], '^=(.*)$'), tonumber(ARGV[6])
if worker then
  states = 'x'
end

-- Where few are in the states asked for, they are read and sorted; otherwise the newest of all are looked through.
local function places()
  local keys = {}
  for state in string.gmatch(states, '.') do
    if state == 'd' then
      keys[#keys + 1] = DEFERRED
    elseif state == 'x' then
      keys[#keys + 1] = LEASES
    elseif state == 'r' then
      for _, name in ipairs(queue and { queue } or call('SMEMBERS', QUEUES)) do
        keys[#keys + 1] = READY .. name
      end
    else
      keys[#keys + 1] = FINISHED[state]
    end
  end
  return keys
end

local function few()
  if states == '' then
    return nil
  end
  local keys, number, ids = places(), 0, {}
  for _, key in ipairs(keys) do
    number = number + call('ZCARD', key)
    if number > most then
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

local function fits(live, id)
  local state, owner, name
  if live then
    state, owner, name = match(live, '^%d+ (%a) %S+ %S+ %S+ (%S+) %S+ %S+ ([^\n]*)')
  elseif states ~= '' or queue then
    local task = call('HGET', TASKS, id)
    if not task then
      return false
    end
    local line = line_of(task)
    state, name = state_in(line), match(line, '^%S+ %S+ (.*)$')
  end
  return (states == '' or find(states, state, 1, true)) and (not queue or name == queue)
    and (not worker or owner == worker)
end

local ids = few()
local is_all = ids ~= nil
if not ids then
  ids = call('ZRANGE', ALL, after == '' and '+' or '(' .. after, '-', 'BYLEX', 'REV', 'LIMIT', 0, most)
  is_all = #ids < most
end
local found, last = {}, ''
for first = 1, #ids, 100 do
  local some = { unpack(ids, first, math.min(first + 99, #ids)) }
  for index, live in ipairs(values_of(LIVE, some)) do
    if #found < limit then
      last = some[index]
      if fits(live, last) then
        found[#found + 1] = last
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
return { rows_of(found), last }
