#!lua flags=allow-oom
-- Tells jobs that wait for others of ends they have not heard of yet, in a step of bounded length: the rest of many
-- children, and those of parents that a foreign worker ended or whose record has expired.
-- With: _places _family
-- KEYS  1 <namespace>rrqd:token
-- ARGV  1 where to go on looking through the parents, from 0   2 parents to look at   3 cancelled retention s
-- Answer: {whether there are children left to tell, where to go on next time (0: all have been looked at)}
-- Promise: each child hears of each parent once; repeated it goes on where it was.

local from, most, retention = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local ENDS = { COMPLETED = 'completed', FAILED = 'failed', CANCELLED = 'cancelled' }

local parents = most > 0 and redis.call('ZRANGE', KIN_KEY, from, from + most - 1) or {}
local idle = redis.call('EXISTS', ENDINGS_KEY) == 0 -- else some of them are just being told
for _, parent in ipairs(parents) do
  local there = redis.pcall('HMGET', job_key(parent), 'status', 'function_name')
  local how = ENDS[there[1]]
  if there.err or not (there[1] or there[2]) then how = 'cancelled' end -- it is gone: it can't complete any more
  local heard = how == 'completed' and children_key(parent, 'hold') or children_key(parent, 'run')
  if idle and how and redis.call('EXISTS', heard, children_key(parent, 'run')) > 0 then
    note_end(parent, how, retention, true)
  end
end
inform(TOLD_MOST)
return { redis.call('EXISTS', ENDINGS_KEY), #parents == most and most > 0 and from + most or 0 }
