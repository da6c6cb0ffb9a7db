#!lua flags=allow-oom
-- Notes that a timetable's ticks, up to one, are dealt with though none of them has a job; or that an entry begins.
-- KEYS  1 <namespace>rrqd:token
-- ARGV  1 entry   2 epoch second   3 how many ticks were missed   4 version of its schedule   5 '1' = only if it is new
-- Answer: 1 when it was noted, 0 when another node had gone as far
-- Promise: an entry's last tick never goes back; what was missed is counted once.

local key, at, missed = NS .. 'rrqd:cron:' .. ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local last = tonumber(redis.call('HGET', key, 'last') or '')
if last and (ARGV[5] == '1' or at <= last) then return 0 end
redis.call('HSET', key, 'last', whole(at), 'version', ARGV[4])
if missed > 0 then redis.call('HINCRBY', key, 'missed', missed) end
return 1
