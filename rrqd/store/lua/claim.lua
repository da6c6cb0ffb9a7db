#!lua flags=allow-oom
-- Hands due jobs to a worker: they leave their queue and are held by it, each under a fresh token.
-- With: _effort _places _jobs _lanes _throttles _family _rates
-- KEYS  1 <namespace>rrqd:token
-- ARGV  1 worker id  2 node id  3 turn  4 free slots  5 jobs it still runs
--       6 "n n …" what each queue may take at first, or '' for equal shares, and another queue first each turn
--       7.. queues (short names) in the order to try
-- Answer: {state, now ms, next due ms or '', full, hold, cancels, aside, jobs}
--   state 'ok' | 'closed' (the worker was closed or never opened) | 'lapsed' (its node's lease is not live)
--   jobs: {fields, id, token, score, alone, queue}, in msgpack when they are new (it costs a twentieth of all less);
--   fields: {name, value, …} all of the job's hash, or {function, enqueue time, params or ''} where the rest is usual
--   aside: {id, why, …}
-- Promise: no id is handed out while it is held, or locked by a foreign worker; the same turn asked twice gets the
--   same jobs; a suspect (aboard two deaths) is handed out only to a worker that runs nothing else. While other jobs
--   wait, one worker at a time empties itself for a queue's suspects, and the others run on.

local worker, node, turn = ARGV[1], ARGV[2], tonumber(ARGV[3])
local limit, running = tonumber(ARGV[4]), tonumber(ARGV[5])
local RESERVE_MS = 30000      -- how long suspects wait for one worker to empty itself, or to run one, before another may

local me = redis.call('HMGET', worker_key(worker), 'node', 'turn', 'cancels', 'closing', 'told', 'paused')
if not me[1] or me[4] then return { 'closed', score_text(NOW_MS), '', 0, 0, {}, {}, {} } end
local cancels = me[3] and cjson.decode(me[3]) or {}
do
  local told_turn, told = string.match(me[5] or '', '^(%d+) (.*)$')
  if tonumber(told_turn) == turn then -- the reply that told of these was lost
    for _, id in ipairs(cjson.decode(told)) do cancels[#cancels + 1] = id end
  end
end

-- The reply to this very turn was lost: say it again, from what is held. Before the lease is asked about: what was taken
-- while it was live is held, and a worker that did not learn of it would hold it for ever.
if tonumber(me[2]) == turn then
  local jobs, all = {}, redis.call('HGETALL', held_key(worker))
  for at = 1, #all, 2 do
    local token, score, taken_at = numbers(all[at + 1])
    if taken_at == ARGV[3] then
      local flat, f = look_up(all[at])
      if flat.err then flat = {} end
      jobs[#jobs + 1] = { flat, all[at], token, score, is_suspect(f) and 1 or 0, short_queue(f.queue_name or '') }
    end
  end
  table.sort(jobs, function(one, other) return tonumber(one[3]) < tonumber(other[3]) end)
  return { 'ok', score_text(NOW_MS), '', 1, 0, cancels, {}, jobs }
end

if (tonumber(redis.call('ZSCORE', NODES_KEY, node) or nil) or 0) <= NOW_MS then
  return { 'lapsed', score_text(NOW_MS), '', 0, 0, cancels, {}, {} }
end

-- A paused queue is passed over, also when it is asked what comes next.
local open_queues = {}
local paused = me[6] and cjson.decode(me[6])
local share_of = {}
local next_share = string.gmatch(ARGV[6], '%d+')
for n = 7, #ARGV do
  local share = next_share()
  share_of[ARGV[n]] = share and tonumber(share)
  if not (paused and paused[ARGV[n]]) then open_queues[#open_queues + 1] = ARGV[n] end
end
local queues = #open_queues

-- 1. Look: pick ids queue by queue; a share each first, then whatever is left. Nothing is written yet.
local picked, drop, aside, spoilt = {}, {}, {}, {}
local taken, hold, alone, next_due = {}, 0, 0, nil
local reserve = nil

-- What else is known of these queues: one read, whatever they use.
local stale_facts = {} -- their jobs have left: the next claim need not look
local fact = {}
if limit > 0 and queues > 0 then
  local asked = { 'endings' }
  for _, queue in ipairs(open_queues) do
    for _, what in ipairs({ 'high', 'zero', 'low', 'later', 'limit', 'fair', 'alone' }) do
      asked[#asked + 1] = what .. ' ' .. queue
    end
  end
  local known = redis.call('HMGET', FACTS_KEY, unpack(asked))
  if known[1] then -- some of those who wait to hear may be for this very worker
    inform(TOLD_MOST)
    known = redis.call('HMGET', FACTS_KEY, unpack(asked))
  end
  for at, name in ipairs(asked) do fact[name] = known[at] end
  for _, queue in ipairs(open_queues) do fair.now[queue] = tonumber(fact['fair ' .. queue] or nil) end
end

-- Jobs that a throttle stops go to wait for it; a bounded number a call.
local PARK_MOST = 50
local parks, defers, room, full_queues = {}, {}, {}, {}
local unused = {} -- throttles under which a job might have run that does not
local function has_room(throttle)
  if not room[throttle] then room[throttle] = room_of(throttle) end
  return room[throttle] > 0
end

local look = { apart = 0, last = {} } -- the steps of the look; one table, because a script may have 200 locals at most

-- What a job would hold, or nil and the first of its throttles that stops it.
function look.holds_of(queue, throttles)
  local names = read_list(throttles)
  for _, name in ipairs(names) do
    if not has_room(name) then return nil, name, names end
  end
  if fact['limit ' .. queue] then names[#names + 1] = 'queue:' .. queue end
  for _, name in ipairs(names) do
    has_room(name)
    room[name] = room[name] - 1
  end
  return #names > 0 and names or nil
end

-- Jobs with a priority whose time has come move to where their priority counts, a hundred in one call: they are a ms.
local RIPEN_MOST = 100
local ripe, all_ripe = 0, {}
function look.ripen(queue)
  local most = RIPEN_MOST - ripe
  if most <= 0 then return end
  local found = redis.pcall('ZRANGE', later_key(queue), '-inf', score_text(NOW_MS), 'BYSCORE', 'LIMIT', 0, most,
    'WITHSCORES')
  if found.err then
    spoilt['rrqd:work:later:' .. queue] = true
    return
  end
  all_ripe[queue] = #found < 2 * most
  for at = 1, #found, 2 do
    local id = found[at]
    local job = redis.pcall('HMGET', job_key(id), 'rrqd_priority', 'function_name')
    local priority = not job.err and (job[1] or job[2] and '0') -- one whose rate has given it a time may have none
    if priority then fact[lane_of(priority) .. ' ' .. queue] = '1' end
    if not priority or put(queue, found[at + 1], id, priority) then
      redis.call('ZREM', later_key(queue), id) -- also what is no such job any more
      ripe = ripe + 1
    else
      all_ripe[queue] = false
    end
  end
end

function look.at(lane, member, id, score, start)
  local queue = lane.queue
  if taken[id] then
    drop[#drop + 1] = { lane.key, member }
    return
  end
  if not is_text(id) then
    aside[#aside + 1] = { lane.key, member, id, 'its id is not UTF-8 text' }
    return
  end
  local flat, f = look_up(id)
  if flat.err then
    aside[#aside + 1] = { lane.key, member, id, 'rrq:job:' .. id .. ' is not a hash' }
    return
  end
  local status = f.status
  if not f.function_name and not status and not f.enqueue_time then
    drop[#drop + 1] = { lane.key, member } -- no such job (RRQ's rule: the id leaves the queue)
    return
  end
  if f.rrqd_token and string.sub(f.rrqd_token, 1, 1) ~= '-' then
    drop[#drop + 1] = { lane.key, member } -- held by somebody: queued twice by a foreign tool
    return
  end
  if status == 'COMPLETED' or status == 'CANCELLED' then
    drop[#drop + 1] = { lane.key, member }
    return
  end
  local home = f.queue_name == lane.home and queue or f.queue_name and short_queue(f.queue_name)
  if home == '' then home = nil end
  if not lane.prio and waits_elsewhere(home or queue, id, f.rrqd_place, f.rrqd_due) then
    drop[#drop + 1] = { lane.key, member } -- it waits in a place of ours: queued a second time by a foreign tool
    return
  end
  if home and home ~= queue and type(redis.pcall('ZSCORE', queue_key(home), id)) == 'string' then
    drop[#drop + 1] = { lane.key, member } -- moved by a debounce that left the old entry behind
    return
  end
  if is_suspect(f) and not lane.alone then
    if not put_alone(home or queue, score, id, f.rrqd_priority) then return end
    for nth = #stale_facts, 1, -1 do -- where none was a moment ago
      if stale_facts[nth] == 'alone ' .. (home or queue) then table.remove(stale_facts, nth) end
    end
    drop[#drop + 1] = { lane.key, member }
    look.apart = look.apart + 1
    for _, name in ipairs(read_list(f.rrqd_throttles)) do unused[#unused + 1] = name end
    return
  end
  local holds = nil
  if f.rrqd_throttles or fact['limit ' .. queue] then
    local stop, names
    holds, stop, names = look.holds_of(queue, f.rrqd_throttles)
    if stop then
      effort.spent = effort.spent + 5
      parks[#parks + 1] = { key = lane.key, member = member, id = id, due = score, priority = f.rrqd_priority,
        stop = stop, names = names }
      return
    end
  end
  if lane.alone then
    reserve = queue
    if running > 0 or #picked > 0 then
      hold = 1
      return
    end
  end
  local at_ms = f.rrqd_rate and rate_stops(f.rrqd_rate, f.rrqd_slot == '1')
  if at_ms then
    effort.spent = effort.spent + 6
    defers[#defers + 1] = { key = lane.key, member = member, id = id, queue = queue, due = score_text(at_ms),
      priority = f.rrqd_priority or '0' }
    for _, name in ipairs(holds or {}) do room[name] = room[name] + 1 end
    return
  end
  if lane.alone then alone = 1 end
  taken[id] = true
  -- What is still to be written of it, and 1 MB of what goes to the caller is enough.
  local owed = 4 + #(f.job_params or '') / 1540
  if f.rrqd_history then owed = owed + #f.rrqd_history / 1540 end
  if f.rrqd_tracked then owed = owed + 4 end
  if holds then owed = owed + 2 * #holds end
  if f.rrqd_rate then owed = owed + 3 end
  effort.spent = effort.spent + owed
  picked[#picked + 1] = {
    id = id, score = score, queue = queue, flat = in_short(flat, f) or flat, home = home, ended = f.completion_time, unique = f.rrqd_unique,
    tracked = f.rrqd_tracked, key = lane.key, member = member, place = f.rrqd_place,
    holds = holds, slot = f.rrqd_slot, start = lane.fair and tonumber(start),
    ends = f.rrqd_unique or f.rrqd_tracked or f.rrqd_children or f.rrqd_listed or f.job_unique_key,
  }
end

-- Of RRQ's zset one read tells both: what is due, and what comes next. Answers how many of those found are due.
function look.due_among(lane, found, asked)
  if lane.prio then return #found / 2 end
  local due = #found / 2
  while due > 0 and tonumber(found[2 * due]) > NOW_MS do due = due - 1 end
  if due < #found / 2 then
    lane.next = found[2 * due + 2]
  elseif due <= asked then
    lane.next = false -- there is none
  end
  return math.min(asked, due)
end

function look.along(lane, want)
  while #picked < want and #parks + #defers + look.apart < PARK_MOST and hold == 0 and alone == 0 and not lane.empty
    and effort.spent < effort.MOST do
    local asked = want - #picked
    local found = redis.pcall('ZRANGE', lane.key, lane.from, lane.to, 'BYSCORE', 'LIMIT', lane.at,
      lane.prio and asked or asked + 1, 'WITHSCORES')
    if found.err then -- not a queue: the others are served all the same
      spoilt[string.sub(lane.key, #NS + 1)] = true
      return
    end
    local due = look.due_among(lane, found, asked)
    if due == 0 then
      if lane.fact and lane.at == 0 then stale_facts[#stale_facts + 1] = lane.fact end
      lane.empty = true
      return
    end
    local ids, locks = {}, {}
    for at = 1, 2 * due, 2 do
      local id = lane.prio and id_of_member(found[at]) or found[at]
      ids[#ids + 1] = id
      locks[#locks + 1] = lock_key(id)
    end
    local any_locked = redis.call('EXISTS', unpack(locks)) > 0
    for nth, id in ipairs(ids) do
      if hold == 1 or alone == 1 or effort.spent >= effort.MOST then break end
      -- What a foreign worker has locked is left in the queue.
      if not (any_locked and redis.call('EXISTS', locks[nth]) == 1) then
        local member = found[2 * nth - 1]
        look.at(lane, member, id, lane.prio and due_of_member(member) or found[2 * nth], found[2 * nth])
      end
    end
    lane.at = lane.at + #ids
    lane.empty = #ids < asked
    if lane.at > 4 * limit + 100 then return end
  end
end

-- Whether this worker is the one that runs a queue's suspects now, whatever else there is.
function look.may_empty_itself(reserved)
  local who, till = string.match(reserved, '^(%S+) (%d+)$')
  return who == worker or not till or tonumber(till) < NOW_MS
end

local lanes = {}
function look.into(queue, share)
  local own = fact['limit ' .. queue] and 'queue:' .. queue
  if own then
    if not has_room(own) then return end
    share = math.min(share, room[own])
  end
  local want = #picked + share
  if not lanes[queue] then
    if fact['later ' .. queue] then look.ripen(queue) end
    lanes[queue] = lanes_of(queue, fact, turn)
  end
  for _, lane in ipairs(lanes[queue]) do
    if not lane.alone then
      look.along(lane, want)
    elseif #picked >= want then
      break
    elseif look.may_empty_itself(fact[lane.fact]) then
      look.along(lane, #picked + 1)
    else
      look.last[#look.last + 1] = lane
    end
  end
end

if limit > 0 and queues > 0 then
  local share, order = math.ceil(limit / queues), open_queues
  if ARGV[6] == '' then
    order = {}
    for n = 0, queues - 1 do order[n + 1] = open_queues[1 + (turn + n) % queues] end
  end
  for _, queue in ipairs(order) do look.into(queue, math.min(share_of[queue] or share, limit - #picked)) end
  if queues > 1 and #picked < limit and hold == 0 and alone == 0 then
    for _, queue in ipairs(order) do
      if #picked < limit then look.into(queue, limit - #picked) end
    end
  end
  for _, lane in ipairs(look.last) do -- nothing else is to be done: then several may
    if running == 0 and #picked == 0 then look.along(lane, 1) end
  end
end
for _, queue in ipairs(open_queues) do -- whoever makes room in it wakes those who could fill it
  local own = 'queue:' .. queue
  if room[own] and room[own] <= 0 then full_queues[own] = true end
end
-- Dead entries count: there may be living ones behind those that one call has looked at.
local full = #picked >= limit or #drop + #aside > 0 or #parks + #defers > 0 or ripe >= RIPEN_MOST
  or effort.is_enough()
full = full and limit > 0 and 1 or 0
if full == 0 then
  local function note_next(name, known)
    local first = known ~= nil and { '', known } or redis.pcall('ZRANGE', NS .. name, '(' .. score_text(NOW_MS), '+inf',
      'BYSCORE', 'LIMIT', 0, 1, 'WITHSCORES')
    if first.err then
      spoilt[name] = true
    elseif first[2] and (not next_due or tonumber(first[2]) < tonumber(next_due)) then next_due = first[2] end
    return first[2] or first.err
  end
  for _, queue in ipairs(open_queues) do
    note_next('rrq:queue:' .. queue, lanes[queue] and lanes[queue].plain.next)
    if fact['later ' .. queue] and not note_next('rrqd:work:later:' .. queue) and all_ripe[queue] then
      stale_facts[#stale_facts + 1] = 'later ' .. queue
    end
  end
end

-- 2. Write. Nothing below can fail: the types of all keys have been seen.
if #stale_facts > 0 then redis.call('HDEL', FACTS_KEY, unpack(stale_facts)) end
for _, fact in ipairs(stale_facts) do
  noted[fact] = nil
  if string.sub(fact, 1, 5) == 'fair ' then fair.start_anew(string.sub(fact, 6)) end
end
do
  local dropped = {}
  for _, one in ipairs(drop) do
    dropped[one[1]] = dropped[one[1]] or {}
    table.insert(dropped[one[1]], one[2])
  end
  for key, members in pairs(dropped) do redis.call('ZREM', key, unpack(members)) end
end
for _, one in ipairs(parks) do
  if park(one.stop, one.id, one.due, one.priority) then redis.call('ZREM', one.key, one.member) end
  full_queues[one.stop] = true
end
for _, one in ipairs(defers) do
  local kind = put(one.queue, one.due, one.id, one.priority)
  if kind then
    local key, member = spots[kind](one.queue, one.id, one.due)
    if key ~= one.key or member ~= one.member then redis.call('ZREM', one.key, one.member) end -- its slot may be its age
    redis.call('HSET', job_key(one.id), 'rrqd_slot', '1', 'next_scheduled_run_time', iso_ms(tonumber(one.due)))
  end
end
keep_rates()
for name in pairs(full_queues) do redis.call('SADD', THROTTLED_KEY, name) end
for _, one in ipairs(parks) do
  for _, name in ipairs(one.names) do
    if name ~= one.stop then unused[#unused + 1] = name end
  end
end
for _, name in ipairs(unused) do -- it may be another's
  if not effort.is_enough() and has_room(name) then wake(name, 1) end -- else the steward finds it
end
local aside_answer = {}
for _, one in ipairs(aside) do
  redis.call('ZREM', one[1], one[2])
  redis.call('HSET', ASIDE_KEY, one[3], one[4])
  aside_answer[#aside_answer + 1] = one[3]
  aside_answer[#aside_answer + 1] = one[4]
end
for name in pairs(spoilt) do
  local why = name .. ' holds something that is not a queue.'
  if redis.call('HSETNX', ASIDE_KEY, name, why) == 1 then
    aside_answer[#aside_answer + 1] = name
    aside_answer[#aside_answer + 1] = why
  end
end
if reserve then redis.call('HSET', FACTS_KEY, 'alone ' .. reserve, worker .. ' ' .. whole(NOW_MS + RESERVE_MS)) end
if #cancels > 0 then
  redis.call('HSET', worker_key(worker), 'told', ARGV[3] .. ' ' .. cjson.encode(cancels))
  redis.call('HDEL', worker_key(worker), 'cancels')
elseif me[5] then
  redis.call('HDEL', worker_key(worker), 'told')
end

-- In two parts: C's formatting of a whole number is a tenth of that of one with a fraction, and holds 31 bits anywhere.
local function token_text(number)
  return string.format('%d%06d', math.floor(number / 1000000), number % 1000000)
end

local jobs = {}
if #picked > 0 then
  local last = tonumber(redis.call('GET', TOKEN_KEY) or '0')
  local first_token = math.max(last + 1, SEC * 1000000 + USEC)
  local by_key, held, by_throttle = {}, {}, {}
  for nth, one in ipairs(picked) do
    local id, score = one.id, one.score
    local token = token_text(first_token + nth - 1)
    local removed = by_key[one.key] or {}
    by_key[one.key] = removed
    removed[#removed + 1] = one.member
    held[#held + 1] = id
    held[#held + 1] = token .. ' ' .. score .. ' ' .. ARGV[3]
    local now = { 'status', 'ACTIVE', 'start_time', NOW_ISO, 'worker_id', worker, 'rrqd_token', token }
    if one.place then now[9], now[10] = 'rrqd_place', '' end
    if one.slot then
      now[#now + 1] = 'rrqd_slot'
      now[#now + 1] = ''
    end
    if one.ends then
      now[#now + 1] = 'rrqd_ends'
      now[#now + 1] = '1'
    end
    if one.holds then
      now[#now + 1] = 'rrqd_holds'
      now[#now + 1] = cjson.encode(one.holds)
      for _, name in ipairs(one.holds) do
        local holders = by_throttle[name] or {}
        by_throttle[name] = holders
        holders[#holders + 1] = id
        holders[#holders + 1] = token
      end
    end
    server_call('HSET', job_key(id), unpack(now)) -- it was counted when it was picked
    if one.ended then -- put back by a foreign tool that left the time to live of a buried job
      redis.call('PERSIST', job_key(id))
      redis.call('PERSIST', events_key(id))
    end
    if one.unique then free_unique(id, one.unique, true) end
    if not one.home then redis.call('HSET', job_key(id), 'queue_name', 'rrq:queue:' .. one.queue) end
    if one.tracked then tell(id, 'claimed', { queue = one.queue, worker = worker }) end
    jobs[nth] = { one.flat, id, token, score, alone, one.queue }
  end
  fair.pass_time(picked)
  for key, members in pairs(by_key) do redis.call('ZREM', key, unpack(members)) end
  for name, holders in pairs(by_throttle) do redis.call('HSET', holders_key(name), unpack(holders)) end
  redis.call('HSET', held_key(worker), unpack(held))
  redis.call('HSET', worker_key(worker), 'turn', turn)
  redis.call('SET', TOKEN_KEY, token_text(first_token + #picked - 1))
end
return { 'ok', score_text(NOW_MS), next_due or '', full, hold, cancels, aside_answer,
  #jobs > 0 and cmsgpack.pack(jobs) or jobs }
