#!lua flags=allow-oom
-- Pauses queues, or resumes them: no rrqd worker claims from a paused one.
-- With: _paused
-- KEYS  1 <namespace>rrqd:token
-- ARGV  1 'pause' | 'resume'   2.. queues (short names)
-- Answer: the names that this call has changed.
-- Promise: no claim that comes after it takes a job of a paused queue. Claims pay nothing for that: each open worker's
--   own hash, which they read anyway, says what is paused; `open` tells newcomers.

local verb = ARGV[1]
local changed = {}
for at = 2, #ARGV do
  local done
  if verb == 'pause' then
    done = redis.call('HSETNX', PAUSED_KEY, ARGV[at], score_text(NOW_MS))
  else
    done = redis.call('HDEL', PAUSED_KEY, ARGV[at])
  end
  if done == 1 then changed[#changed + 1] = ARGV[at] end
end
local told = paused_text()
for _, node in ipairs(redis.call('ZRANGE', NODES_KEY, 0, -1)) do
  for _, worker in ipairs(redis.call('SMEMBERS', node_key(node))) do tell_paused(worker, told) end
end
return changed
