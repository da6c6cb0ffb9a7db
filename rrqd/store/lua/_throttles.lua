-- Throttles: of the jobs that name one, only so many run at a time, over all queues. `queue:<name>` is a queue's own.
-- A job holds its throttles from the claim on, noted under its token in each and in its hash (`rrqd_holds`); whatever
-- ends the run lets go of them and moves the first of those that wait back to its queue. Needs _places.
local THROTTLED_KEY = NS .. 'rrqd:throttled' -- set: throttles at which something waits, or did a moment ago

local function throttle_key(name) return NS .. 'rrqd:throttle:' .. name end -- hash: limit, until (ms)
local function holders_key(name) return NS .. 'rrqd:holders:' .. name end   -- hash: id -> token

local function queue_of_throttle(name) return string.match(name, '^queue:(.*)$') end

-- How many more may run now.
local function room_of(name)
  local set = redis.pcall('HMGET', throttle_key(name), 'limit', 'until')
  if set.err or not set[1] or (set[2] and tonumber(set[2]) <= NOW_MS) then return math.huge end
  return tonumber(set[1]) - (tonumber(redis.pcall('HLEN', holders_key(name))) or 0)
end

-- Idle workers of a queue are woken by a touch of this key; nothing is kept in it.
local function poke(queue) redis.call('SET', NS .. 'rrqd:work:poke:' .. queue, '', 'PX', 1000) end

-- Lets a job wait at a throttle, in the order it had in its queue.
local function park(name, id, due_ms, priority, fields)
  local done = redis.pcall('ZADD', parked_key(name), negated(fair.rank_of(priority)), prio_member(due_ms, id))
  if type(done) == 'table' then return false end
  note_place(id, 'parked ' .. name, due_ms, fields)
  return true
end

-- Moves those that wait longest back to their queues; answers how many. There a claim looks at all their throttles.
local function wake(name, most)
  local found = redis.pcall('ZRANGE', parked_key(name), 0, most)
  if found.err then return 0 end
  local woken = math.min(#found, most)
  for at = 1, woken do
    local id = id_of_member(found[at])
    local job = redis.pcall('HMGET', job_key(id), 'rrqd_place', 'queue_name', 'rrqd_priority')
    if not job.err and job[1] == 'parked ' .. name and job[2] then
      local before = fair.has_turn
      fair.has_turn = true -- it keeps others from their place under the throttle while it waits for its turn
      put(short_queue(job[2]), due_of_member(found[at]), id, job[3] or '0')
      fair.has_turn = before
    end
    redis.call('ZREM', parked_key(name), found[at]) -- also what is no such job any more
  end
  if #found > 0 and #found <= most then redis.call('SREM', THROTTLED_KEY, name) end
  return woken
end

-- A place under a throttle has come free.
local function next_of(name)
  local queue = queue_of_throttle(name)
  if not queue then
    wake(name, 1)
  elseif redis.call('SREM', THROTTLED_KEY, name) == 1 then
    poke(queue)
  end
end

-- The run of a job is over, however that came. `holds`: what its hash says it holds.
local function let_go_of(id, holds)
  for _, name in ipairs(read_list(holds)) do
    if redis.pcall('HDEL', holders_key(name), id) == 1 then next_of(name) end
  end
end
