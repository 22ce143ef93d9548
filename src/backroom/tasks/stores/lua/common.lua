-- What every script begins with: the map of the keys, and the few things that all of them do.
--
-- KEYS[1] is what the names of all keys of one shard of a backend begin with; its hash tag keeps them in one slot.
-- KEYS[2] is there only so that a node refuses the script while a cluster moves that slot.
--   :tasks        hash  id → what never changes: "flags priority queue \n JSON \n payload"
--   :live         hash  id → what does: "fence state attempts started last worker flags priority queue \n workers \n
--                 JSON"; a task that nobody has touched yet has none and is as it was inserted. "-" stands for nothing,
--                 an empty JSON for the values that were inserted.
--   :payloads     hash  id → the rest of a payload that is long, :results hash  id → the rest of a long JSON of :live:
--                 who looks for something does not read through them
--   :all          zset  every id, with the score 0: newest first in reverse
--   :ready:QUEUE  zset  id, by the negative priority: ids sort by time within one
--   :heads        zset  "id queue", by the score in :ready: where each queue stands that has something ready, and some
--                 that had. It is the queue's first task, or one that was that before: what is taken leaves it there
--   :queues       hash  queue → "score id" of the same
--   :deferred     zset  id, by due_at
--   :leases       zset  id of what runs, by the end of its lease
--   :expires      zset  id of what waits and may wait no longer than that
--   :successful   zset  id, by prune_at          :failed  likewise
--   :unique       hash  unique key → "until holder"          :holds  hash  id → the unique key that it holds
--   :progress     hash  id → the last report
--   :cancelling   set   id of what runs and somebody wants cancelled
--   :counts       hash  state and queue → how many
--   :bell:QUEUE   list  tokens, each of which wakes one worker of that queue; ":bell:" wakes one of those for all
--   :instead:ID   string  the task that stood in the way of one that was to be unique; lives for a day
--
-- States: d deferred, r ready, x running, s successful, f failed.
-- Flags: d inserted as deferred, e in :expires, u unique, p unique while pending, c somebody wants it cancelled, l the
-- rest is in :payloads, m there is more in :results; - none.

local call, match, find, gsub, concat = redis.call, string.match, string.find, string.gsub, table.concat
local base = KEYS[1]
local TASKS, LIVE, ALL = base .. ':tasks', base .. ':live', base .. ':all'
local READY, HEADS, QUEUES, DEFERRED = base .. ':ready:', base .. ':heads', base .. ':queues', base .. ':deferred'
local LEASES, EXPIRES = base .. ':leases', base .. ':expires'
local FINISHED = { s = base .. ':successful', f = base .. ':failed' }
local PAYLOADS, RESULTS = base .. ':payloads', base .. ':results'
local UNIQUE, HOLDS = base .. ':unique', base .. ':holds'
local PROGRESS, CANCELLING, COUNTS = base .. ':progress', base .. ':cancelling', base .. ':counts'

-- Lua hands a function no more values at once than fit its stack.
local MOST = 4000

local function with_all(command, key, values)
  for first = 1, #values, MOST do
    call(command, key, unpack(values, first, math.min(first + MOST - 1, #values)))
  end
end

local function values_of(key, ids)
  if #ids <= MOST then
    return #ids > 0 and call('HMGET', key, unpack(ids)) or {}
  end
  local found = {}
  for first = 1, #ids, MOST do
    for _, value in ipairs(call('HMGET', key, unpack(ids, first, math.min(first + MOST - 1, #ids)))) do
      found[#found + 1] = value
    end
  end
  return found
end

-- Lists of arguments, one for each key that several tasks are to be added to or removed from.
local function add(lists, key, ...)
  local list = lists[key]
  if not list then
    list = {}
    lists[key] = list
  end
  for index = 1, select('#', ...) do
    list[#list + 1] = select(index, ...)
  end
end

local function do_all(command, lists)
  for key, list in pairs(lists) do
    with_all(command, key, list)
  end
end

local counted = {}

local function count(state, queue, by)
  local field = state .. queue
  counted[field] = (counted[field] or 0) + by
end

-- Who sorts before whom in what is ready; each has a score, a number, and an id.
local function is_before(one, other)
  return one.score < other.score or (one.score == other.score and one.id < other.id)
end

local firsts = {}

-- Note that a task is ready, by its score as text, for `place_firsts`.
local function note_ready(queue, score, id)
  local first = firsts[queue]
  if not first then
    firsts[queue] = { text = score, score = tonumber(score), id = id }
  elseif score ~= first.text or id < first.id then
    local one = { text = score, score = tonumber(score), id = id }
    if is_before(one, first) then
      firsts[queue] = one
    end
  end
end

-- Move queues up in :heads to what has become ready before their first.
local function place_firsts()
  for queue, first in pairs(firsts) do
    local known = call('HGET', QUEUES, queue)
    local score, id
    if known then
      score, id = match(known, '^(%S+) (%S+)$')
    end
    if not known or is_before(first, { score = tonumber(score), id = id }) then
      if known then
        call('ZREM', HEADS, id .. ' ' .. queue)
      end
      call('ZADD', HEADS, first.text, first.id .. ' ' .. queue)
      call('HSET', QUEUES, queue, first.text .. ' ' .. first.id)
    end
  end
  firsts = {}
end

local function forget_queue(queue)
  local known = call('HGET', QUEUES, queue)
  if known then
    call('ZREM', HEADS, match(known, '%S+$') .. ' ' .. queue)
    call('HDEL', QUEUES, queue)
  end
end

-- What is nought stays for a while, for a queue that is in use has it again in a moment: it goes with the last task of
-- its queue, and the tokens for it.
local function tidy_counts(queue)
  local names, unused = { 'd' .. queue, 'r' .. queue, 'x' .. queue, 's' .. queue, 'f' .. queue }, {}
  for index, number in ipairs(call('HMGET', COUNTS, unpack(names))) do
    if not number or tonumber(number) <= 0 then
      unused[#unused + 1] = names[index]
    end
  end
  call('HDEL', COUNTS, unpack(unused))
  if #unused == #names then
    call('DEL', base .. ':bell:' .. queue)
    forget_queue(queue)
  end
end

local function write_counts()
  local unused = {}
  for field, by in pairs(counted) do
    if by ~= 0 and call('HINCRBY', COUNTS, field, by) <= 0 and find(field, '^[sf]') then
      unused[#unused + 1] = string.sub(field, 2)
    end
  end
  -- Not before all are written: what is ready again by an operator's retry may have been its queue's one finished task.
  for _, queue in ipairs(unused) do
    tidy_counts(queue)
  end
end

local function without(flags, letters)
  flags = gsub(flags, '[-' .. letters .. ']', '')
  return flags == '' and '-' or flags
end

-- The score in :ready of a priority. As text: to write a number down costs the server more than all the rest.
local function score_of(priority)
  if priority == '0' then
    return priority
  end
  return find(priority, '-', 1, true) and string.sub(priority, 2) or '-' .. priority
end

-- The first line of a task, which the live one repeats at the end of its own.
local function line_of(task)
  return match(task, '^[^\n]*')
end

local function state_in(line)
  return find(line, '^%S*d') and 'd' or 'r'
end

local function release_key(id)
  local key = call('HGET', HOLDS, id)
  if key then
    call('HDEL', HOLDS, id)
    local holder = call('HGET', UNIQUE, key)
    if holder and match(holder, '%S+$') == id then
      call('HDEL', UNIQUE, key)
    end
  end
end

-- One token wakes one worker. A token that nobody waits for stays, and makes the next who waits look once in vain.
local function ring(queue, most)
  for _, key in ipairs({ base .. ':bell:' .. queue, base .. ':bell:' }) do
    for _ = call('LLEN', key) + 1, most do
      call('RPUSH', key, '1')
    end
  end
end

-- Whoever waits until something is due must hear of what is due sooner. The new ones are told by id → queue.
local function ring_for_first(deferred)
  if next(deferred) then
    local first = call('ZRANGE', DEFERRED, '0', '0')[1]
    if deferred[first] then
      ring(deferred[first], 1)
    end
  end
end

-- A text and the rest of it, where a flag says that there is one.
local function whole(text, flags, letter, rests, id)
  return find(flags, letter, 1, true) and text .. (call('HGET', rests, id) or '') or text
end
