-- Jobs that wait for others. A child lies in `rrqd:depends:<queue>` (place `depends`) until the last of its parents has
-- ended as it should; then it goes to where it would lie had it waited for nothing, at its own age.
--   rrqd:parents:<child>    set: parents it still waits for
--   rrqd:children:<parent>  zset: child -> its due ms: children told of the parent's completion only (policy `hold`)
--   rrqd:heirs:<parent>     zset: the same for children told of any end (policies `cancel` and `run`)
--   rrqd:kin                zset: parents with children -> ms since when; what is looked through for ends unheard of
--   rrqd:endings            list: "how retention_seconds parent", of parents whose children are still to be told
-- A parent's end only leaves its line in `rrqd:endings`; the children are told in steps: some by the same call, the
-- others by further settlements and claims, and by the steward's chore when there are none.
local KIN_KEY, ENDINGS_KEY = NS .. 'rrqd:kin', NS .. 'rrqd:endings'
local TOLD_MOST = 50 -- children told by one call: a ms
local WALK_MOST = 1000

local function parents_key(child) return NS .. 'rrqd:parents:' .. child end
local function depends_key(queue) return NS .. 'rrqd:depends:' .. queue end
local function children_key(parent, policy)
  return NS .. (policy == 'hold' and 'rrqd:children:' or 'rrqd:heirs:') .. parent
end

local linked = {} -- parents that are noted as such: one call may bring many children of one parent
local function link(child, parent, policy, due_ms)
  redis.call('SADD', parents_key(child), parent)
  redis.call('ZADD', children_key(parent, policy), due_ms, child)
  if linked[parent] then return end
  linked[parent] = true
  redis.call('ZADD', KIN_KEY, 'NX', score_text(NOW_MS), parent)
  redis.call('HSET', job_key(parent), 'rrqd_children', '1', 'rrqd_ends', '1')
end

local function forget_kin(parent)
  linked[parent] = nil
  if redis.call('EXISTS', children_key(parent, 'hold'), children_key(parent, 'run')) == 0 then
    redis.call('ZREM', KIN_KEY, parent)
  end
end

local function unlink(child, parent, policy)
  if redis.call('SREM', parents_key(child), parent) == 0 then return false end
  redis.call('ZREM', children_key(parent, policy), child)
  forget_kin(parent)
  return true
end

-- A child that waits no more, and will not run: none of its parents knows it any longer. Answers how many that were.
local function disown(child, policy)
  local parents = redis.call('SMEMBERS', parents_key(child))
  for _, parent in ipairs(parents) do unlink(child, parent, policy) end
  return #parents
end

spots.depends = function(queue, id) return depends_key(queue), id end
leaving.depends = function(id) disown(id, redis.call('HGET', job_key(id), 'rrqd_on_parent') or 'hold') end

-- From `parent`, whom does it wait for, and those for whom, … : is `child` among them? nil: too many to say.
local function waits_for(parent, child)
  local seen, line, at = { [parent] = true }, { parent }, 1
  while line[at] do
    if line[at] == child then return true end
    if at > WALK_MOST then return nil end
    for _, next_one in ipairs(redis.call('SMEMBERS', parents_key(line[at]))) do
      if not seen[next_one] then
        seen[next_one] = true
        line[#line + 1] = next_one
      end
    end
    at = at + 1
  end
  return false
end

-- Which of these parents have to be waited for. `doomed`: one has ended in a way that ends the child, too. `unknown`:
-- one is no job.
local function unmet(parents, policy)
  local waits, doomed = {}, nil
  for _, parent in ipairs(parents) do
    local there = redis.pcall('HMGET', job_key(parent), 'status', 'function_name')
    if there.err or not (there[1] or there[2]) then return {}, nil, parent end
    local failed = there[1] == 'FAILED' or there[1] == 'CANCELLED'
    if failed and policy == 'cancel' then
      doomed = doomed or parent
    elseif there[1] ~= 'COMPLETED' and not (failed and policy == 'run') then
      waits[#waits + 1] = parent
    end
  end
  return waits, doomed, nil
end

local function doom_text(parent) return 'Cancelled: it depends on job ' .. parent .. ', which has not completed.' end

-- A parent has ended: 'completed' | 'failed' | 'cancelled'. `has_children`: its field of that name; most have none.
local function note_end(parent, how, retention, has_children)
  if not has_children then return end
  redis.call('RPUSH', ENDINGS_KEY, how .. ' ' .. whole(retention) .. ' ' .. parent)
  redis.call('HSET', FACTS_KEY, 'endings', '1')
end

-- A child with no parent left to wait for goes on. False when its place holds something else: it stays, set aside.
local function let_go(child, queue, due_ms, priority)
  local kind = put(queue, due_ms, child, priority)
  if not kind then
    redis.call('HSET', ASIDE_KEY, child, no_queue(queue) .. ' It waits for nothing else.')
    return false
  end
  redis.call('ZREM', depends_key(queue), child)
  if kind == '' then redis.call('HSET', job_key(child), 'rrqd_place', '') end
  return true
end

-- One child hears of one parent's end. Answers what that cost, in children.
local function hear(child, parent, how, retention)
  redis.call('SREM', parents_key(child), parent)
  local f = redis.pcall('HMGET', job_key(child), 'rrqd_place', 'queue_name', 'rrqd_due', 'rrqd_priority',
    'rrqd_on_parent', 'rrqd_unique', 'rrqd_tracked', 'rrqd_children', 'rrqd_listed')
  if f.err or f[1] ~= 'depends' then
    redis.call('DEL', parents_key(child)) -- it is gone
    return 1
  end
  local queue = short_queue(f[2] or '')
  if how ~= 'completed' and f[5] == 'cancel' then
    local others = disown(child, 'cancel')
    redis.call('ZREM', depends_key(queue), child)
    redis.call('HSET', job_key(child), 'status', 'CANCELLED', 'completion_time', NOW_ISO, 'last_error',
      doom_text(parent), 'rrqd_place', '')
    unique_of[child], listed_of[child] = f[6] or nil, f[9] or nil
    finish(child, 'cancelled', 'CANCELLED', retention)
    if f[7] then tell(child, 'cancelled', { queue = queue, error = doom_text(parent) }) end
    note_end(child, 'cancelled', retention, f[8])
    return 1 + others
  end
  if redis.call('EXISTS', parents_key(child)) == 0 and let_go(child, queue, f[3], f[4]) and f[7] then
    tell(child, 'ready', { queue = queue })
  end
  return 1
end

-- Whether a parent that had failed has been brought back meanwhile: then it ends once more, and that counts.
local function is_back(parent, how)
  if how == 'completed' then return false end
  local status = redis.pcall('HGET', job_key(parent), 'status')
  return status == 'PENDING' or status == 'ACTIVE' or status == 'RETRYING'
end

-- Tells children of ended parents, about `most` of them; parents take turns. Those of one parent hear in their order.
local function inform(most)
  while most > 0 do
    local entry = redis.call('LPOP', ENDINGS_KEY)
    if not entry then break end
    most = most - 1
    local how, retention, parent = string.match(entry, '^(%S+) (%S+) (.*)$')
    if not is_back(parent, how) then
      local left = false
      for _, policy in ipairs(how == 'completed' and { 'hold', 'run' } or { 'run' }) do
        local key = children_key(parent, policy)
        local told = redis.call('ZPOPMIN', key, math.min(most, 10))
        for at = 1, #told, 2 do most = most - hear(told[at], parent, how, tonumber(retention)) end
        left = left or redis.call('EXISTS', key) == 1
      end
      if left then redis.call('RPUSH', ENDINGS_KEY, entry) else forget_kin(parent) end
    end
  end
  if redis.call('EXISTS', ENDINGS_KEY) == 0 then redis.call('HDEL', FACTS_KEY, 'endings') end
end
