#!lua flags=allow-oom
-- Hands due jobs to a worker: they leave their queue and are held by it, each under a fresh token.
-- KEYS  1 <namespace>rrqd:token
-- ARGV  1 worker id  2 node id  3 turn  4 free slots  5 jobs it still runs  6.. queues (short names) in the order to try
-- Answer: {state, now ms, next due ms or '', full, hold, cancels, aside, jobs}
--   state 'ok' | 'closed' (the worker was closed or never opened) | 'lapsed' (its node's lease is not live)
--   jobs: {{name, value, … all fields of the job's hash}, id, token, score, alone, queue};  aside: {id, why, …}
-- Promise: no id is handed out while it is held, or locked by a foreign worker; the same turn asked twice gets the
--   same jobs; a suspect (aboard two deaths) is handed out only to a worker that runs nothing else.

local worker, node, turn = ARGV[1], ARGV[2], tonumber(ARGV[3])
local limit, running = tonumber(ARGV[4]), tonumber(ARGV[5])
local SUSPECT_AFTER = 2       -- deaths aboard
local RESERVE_MS = 30000      -- how long a suspect waits for one worker to empty itself before another may

local me = redis.call('HMGET', worker_key(worker), 'node', 'turn', 'cancels', 'closing', 'told')
if not me[1] or me[4] then return { 'closed', score_text(NOW_MS), '', 0, 0, {}, {}, {} } end
local cancels = me[3] and cjson.decode(me[3]) or {}
local told_turn, told = string.match(me[5] or '', '^(%d+) (.*)$')
if tonumber(told_turn) == turn then -- the reply that told of these was lost
  for _, id in ipairs(cjson.decode(told)) do cancels[#cancels + 1] = id end
end
-- Whether an id is UTF-8: one that is not can be named by no program that speaks JSON.
local function is_text(id)
  if not string.find(id, '[\128-\255]') then return true end
  for _, whole in ipairs({ '[\194-\223]', '\224[\160-\191]', '[\225-\236\238\239][\128-\191]', '\237[\128-\159]',
    '\240[\144-\191][\128-\191]', '[\241-\243][\128-\191][\128-\191]', '\244[\128-\143][\128-\191]' }) do
    id = string.gsub(id, whole .. '[\128-\191]', ' ')
  end
  return not string.find(id, '[\128-\255]')
end

-- A whole hash is cheaper to read than a dozen fields by name, most of which are absent. The second answer is the same
-- by name, in one table for all jobs: it is only good until the next call.
local f = {}
local function look_up(id)
  local flat = redis.pcall('HGETALL', job_key(id))
  for name in pairs(f) do f[name] = nil end
  for at = 1, #flat, 2 do f[flat[at]] = flat[at + 1] end
  return flat, f
end

local function is_suspect(f) return f.rrqd_aboard and tonumber(f.rrqd_aboard) >= SUSPECT_AFTER end

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

local deadline = redis.call('ZSCORE', NODES_KEY, node)
if not deadline or tonumber(deadline) <= NOW_MS then
  return { 'lapsed', score_text(NOW_MS), '', 0, 0, cancels, {}, {} }
end

-- 1. Look: pick ids queue by queue; a share each first, then whatever is left. Nothing is written yet.
local picked, drop, aside, spoilt = {}, {}, {}, {}
local taken, passed, hold, alone, next_due = {}, {}, 0, 0, nil
local reserve = nil

local function look_at(queue, id, score)
  if taken[id] then
    drop[#drop + 1] = { queue, id }
    return
  end
  if not is_text(id) then
    aside[#aside + 1] = { queue, id, 'its id is not UTF-8 text' }
    return
  end
  local flat, f = look_up(id)
  if flat.err then
    aside[#aside + 1] = { queue, id, 'rrq:job:' .. id .. ' is not a hash' }
    return
  end
  local status = f.status
  if not f.function_name and not status and not f.enqueue_time then
    drop[#drop + 1] = { queue, id } -- no such job (RRQ's rule: the id leaves the queue)
    return
  end
  if f.rrqd_token and string.sub(f.rrqd_token, 1, 1) ~= '-' then
    drop[#drop + 1] = { queue, id } -- held by somebody: queued twice by a foreign tool
    return
  end
  if status == 'COMPLETED' or status == 'CANCELLED' then
    drop[#drop + 1] = { queue, id }
    return
  end
  local home = f.queue_name and short_queue(f.queue_name)
  if home == '' then home = nil end
  if home and home ~= queue and type(redis.pcall('ZSCORE', queue_key(home), id)) == 'string' then
    drop[#drop + 1] = { queue, id } -- moved by a debounce that left the old entry behind
    return
  end
  if is_suspect(f) then
    if running == 0 and #picked == 0 then
      alone = 1
    else
      local who, till = '', 0
      if f.rrqd_for then who, till = string.match(f.rrqd_for, '^(%S+) (%d+)$') end
      if who == worker or not till or tonumber(till) < NOW_MS then
        reserve = { id, worker .. ' ' .. string.format('%.0f', NOW_MS + RESERVE_MS) }
        hold = 1
      end
      return
    end
  end
  taken[id] = true
  picked[#picked + 1] = { id, score, queue, flat, home, f.completion_time }
end

local function look_in(queue, share)
  local offset = passed[queue] or 0
  local want = #picked + share
  while #picked < want and hold == 0 and alone == 0 do
    local found = redis.pcall('ZRANGE', queue_key(queue), '-inf', score_text(NOW_MS), 'BYSCORE', 'LIMIT', offset,
      want - #picked, 'WITHSCORES')
    if found.err then -- not a queue: the others are served all the same
      spoilt[queue] = true
      return
    end
    if #found == 0 then return end
    local locks = {}
    for at = 1, #found, 2 do locks[#locks + 1] = lock_key(found[at]) end
    local any_locked = redis.call('EXISTS', unpack(locks)) > 0
    for at = 1, #found, 2 do
      local id = found[at]
      if hold == 1 or alone == 1 then break end
      -- What a foreign worker has locked is left in the queue.
      if not (any_locked and redis.call('EXISTS', lock_key(id)) == 1) then look_at(queue, id, found[at + 1]) end
    end
    offset = offset + #found / 2
    passed[queue] = offset
    if offset > 4 * limit + 100 then return end
  end
end

local queues = #ARGV - 5
if limit > 0 and queues > 0 then
  local share = math.ceil(limit / queues)
  local order = {}
  for n = 0, queues - 1 do order[n + 1] = ARGV[6 + (turn + n) % queues] end
  for _, queue in ipairs(order) do look_in(queue, math.min(share, limit - #picked)) end
  if queues > 1 and #picked < limit and hold == 0 and alone == 0 then
    for _, queue in ipairs(order) do
      if #picked < limit then look_in(queue, limit - #picked) end
    end
  end
end
-- Dead entries count: there may be living ones behind those that one call has looked at.
local full = limit > 0 and (#picked >= limit or #drop + #aside > 0) and 1 or 0
if full == 0 then
  for n = 6, #ARGV do
    local first = redis.pcall('ZRANGE', queue_key(ARGV[n]), '(' .. score_text(NOW_MS), '+inf', 'BYSCORE', 'LIMIT', 0, 1,
      'WITHSCORES')
    if first.err then
      spoilt[ARGV[n]] = true
    elseif first[2] and (not next_due or tonumber(first[2]) < tonumber(next_due)) then next_due = first[2] end
  end
end

-- 2. Write. Nothing below can fail: the types of all keys have been seen.
for _, one in ipairs(drop) do redis.call('ZREM', queue_key(one[1]), one[2]) end
local aside_answer = {}
for _, one in ipairs(aside) do
  redis.call('ZREM', queue_key(one[1]), one[2])
  redis.call('HSET', ASIDE_KEY, one[2], one[3])
  aside_answer[#aside_answer + 1] = one[2]
  aside_answer[#aside_answer + 1] = one[3]
end
for queue in pairs(spoilt) do
  local name, why = 'rrq:queue:' .. queue, no_queue(queue)
  if redis.call('HSETNX', ASIDE_KEY, name, why) == 1 then
    aside_answer[#aside_answer + 1] = name
    aside_answer[#aside_answer + 1] = why
  end
end
if reserve then redis.call('HSET', job_key(reserve[1]), 'rrqd_for', reserve[2]) end
if #cancels > 0 then
  redis.call('HSET', worker_key(worker), 'told', ARGV[3] .. ' ' .. cjson.encode(cancels))
  redis.call('HDEL', worker_key(worker), 'cancels')
elseif me[5] then
  redis.call('HDEL', worker_key(worker), 'told')
end

local jobs = {}
if #picked > 0 then
  local last = tonumber(redis.call('GET', TOKEN_KEY) or '0')
  local first_token = math.max(last + 1, SEC * 1000000 + USEC)
  local by_queue, held = {}, {}
  for nth, one in ipairs(picked) do
    local id, score, queue = one[1], one[2], one[3]
    local token = string.format('%.0f', first_token + nth - 1)
    local removed = by_queue[queue] or {}
    by_queue[queue] = removed
    removed[#removed + 1] = id
    held[#held + 1] = id
    held[#held + 1] = token .. ' ' .. score .. ' ' .. ARGV[3]
    redis.call('HSET', job_key(id), 'status', 'ACTIVE', 'start_time', NOW_ISO, 'worker_id', worker, 'rrqd_token', token)
    if one[6] then -- put back by a foreign tool that left the time to live of a buried job
      redis.call('PERSIST', job_key(id))
      redis.call('PERSIST', events_key(id))
    end
    if not one[5] then redis.call('HSET', job_key(id), 'queue_name', 'rrq:queue:' .. queue) end
    jobs[nth] = { one[4], id, token, score, alone, queue }
  end
  for queue, members in pairs(by_queue) do redis.call('ZREM', queue_key(queue), unpack(members)) end
  redis.call('HSET', held_key(worker), unpack(held))
  redis.call('HSET', worker_key(worker), 'turn', turn)
  redis.call('SET', TOKEN_KEY, string.format('%.0f', first_token + #picked - 1))
end
return { 'ok', score_text(NOW_MS), next_due or '', full, hold, cancels, aside_answer, jobs }
