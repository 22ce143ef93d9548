#!lua flags=allow-oom
-- Ask for running tasks to be cancelled. ARGV: their ids. Returns those that were running.

local asked, lives = {}, {}
for index, live in ipairs(values_of(LIVE, ARGV)) do
  local before, flags, rest = match(live or '', '^(%d+ x %S+ %S+ %S+ %S+ )(%S+)(.*)$')
  if before then
    local id = ARGV[index]
    asked[#asked + 1] = id
    lives[#lives + 1] = id
    lives[#lives + 1] = before .. gsub(without(flags, 'c') .. 'c', '-', '') .. rest
  end
end
with_all('HSET', LIVE, lives)
with_all('SADD', CANCELLING, asked)
return asked
