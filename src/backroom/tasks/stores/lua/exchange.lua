#!lua flags=allow-oom
-- Apply changes, then claim. It goes on when the server is out of memory: only what is done makes room again.
--
-- ARGV: most tokens for each bell; number of changes; for each id, fence, new state, options, attempts, started_at, expires_at ("" for none),
-- score (due_at or prune_at), worker ids, JSON, the progress when the options have p, and the rest of the JSON when they
-- have m. Options: u gives the unique key up, c and n set and clear the request to cancel. Then: limit (0: claim nothing), present moment, end of the
-- lease, worker, number of queues (0: all), the queues, number of ids (-1: any), the ids.
-- Returns: ids that did not apply, those of them that are not here at all, and for each claim id, task, live ("" for
-- one that nobody had touched before) and, where the flags say u or the live one is there, unique key and progress.

local at = 1
local function take()
  at = at + 1
  return ARGV[at - 1]
end

local tokens = tonumber(take())
local leave, enter, lives, lost, absent = {}, {}, {}, {}, {}
local made_ready, deferred, reports = {}, {}, {}

local function leave_state(id, state, flags, queue)
  if state == 'x' then
    add(leave, LEASES, id)
    if find(flags, 'c', 1, true) then
      call('SREM', CANCELLING, id)
    end
  elseif state == 'r' then
    add(leave, READY .. queue, id)
  elseif state == 'd' then
    add(leave, DEFERRED, id)
  else
    add(leave, FINISHED[state], id)
  end
  count(state, queue, -1)
end

local function enter_state(id, state, priority, queue, score)
  if state == 'r' then
    local ready_score = score_of(priority)
    add(enter, READY .. queue, ready_score, id)
    note_ready(queue, ready_score, id)
    made_ready[queue] = (made_ready[queue] or 0) + 1
  elseif state == 'd' then
    add(enter, DEFERRED, score, id)
    deferred[id] = queue
  else
    add(enter, FINISHED[state], score, id)
  end
  count(state, queue, 1)
end

local function flags_after(id, flags, options, is_waiting, expires)
  if find(options, 'u', 1, true) and find(flags, '[up]') then
    release_key(id)
    flags = without(flags, 'up')
  end
  if find(options, 'c', 1, true) then
    flags = without(flags, 'c') .. 'c'
  elseif find(options, 'n', 1, true) then
    flags = without(flags, 'c')
  end
  if find(flags, 'm', 1, true) then
    call('HDEL', RESULTS, id)
    flags = without(flags, 'm')
  end
  if find(options, 'm', 1, true) then
    flags = flags .. 'm'
  end
  if find(flags, 'e', 1, true) then
    call('ZREM', EXPIRES, id)
    flags = without(flags, 'e')
  end
  if is_waiting and expires ~= '' then
    call('ZADD', EXPIRES, expires, id)
    flags = flags .. 'e'
  end
  flags = gsub(flags, '-', '')
  return flags == '' and '-' or flags
end

local function apply(number)
  local changes, ids = {}, {}
  for index = 1, number do
    local options = ARGV[at + 3]
    changes[index] = at
    ids[index] = ARGV[at]
    at = at + 10 + (find(options, 'p', 1, true) and 1 or 0) + (find(options, 'm', 1, true) and 1 or 0)
  end
  local found, done = values_of(LIVE, ids), {}
  for index = 1, number do
    local first, id, live = changes[index], ids[index], found[index]
    local fence, state, last, flags, priority, queue
    if live then
      fence, state, last, flags, priority, queue =
        match(live, '^(%d+) (%a) %S+ %S+ (%S+) %S+ (%S+) (%S+) ([^\n]*)')
    else
      local task = call('HGET', TASKS, id)
      if task then
        flags, priority, queue = match(task, '^(%S+) (%S+) ([^\n]*)')
        fence, state, last = '0', find(flags, 'd', 1, true) and 'd' or 'r', '-'
        flags = without(flags, 'd')
      else
        absent[#absent + 1] = id
      end
    end
    -- Of two changes of one task the first counts, and the second one's fence is old by then.
    if fence ~= ARGV[first + 1] and not done[id] then
      lost[#lost + 1] = id
    elseif not done[id] then
      local new, options, expires = ARGV[first + 2], ARGV[first + 3], ARGV[first + 6]
      done[id] = true
      leave_state(id, state, flags, queue)
      if flags ~= '-' or expires ~= '' or options ~= 'u' then
        flags = flags_after(id, flags, options, new == 'r' or new == 'd', expires)
      end
      if find(options, 'p', 1, true) then
        reports[#reports + 1] = id
        reports[#reports + 1] = ARGV[first + 10]
      end
      if find(options, 'm', 1, true) then
        call('HSET', RESULTS, id, ARGV[first + (find(options, 'p', 1, true) and 11 or 10)])
      end
      enter_state(id, new, priority, queue, ARGV[first + 7])
      lives[#lives + 1] = id
      lives[#lives + 1] = concat({
        fence + 1, ' ', new, ' ', ARGV[first + 4], ' ', ARGV[first + 5], ' ', last, ' - ', flags, ' ', priority, ' ',
        queue, '\n', ARGV[first + 8], '\n', ARGV[first + 9],
      })
    end
  end
  with_all('HSET', LIVE, lives)
  with_all('HSET', PROGRESS, reports)
  do_all('ZREM', leave)
  do_all('ZADD', enter)
  for queue, number in pairs(made_ready) do
    ring(queue, math.min(number, tokens))
  end
  place_firsts()
  if tokens > 0 then
    ring_for_first(deferred)
  end
end

-- An id without a task: somebody has deleted a part of it by hand. It must not be in the way of the others.
local function forget(id)
  release_key(id)
  for _, key in ipairs({ LIVE, PROGRESS, PAYLOADS, RESULTS }) do
    call('HDEL', key, id)
  end
  for _, key in ipairs({ ALL, EXPIRES }) do
    call('ZREM', key, id)
  end
end

local promoted = {}

-- What is due becomes ready, at most a thousand of it at once. Returns the first due_at of what is not, "" for none.
local function promote(now)
  local first = call('ZRANGE', DEFERRED, '0', '0', 'WITHSCORES')[2]
  if not first or tonumber(first) > tonumber(now) then
    return first or ''
  end
  local ids = call('ZRANGE', DEFERRED, '-inf', now, 'BYSCORE', 'LIMIT', '0', '1000')
  local found, ready, changed = values_of(LIVE, ids), {}, {}
  for index, id in ipairs(ids) do
    local live, priority, queue = found[index], nil, nil
    if live then
      priority, queue = match(live, '^%S+ %S+ %S+ %S+ %S+ %S+ %S+ (%S+) ([^\n]*)')
      live = gsub(live, '^(%d+) d', '%1 r', 1)
    else
      local task, flags = call('HGET', TASKS, id), nil
      if task then
        flags, priority, queue = match(line_of(task), '^(%S+) (%S+) (.*)$')
        live = concat({ '0 r 0 - - - ', without(flags, 'd'), ' ', priority, ' ', queue, '\n\n' })
      else
        forget(id)
      end
    end
    if queue then
      changed[#changed + 1] = id
      changed[#changed + 1] = live
      local score = score_of(priority)
      add(ready, READY .. queue, score, id)
      note_ready(queue, score, id)
      promoted[queue] = (promoted[queue] or 0) + 1
      count('d', queue, -1)
      count('r', queue, 1)
    end
  end
  with_all('HSET', LIVE, changed)
  with_all('ZREM', DEFERRED, ids)
  do_all('ZADD', ready)
  place_firsts()
  return call('ZRANGE', DEFERRED, '0', '0', 'WITHSCORES')[2] or ''
end

local function pop(queue, limit)
  if taken then
    return taken
  end
  local popped, ids = call('ZPOPMIN', READY .. queue, limit), {}
  for index = 1, #popped, 2 do
    ids[#ids + 1] = popped[index]
  end
  return ids
end

-- Others hear of what has become due and of what is more than was asked for.
local function ring_for_others(ids, origins, queue, limit)
  for index in ipairs(ids) do
    local origin = origins and origins[index] or queue
    if promoted[origin] then
      promoted[origin] = promoted[origin] - 1
    end
  end
  for name, number in pairs(promoted) do
    ring(name, math.min(number, tokens))
  end
  local last = origins and origins[#ids] or queue
  if #ids == limit and not promoted[last] then
    ring(last, math.min(call('ZCARD', READY .. last), tokens))
  end
end

-- The first of several queues: a line of their first tasks, from whose head is taken and where the next one steps in.
-- It is as long as it need be: of the queues whose turn would come later nothing is read.
local FEW, STEP = 8, 32
-- So many named queues are each looked into. Of more it is quicker to go through what stands in :heads, where most are theirs.
local NAMES = 32

local function cursor_of(queue, score, id, head)
  return { queue = queue, score = score, id = id, head = head, taken = 0, offset = 0, next = 1, found = {} }
end

local function look(cursor)
  if cursor.next > #cursor.found then
    local step = cursor.offset == 0 and FEW or STEP
    if not cursor.is_last then
      cursor.found = call('ZRANGE', READY .. cursor.queue, cursor.offset, cursor.offset + step - 1, 'WITHSCORES')
      cursor.offset, cursor.next = cursor.offset + step, 1
    end
    if cursor.is_last or #cursor.found == 0 then
      cursor.is_empty = true
      return false
    end
    cursor.is_last = #cursor.found < 2 * step
  end
  cursor.id, cursor.text = cursor.found[cursor.next], cursor.found[cursor.next + 1]
  cursor.score = tonumber(cursor.text)
  return true
end

-- Where :heads says that the queues stand, the first first; of some alone, where names are given.
local function heads(names)
  local found, offset, at, allowed = {}, 0, 1, names and {}
  for _, name in ipairs(names or {}) do
    allowed[name] = true
  end
  return function()
    while true do
      if at > #found then
        found = call('ZRANGE', HEADS, offset, offset + STEP - 1, 'WITHSCORES')
        offset, at = offset + STEP, 1
        if #found == 0 then
          return nil
        end
      end
      local head, score = found[at], found[at + 1]
      local id, queue = match(head, '^(%S+) (.*)$')
      at = at + 2
      if not allowed or allowed[queue] then
        return cursor_of(queue, tonumber(score), id, head)
      end
    end
  end
end

-- All of some queues, wherever they stand.
local function each_of(names)
  local index = 0
  return function()
    index = index + 1
    return names[index] and cursor_of(names[index], -math.huge, '')
  end
end

local function step_in(line, cursor)
  if not look(cursor) then
    return
  end
  -- The last of the line comes first, for taking the end off costs nothing.
  local low, high = 1, #line + 1
  while low < high do
    local middle = math.floor((low + high) / 2)
    if is_before(cursor, line[middle]) then
      low = middle + 1
    else
      high = middle
    end
  end
  table.insert(line, low, cursor)
end

-- Take off what was taken, and tell :heads where the queues stand that were looked at.
local function leave_behind(seen)
  local gone, placed, unused, noted = {}, {}, {}, {}
  for _, cursor in ipairs(seen) do
    if cursor.taken > 0 then
      call('ZPOPMIN', READY .. cursor.queue, cursor.taken)
    end
    local head = not cursor.is_empty and cursor.id .. ' ' .. cursor.queue
    if cursor.head and cursor.head ~= head then
      gone[#gone + 1] = cursor.head
      if head then
        placed[#placed + 1] = cursor.text
        placed[#placed + 1] = head
        noted[#noted + 1] = cursor.queue
        noted[#noted + 1] = cursor.text .. ' ' .. cursor.id
      else
        unused[#unused + 1] = cursor.queue
      end
    end
  end
  with_all('ZREM', HEADS, gone)
  with_all('ZADD', HEADS, placed)
  with_all('HDEL', QUEUES, unused)
  with_all('HSET', QUEUES, noted)
end

local function pick(following, limit)
  local line, ids, origins, seen = {}, {}, {}, {}
  local coming = following()
  while #ids < limit and (coming or #line > 0) do
    local cursor = line[#line]
    if coming and not (cursor and is_before(cursor, coming)) then
      -- It stands no later than its first task, which may be further back in the line.
      seen[#seen + 1] = coming
      step_in(line, coming)
      coming = following()
    else
      line[#line] = nil
      ids[#ids + 1], origins[#origins + 1] = cursor.id, cursor.queue
      cursor.taken, cursor.next = cursor.taken + 1, cursor.next + 2
      step_in(line, cursor)
    end
  end
  leave_behind(seen)
  return ids, origins
end

-- Returns ids and the queue of each, or of all of them.
local function pick_first(queues, limit)
  local queue = queues[1]
  if #queues == 0 then
    local some = call('ZRANGE', HEADS, '0', '1')
    if #some > 1 then
      return pick(heads(), limit)
    end
    queue = some[1] and match(some[1], '^%S+ (.*)$')
  elseif #queues > NAMES and #queues * 4 > call('ZCARD', HEADS) then
    return pick(heads(queues), limit)
  elseif #queues > 1 then
    return pick(each_of(queues), limit)
  end
  return queue and pop(queue, limit) or {}, nil, queue
end

local function pick_among(asked, queues, limit)
  local allowed, found, ids, origins = {}, {}, {}, {}
  for _, queue in ipairs(queues) do
    allowed[queue] = true
  end
  for index, live in ipairs(values_of(LIVE, asked)) do
    local id, queue = asked[index], nil
    if live then
      queue = match(live, '^%S+ %S+ %S+ %S+ %S+ %S+ %S+ %S+ ([^\n]*)')
    else
      local task = call('HGET', TASKS, id)
      queue = task and match(task, '^%S+ %S+ ([^\n]*)')
    end
    if queue and (#queues == 0 or allowed[queue]) then
      local score = call('ZSCORE', READY .. queue, id)
      if score then
        found[#found + 1] = { id = id, score = tonumber(score), queue = queue }
      end
    end
  end
  table.sort(found, is_before)
  for index = 1, math.min(limit, #found) do
    ids[index], origins[index] = found[index].id, found[index].queue
    call('ZREM', READY .. found[index].queue, found[index].id)
  end
  return ids, origins
end

-- What is not given out after all, because it would be too much for one reply: while it is put together nobody else is
-- served. Those who wait hear of it, and he who asked will ask again.
local MOST_BYTES = 1000000

local function put_back(id, task)
  local priority, queue = match(task, '^%S+ (%S+) ([^\n]*)')
  local score = score_of(priority)
  call('ZADD', READY .. queue, score, id)
  note_ready(queue, score, id)
  ring(queue, math.min(1, tokens))
end

local now, lease_until, due_at = '', '', ''

local function claim(limit)
  now, lease_until = times(take(), take())
  local worker = take()
  local queues, asked = {}, nil
  for index = 1, tonumber(take()) do
    queues[index] = take()
  end
  local number = tonumber(take())
  if number >= 0 then
    asked = {}
    for index = 1, number do
      asked[index] = take()
    end
  end

  due_at = promote(now)
  local ids, origins, queue
  if asked then
    ids, origins = pick_among(asked, queues, limit)
  else
    ids, origins, queue = pick_first(queues, limit)
  end
  if tokens > 0 and (#ids == limit or next(promoted)) then
    ring_for_others(ids, origins, queue, limit)
  end
  if #ids == 0 then
    return {}
  end

  local tasks, known = values_of(TASKS, ids), values_of(LIVE, ids)
  local claims, written, leases = {}, {}, {}
  local fresh, last = concat({ '1 x 1 ', now, ' ', now, ' ', worker, ' ' }), '\n' .. worker .. ' \n'
  local bytes = 0
  for index, id in ipairs(ids) do
    local task, live, old = tasks[index], known[index], nil
    if not task then
      forget(id)
      count('r', origins and origins[index] or queue, -1)
    elseif bytes >= MOST_BYTES then
      put_back(id, task)
    else
      local line = line_of(task)
      if live then
        local fence, attempts, started, flags, rest, workers, json =
          match(live, '^(%d+) %a (%d+) (%S+) %S+ %S+ (%S+) ([^\n]*)\n([^\n]*)\n(.*)$')
        line = flags .. ' ' .. rest
        if started == '-' then
          started = now
        end
        old = { fence + 1, attempts + 1, started, workers, json }
      end
      local flags = match(line, '^%S+')
      if flags ~= '-' then
        if find(flags, 'e', 1, true) then
          call('ZREM', EXPIRES, id)
        end
        if find(flags, 'p', 1, true) then
          release_key(id)
        end
        if find(flags, 'c', 1, true) then
          call('SADD', CANCELLING, id)
        end
        line = gsub(line, '^%S+', without(flags, 'dep'), 1)
      end
      local new
      if old then
        new = concat({
          old[1], ' x ', old[2], ' ', old[3], ' ', now, ' ', worker, ' ', line, '\n', old[4], worker, ' \n', old[5],
        })
      else
        new = fresh .. line .. last
      end
      written[#written + 1] = id
      written[#written + 1] = new
      leases[#leases + 1] = lease_until
      leases[#leases + 1] = id
      local name = match(line, '^%S+ %S+ (.*)$')
      count('r', name, -1)
      count('x', name, 1)
      claims[#claims + 1] = id
      claims[#claims + 1] = whole(task, flags, 'l', PAYLOADS, id)
      bytes = bytes + #claims[#claims]
      if old or flags ~= '-' then
        claims[#claims + 1] = whole(new, flags, 'm', RESULTS, id)
        bytes = bytes + #claims[#claims]
        claims[#claims + 1] = call('HGET', HOLDS, id) or ''
        claims[#claims + 1] = call('HGET', PROGRESS, id) or ''
      else
        claims[#claims + 1] = ''
      end
    end
  end
  with_all('HSET', LIVE, written)
  with_all('ZADD', LEASES, leases)
  place_firsts()
  return claims
end

local number = tonumber(take())
if number > 0 then
  apply(number)
end
local limit, claims = tonumber(take()), {}
if limit > 0 then
  claims = claim(limit)
end
write_counts()
return { lost, absent, claims, due_at, now, lease_until }
