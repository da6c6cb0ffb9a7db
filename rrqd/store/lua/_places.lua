-- Where a job waits. Most wait in RRQ's zset, out of which real workers take them, too. A job with a wish of its own
-- waits in a key of ours, and its hash names the kind of that place: `rrqd_place` ('' or absent: RRQ's zset, or none,
-- because it is held or over) and `rrqd_due`, the score under which it would lie in RRQ's zset. One job, one place.
--   prio   rrqd:work:prio:<queue>   due jobs with a priority: negated priority -> "<due, µs> <id>": equals stay in order
--   later  rrqd:work:later:<queue>  jobs with a priority that are not due: due ms -> id; a claim moves them on
--   fair   rrqd:work:fair:<queue>   due jobs of tenants: virtual time -> member as in prio; see put_fair
--   alone  rrqd:work:alone:<queue>  due suspects, which run alone: as in prio
--   parked <name>  rrqd:parked:<throttle>  jobs that wait for a throttle (_throttles): as in prio
-- FACTS_KEY, a hash: "<what> <queue>" -> text, what a claim should know of its queues; one read for all of it.
local FACTS_KEY = NS .. 'rrqd:facts'

local function prio_key(queue) return NS .. 'rrqd:work:prio:' .. queue end
local function later_key(queue) return NS .. 'rrqd:work:later:' .. queue end
local function parked_key(throttle) return NS .. 'rrqd:parked:' .. throttle end

local SUSPECT_AFTER = 2 -- deaths aboard
local DUE_DIGITS = 20
local function prio_member(due_ms, id)
  local micros = math.max(0, math.min(tonumber(due_ms) * 1000, 9e18))
  return string.format('%0' .. DUE_DIGITS .. '.0f ', micros) .. id
end
local function id_of_member(member) return string.sub(member, DUE_DIGITS + 2) end
local function due_of_member(member) return score_text(tonumber(string.sub(member, 1, DUE_DIGITS)) / 1000) end

-- Tenants share a queue by start-time fair queueing. A queue has a virtual time, that of the job taken last (its fact
-- `fair` says it). A job that comes to wait gets that one, or its tenant's next, whichever is later, and the tenant's
-- next is then 1 / weight later. So a tenant's thousand jobs lie a thousand turns deep, and another's three lie among
-- the first. O(log n), however many tenants. A job that comes back undone, or from a throttle, is the first of all
-- (`has_turn`) and uses up no turn. (One table, because a script may have 200 locals at most.)
local fair = {
  has_turn = false,
  now = {},      -- queue -> its virtual time, in this call
  weight_of = {}, -- tenant -> its weight, in this call
  turn_of = {},  -- queue, tenant -> virtual time of its next job, in this call
}

function fair.key(queue) return NS .. 'rrqd:work:fair:' .. queue end

-- zset: tenant -> virtual time of its next job, while that is to come
function fair.turns_key(queue) return NS .. 'rrqd:turns:' .. queue end

function fair.text(number) return string.format('%.17g', number) end

-- What `rrqd_priority` of a tenant's job says, so that whoever puts it back knows: "fair <tenant>". Its rank is 0's.
function fair.tenant_of(priority) return string.match(priority, '^fair (.*)$') end

function fair.rank_of(priority) return (not priority or fair.tenant_of(priority)) and '0' or priority end

-- What a job waits with that has no priority: `limited`, its throttles or its rate, keep it out of RRQ's zset, too.
function fair.resting(tenant, limited)
  if tenant then return 'fair ' .. tenant end
  return limited and '0' or nil
end

-- Those that are not 1 stand in a hash.
function fair.weight(tenant)
  if fair.any_weight == nil then fair.any_weight = redis.call('EXISTS', NS .. 'rrqd:weights') == 1 end
  if not fair.any_weight then return 1 end
  if not fair.weight_of[tenant] then
    local set = redis.pcall('HGET', NS .. 'rrqd:weights', tenant)
    fair.weight_of[tenant] = type(set) == 'string' and tonumber(set) or 1
  end
  return fair.weight_of[tenant]
end

function fair.time(queue)
  if not fair.now[queue] then
    local fact = 'fair ' .. queue
    fair.now[queue] = tonumber(redis.call('HGET', FACTS_KEY, fact) or nil)
    if not fair.now[queue] then
      fair.now[queue] = 0
      redis.call('HSET', FACTS_KEY, fact, '0')
      redis.call('SADD', QUEUES_KEY, queue)
    end
  end
  return fair.now[queue]
end

-- False when something else lies under the place's name, or under that of the turns.
function fair.put(queue, due_ms, id, tenant)
  local now, whose = fair.time(queue), queue .. '\n' .. tenant
  if not fair.turn_of[whose] then
    local own = redis.pcall('ZSCORE', fair.turns_key(queue), tenant)
    if type(own) == 'table' then return false end
    fair.turn_of[whose] = tonumber(own or nil) or 0
  end
  local start = fair.has_turn and now or math.max(now, fair.turn_of[whose])
  local done = redis.pcall('ZADD', fair.key(queue), fair.text(start), prio_member(due_ms, id))
  if type(done) == 'table' then return false end
  if not fair.has_turn then
    fair.turn_of[whose] = start + 1 / fair.weight(tenant)
    redis.call('ZADD', fair.turns_key(queue), fair.text(fair.turn_of[whose]), tenant)
  end
  return true
end

-- As text: no number is formatted, so none is rounded.
local function negated(number)
  return string.sub(number, 1, 1) == '-' and string.sub(number, 2) or '-' .. number
end

-- The fact that says that a queue has such jobs. 0 is the priority of jobs with a throttle or a rate: as if they had none,
-- but out of real workers' reach.
local function lane_of(priority)
  if fair.tenant_of(priority) then return 'fair' end
  local number = tonumber(priority) or 0
  return number > 0 and 'high' or number < 0 and 'low' or 'zero'
end

-- A queue with a fact is known by name, too: so whoever has put a job into such a place need not say it again.
local noted = {} -- in this call: a batch says it once
local function note_fact(what, queue)
  local fact = what .. ' ' .. queue
  if noted[fact] then return end
  noted[fact] = true
  if redis.call('HSET', FACTS_KEY, fact, '1') == 1 then redis.call('SADD', QUEUES_KEY, queue) end
end

local function note_place(id, kind, due_ms, fields)
  if not fields then
    redis.call('HSET', job_key(id), 'rrqd_place', kind, 'rrqd_due', due_ms)
    return
  end
  for _, word in ipairs({ 'rrqd_place', kind, 'rrqd_due', due_ms }) do fields[#fields + 1] = word end
end

-- Lets a job wait in a queue, in the place its priority asks for (nil or false: none). False when something else lies
-- under that place's name; then nothing is written; else the kind. A batch numbers its jobs by µs into the future: that
-- is due, too. `fields`: what the caller is about to write of the job; the place is added there.
local function put(queue, due_ms, id, priority, fields)
  if not priority then return place(queue, due_ms, id) and '' end
  local kind, fact, done = 'prio', lane_of(priority), nil
  if tonumber(due_ms) > NOW_MS + 1 then
    kind, fact = 'later', 'later'
    done = redis.pcall('ZADD', later_key(queue), due_ms, id)
  elseif fact == 'fair' then
    if not fair.put(queue, due_ms, id, fair.tenant_of(priority)) then return false end
    note_place(id, 'fair', due_ms, fields)
    return 'fair'
  else
    done = redis.pcall('ZADD', prio_key(queue), negated(priority), prio_member(due_ms, id))
  end
  if type(done) == 'table' then return false end
  note_fact(fact, queue)
  note_place(id, kind, due_ms, fields)
  return kind
end

-- kind -> function(queue, id, due_ms) -> key of the zset and member, where such a job lies.
local spots = {
  [''] = function(queue, id) return queue_key(queue), id end,
  prio = function(queue, id, due_ms) return prio_key(queue), prio_member(due_ms, id) end,
  later = function(queue, id) return later_key(queue), id end,
  fair = function(queue, id, due_ms) return fair.key(queue), prio_member(due_ms, id) end,
  alone = function(queue, id, due_ms) return NS .. 'rrqd:work:alone:' .. queue, prio_member(due_ms, id) end,
}
setmetatable(spots, { __index = function(_, kind)
  local throttle = string.match(kind, '^parked (.*)$')
  return throttle and function(_, id, due_ms) return parked_key(throttle), prio_member(due_ms, id) end
end })

-- Lets a suspect wait apart from its queue's others, who would wait behind it. False when something else lies under that
-- place's name; then nothing is written. The fact says whose turn it is to run one (claim.lua): it stays as it is.
local function put_alone(queue, due_ms, id, priority)
  local key, member = spots.alone(queue, id, due_ms)
  if type(redis.pcall('ZADD', key, negated(fair.rank_of(priority)), member)) == 'table' then return false end
  if redis.call('HSETNX', FACTS_KEY, 'alone ' .. queue, '1') == 1 then redis.call('SADD', QUEUES_KEY, queue) end
  note_place(id, 'alone', due_ms)
  return true
end

-- Whether a job that turns up in RRQ's zset already waits in a place of ours.
local function waits_elsewhere(queue, id, kind, due_ms)
  if not kind or kind == '' or not spots[kind] then return false end
  return type(redis.pcall('ZSCORE', spots[kind](queue, id, due_ms))) == 'string'
end

-- kind -> what else is done when a job is taken out of such a place: function(id, queue).
local leaving = {}

-- A tenant whose job goes without having run has its turn again.
function leaving.fair(id, queue)
  local tenant = redis.call('HGET', job_key(id), 'rrqd_tenant')
  if not tenant then return end
  fair.turn_of[queue .. '\n' .. tenant] = nil
  redis.call('ZADD', fair.turns_key(queue), 'XX', 'INCR', fair.text(-1 / fair.weight(tenant)), tenant)
end

-- Takes a waiting job out of its place, whichever that is. False when it waits nowhere.
local function take(queue, id, kind, due_ms)
  local spot = spots[kind or '']
  if not spot or redis.call('ZREM', spot(queue, id, due_ms)) == 0 then return false end
  if kind and kind ~= '' then redis.call('HSET', job_key(id), 'rrqd_place', '') end
  if leaving[kind] then leaving[kind](id, queue) end
  return true
end

-- From one place to another. Into the new one first: were that one spoilt, the job would stay where it is.
local function move(id, queue, kind, due_ms, to_queue, to_due_ms, priority)
  if kind == 'fair' and to_queue == queue and to_due_ms == due_ms and priority and fair.tenant_of(priority) then
    return true -- it keeps its turn
  end
  local to_kind = put(to_queue, to_due_ms, id, priority)
  if not to_kind then return false end
  local key, member = spots[kind or ''](queue, id, due_ms)
  local to_key, to_member = spots[to_kind](to_queue, id, to_due_ms)
  if key ~= to_key or member ~= to_member then
    redis.pcall('ZREM', key, member)
    if kind == 'fair' then leaving.fair(id, queue) end
  end
  if to_kind == '' and kind and kind ~= '' then redis.call('HSET', job_key(id), 'rrqd_place', '') end
  return true
end
