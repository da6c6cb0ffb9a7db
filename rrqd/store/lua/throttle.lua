#!lua flags=allow-oom
-- Sets a throttle, lifts it, frees places under it by hand, and tends throttles at which something waits.
-- With: _places _throttles
-- KEYS  1 <namespace>rrqd:token
-- ARGV  1 'set'     2 name   3 limit   4 seconds until it is lifted by itself, or ''
--       1 'delete'  2 name
--       1 'free'    2 name   3.. ids of jobs that shall count no more
--       1 'tend'    2 most jobs to move   3.. names
-- Answer: set: 1 it is new | 0; delete: 1 | 0 there was none; free: how many counted;
--         tend: {how many jobs were moved, 1 when call again: there are more that no limit stops | 0}
-- Promise: bounded work. Tending finds what no release told of: a limit that was raised or has expired, a place held by
--   a job whose record is gone.

local verb = ARGV[1]
local THROTTLES_KEY = NS .. 'rrqd:throttles' -- set: names of throttles that were set
local SAMPLE = 20                            -- holders whose word is checked in one call

local function lift(name)
  local queue = queue_of_throttle(name)
  if queue then redis.call('HDEL', FACTS_KEY, 'limit ' .. queue) end
  redis.call('SREM', THROTTLES_KEY, name)
  return redis.call('DEL', throttle_key(name))
end

local function set(name, limit, seconds)
  local queue = queue_of_throttle(name)
  local fresh = redis.call('SADD', THROTTLES_KEY, name)
  redis.call('HSET', throttle_key(name), 'limit', limit)
  if seconds == '' then
    redis.call('HDEL', throttle_key(name), 'until')
  else
    redis.call('HSET', throttle_key(name), 'until', whole(NOW_MS + tonumber(seconds) * 1000))
  end
  if queue then
    redis.call('HSET', FACTS_KEY, 'limit ' .. queue, '1')
    poke(queue)
  end
  return fresh
end

-- Holders that hold nothing any more: their record is gone, or they run under another token. A few a call, by chance.
local function sweep(name)
  local some, gone = redis.call('HRANDFIELD', holders_key(name), SAMPLE, 'WITHVALUES'), 0
  for at = 1, #some, 2 do
    local token = some[at + 1]
    if redis.pcall('HGET', job_key(some[at]), 'rrqd_token') ~= token then
      gone = gone + redis.call('HDEL', holders_key(name), some[at])
    end
  end
  return gone
end

local again = 0
local function tend(name, most)
  local till = redis.call('HGET', throttle_key(name), 'until')
  if till and tonumber(till) <= NOW_MS then lift(name) end
  local room = room_of(name)
  if room <= 0 then room = room + sweep(name) end
  if room <= 0 then return 0 end
  local queue = queue_of_throttle(name)
  if queue then
    redis.call('SREM', THROTTLED_KEY, name)
    poke(queue)
    return 0
  end
  local moved = wake(name, math.min(room, most))
  if room == math.huge and moved == most then again = 1 end
  if moved == 0 then redis.call('SREM', THROTTLED_KEY, name) end
  return moved
end

if verb == 'set' then return set(ARGV[2], ARGV[3], ARGV[4]) end
if verb == 'delete' then
  local queue = queue_of_throttle(ARGV[2])
  local was = lift(ARGV[2])
  if queue then poke(queue) end
  return was
end
local done = 0
if verb == 'free' then
  for at = 3, #ARGV do
    if redis.call('HDEL', holders_key(ARGV[2]), ARGV[at]) == 1 then
      done = done + 1
      next_of(ARGV[2])
    end
  end
else
  local most = tonumber(ARGV[2])
  for at = 3, #ARGV do
    if done < most then done = done + tend(ARGV[at], most - done) end
  end
  return { done, again }
end
return done
