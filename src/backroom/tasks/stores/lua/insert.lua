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

-- One by itself is looked for and written at once: each command costs a server that was idle as much as all the rest.
local is_alone = #drafts == 1 and not drafts[1].key
local known = is_alone and { call('HSETNX', TASKS, ids[1], drafts[1][2]) == 0 } or values_of(TASKS, ids)
local tasks, all, waiting, deferred, ready, collisions = {}, {}, {}, {}, {}, {}
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
      if not is_alone then
        tasks[#tasks + 1] = id
        tasks[#tasks + 1] = draft[2]
      end
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
        waiting[#waiting + 1] = draft.due
        waiting[#waiting + 1] = id
        deferred[id] = queue
        count('d', queue, 1)
      else
        local list = ready[queue]
        if not list then
          list = {}
          ready[queue] = list
        end
        local score = score_of(draft.priority)
        list[#list + 1] = score
        list[#list + 1] = id
        note_ready(queue, score, id)
      end
    end
  end
end

with_all('HSET', TASKS, tasks)
with_all('ZADD', ALL, all)
with_all('ZADD', DEFERRED, waiting)
for queue, list in pairs(ready) do
  with_all('ZADD', READY .. queue, list)
  count('r', queue, #list / 2)
  ring(queue, math.min(#list / 2, most))
end
place_firsts()
if most > 0 then
  ring_for_first(deferred)
end
write_counts()
return collisions
