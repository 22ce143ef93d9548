#!lua
-- Add tasks. Refused as a whole when the server is out of memory.
--
-- ARGV: most tokens for each bell, seconds that a pointer lives (0: none), then for each task: id, task, and as its
-- flags say d: due_at, e: expires_at, u or p: unique key, end of its window ("-": none), the present moment, l: the rest
-- of the payload.
-- Returns id, holder, … of those whose unique key another one holds. What is there already is left as it is, so that
-- whoever had no answer may ask again.

local most, pointer_seconds = tonumber(ARGV[1]), tonumber(ARGV[2])
local ids = {}
local at = 3
local drafts = {}
while at <= #ARGV do
  local draft = { ARGV[at], ARGV[at + 1] }
  at = at + 2
  local flags, priority, queue = match(draft[2], '^(%S+) (%S+) ([^\n]*)\n')
  draft.flags, draft.priority, draft.queue = flags, priority, queue
  if flags ~= '-' then
    if find(flags, 'd', 1, true) then
      draft.due = ARGV[at]
      at = at + 1
    end
    if find(flags, 'e', 1, true) then
      draft.expires = ARGV[at]
      at = at + 1
    end
    if find(flags, '[up]') then
      draft.key, draft.until_, draft.now = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2])
      at = at + 3
    end
    if find(flags, 'l', 1, true) then
      draft.rest = ARGV[at]
      at = at + 1
    end
  end
  ids[#ids + 1] = draft[1]
  drafts[#drafts + 1] = draft
end

local fresh = {}

local function holder_of(draft)
  local value = call('HGET', UNIQUE, draft.key)
  if not value then
    return nil
  end
  local until_, holder = match(value, '^(%S+) (.*)$')
  if until_ ~= '-' and tonumber(until_) <= draft.now then
    call('HDEL', HOLDS, holder)
    return nil
  end
  -- A key that nobody has any more would never be given up.
  if not fresh[holder] and call('HEXISTS', TASKS, holder) == 0 then
    call('HDEL', HOLDS, holder)
    return nil
  end
  return holder
end

local known = values_of(TASKS, ids)
local tasks, all, waiting, ready, collisions = {}, {}, {}, {}, {}
for index, draft in ipairs(drafts) do
  local id, queue, holder = draft[1], draft.queue, nil
  if not known[index] then
    if draft.key then
      holder = holder_of(draft)
    end
    if holder then
      collisions[#collisions + 1] = id
      collisions[#collisions + 1] = holder
      if pointer_seconds > 0 then
        call('SET', base .. ':instead:' .. id, holder, 'EX', pointer_seconds)
      end
    else
      fresh[id] = true
      tasks[#tasks + 1] = id
      tasks[#tasks + 1] = draft[2]
      all[#all + 1] = '0'
      all[#all + 1] = id
      if draft.key then
        call('HSET', UNIQUE, draft.key, draft.until_ .. ' ' .. id)
        call('HSET', HOLDS, id, draft.key)
      end
      if draft.rest then
        call('HSET', PAYLOADS, id, draft.rest)
      end
      if draft.expires then
        call('ZADD', EXPIRES, draft.expires, id)
      end
      if draft.due then
        add(waiting, DEFERRED, draft.due, id)
        count('d', queue, 1)
      else
        add(waiting, READY .. queue, score_of(draft.priority), id)
        count('r', queue, 1)
        ready[queue] = (ready[queue] or 0) + 1
      end
    end
  end
end

with_all('HSET', TASKS, tasks)
with_all('ZADD', ALL, all)
do_all('ZADD', waiting)
for queue, number in pairs(ready) do
  call('SADD', QUEUES, queue)
  ring(queue, math.min(number, most))
end
write_counts()
return collisions
