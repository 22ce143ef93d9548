#!lua flags=allow-oom
-- Note that workers are alive, on a full server too, for it is they who make room. ARGV: id and note of each.

with_all('HSET', base .. ':workers', ARGV)
return #ARGV
