-- What every script begins with: the map of the keys, and what several of them do.
--
-- KEYS[1] is what the names of all keys begin with; its hash tag keeps them in one slot.
-- KEYS[2] is there only so that a node refuses the script while a cluster moves that slot.
--   :s:HASH    hash    a session, by the hash of its id: "=name" → a value, and one letter for each field of its header:
--                      u user id, c created, t last seen, r got its id, x ends, a address, g user agent, l label
--   :ends      zset    hashes by the moment at which they end
--   :user:ID   zset    the hashes of a user's sessions by the moment at which they began
--   :users     zset    the ids of users with sessions, with the score 0: by name
--   :was:HASH  string  the hash that took the place of this one, and until when it is looked up by this one
-- Moments are microseconds. A session outlives its end by a day, for its end to be told; the server deletes it then.

local call = redis.call
local base = KEYS[1]
local ENDS, USERS = base .. ':ends', base .. ':users'
local DAY = 86400000
local HEADER = { 'u', 'c', 't', 'r', 'x', 'a', 'g', 'l' }

local function session(hash) return base .. ':s:' .. hash end
local function user(id) return base .. ':user:' .. id end

-- Run a command with so many of some values, in slices: Lua unpacks only a few thousand at once.
local function in_slices(command, name, values, first, last)
  for start = first, last, 2000 do
    call(command, name, unpack(values, start, math.min(start + 1999, last)))
  end
end

local function keep_until(hash, moment)
  call('ZADD', ENDS, moment, hash)
  call('PEXPIREAT', session(hash), string.format('%.0f', math.max(math.floor(moment / 1000), 0) + DAY))
end

local function join(id, hash, began)
  if id and id ~= '' then
    call('ZADD', user(id), began, hash)
    call('ZADD', USERS, 0, id)
  end
end

local function leave(id, hash)
  if id and id ~= '' then
    call('ZREM', user(id), hash)
    if call('EXISTS', user(id)) == 0 then call('ZREM', USERS, id) end
  end
end

local function header(hash)
  local found = call('HMGET', session(hash), unpack(HEADER))
  if not found[2] then return nil end
  for index = 1, #HEADER do found[index] = found[index] or '' end
  table.insert(found, 1, hash)
  return found
end

-- A page of a user's sessions, in the order in which they began: all that began at a moment, and so many of those after
-- them. Returns their hashes, and the moment at which the next page begins, or "" if this is the last one. A session that
-- gets a new id between two pages keeps its place in this order.
local function page(id, moment, many)
  local set = user(id)
  local first = call('ZCOUNT', set, '-inf', '(' .. moment)
  local last = first + many + call('ZCOUNT', set, moment, moment) - 1
  local found = call('ZRANGE', set, first, last)
  local final = found[last - first + 1]
  return found, final and call('ZSCORE', set, final) or ''
end

local function end_session(hash)
  local found = header(hash)
  call('ZREM', ENDS, hash)
  if found then
    call('DEL', session(hash))
    leave(found[2], hash)
  end
  return found
end

