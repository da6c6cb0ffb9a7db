#!lua
-- Keeps the templates of recurring jobs.
-- KEYS  1 <namespace>rrqd:token
-- ARGV  1 'put'      2 id   3 offset ms from now, or '' = leave the next time   4.. field, value, …
--       1 'advance'  2 id   3 count as it was read   4 next ms as it was read   5 new count   6 new next ms
--       1 'remove'   2 id
-- Answer: put: 1 it is new | 0; advance: 1 | 0 somebody else was there, or it was changed; remove: 1 | 0 there was none
-- Promise: an interval that is changed moves the next time by the difference; the count of jobs made is never set back.

local verb, id = ARGV[1], ARGV[2]
local SCHEDULE_KEY = NS .. 'rrqd:recurring'          -- zset: id -> next nominal time, ms
local key = NS .. 'rrqd:recurring:' .. id            -- hash: function, options, interval_ms, next_ms, backlog, unique, count

local function set_next(next_ms)
  redis.call('HSET', key, 'next_ms', score_text(next_ms))
  redis.call('ZADD', SCHEDULE_KEY, score_text(next_ms), id)
end

if verb == 'put' then
  local was = redis.call('HMGET', key, 'interval_ms', 'next_ms')
  if #ARGV > 3 then redis.call('HSET', key, unpack(ARGV, 4)) end
  if ARGV[3] ~= '' then
    set_next(NOW_MS + tonumber(ARGV[3]))
  elseif was[1] then
    local now = redis.call('HGET', key, 'interval_ms')
    if now ~= was[1] then set_next(tonumber(was[2]) + tonumber(now) - tonumber(was[1])) end
  end
  return was[1] and 0 or 1
end

if verb == 'advance' then
  local was = redis.call('HMGET', key, 'count', 'next_ms')
  if (was[1] or '0') ~= ARGV[3] or was[2] ~= ARGV[4] then return 0 end
  redis.call('HSET', key, 'count', ARGV[5])
  set_next(tonumber(ARGV[6]))
  return 1
end

redis.call('ZREM', SCHEDULE_KEY, id)
redis.call('DEL', NS .. 'rrqd:cron:recurring:' .. id)
return redis.call('DEL', key)
