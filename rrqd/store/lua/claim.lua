#!lua flags=allow-oom
-- Hands due jobs to a worker: they leave their queue and are held by it, each under a fresh token.
-- KEYS  1 <namespace>rrqd:token
-- ARGV  1 worker id  2 node id  3 turn  4 free slots  5 jobs it still runs  6.. queues (short names) in the order to try
-- Answer: {state, now ms, next due ms or '', full, hold, cancels, aside, jobs}
--   state 'ok' | 'closed' (the worker was closed or never opened) | 'lapsed' (its node's lease is not live)
--   jobs: {id, token, score, alone, queue, values of CLAIM_FIELDS…};  aside: {id, why, …}
-- Promise: no id is handed out while it is held, or locked by a foreign worker; the same turn asked twice gets the
--   same jobs; a suspect (aboard two deaths) is handed out only to a worker that runs nothing else.

local worker, node, turn = ARGV[1], ARGV[2], tonumber(ARGV[3])
local limit, running = tonumber(ARGV[4]), tonumber(ARGV[5])
local SUSPECT_AFTER = 2       -- deaths aboard
local RESERVE_MS = 30000      -- how long a suspect waits for one worker to empty itself before another may

local me = redis.call('HMGET', worker_key(worker), 'node', 'turn', 'last', 'cancels', 'closing', 'told')
if not me[1] or me[5] then return { 'closed', score_text(NOW_MS), '', 0, 0, {}, {}, {} } end
local cancels = me[4] and cjson.decode(me[4]) or {}
local told_turn, told = string.match(me[6] or '', '^(%d+) (.*)$')
if tonumber(told_turn) == turn then -- the reply that told of these was lost
  for _, id in ipairs(cjson.decode(told)) do cancels[#cancels + 1] = id end
end
local deadline = redis.call('ZSCORE', NODES_KEY, node)
if not deadline or tonumber(deadline) <= NOW_MS then
  return { 'lapsed', score_text(NOW_MS), '', 0, 0, cancels, {}, {} }
end

local function fields_of(id)
  return redis.pcall('HMGET', job_key(id), 'function_name', 'job_params', 'enqueue_time', 'queue_name',
    'current_retries', 'max_retries', 'job_timeout_seconds', 'result_ttl_seconds', 'trace_context',
    'correlation_context', 'rrqd_policy', 'status', 'rrqd_token', 'rrqd_aboard', 'rrqd_for')
end

local function row(id, token, score, alone, queue, f)
  local values = { id, token, score, alone, queue }
  for at = 1, 11 do values[5 + at] = f[at] end
  return values
end

-- The reply to this very turn was lost: say it again, from what is held.
if tonumber(me[2]) == turn and me[3] then
  local jobs = {}
  for _, id in ipairs(cjson.decode(me[3])) do
    local entry = redis.call('HGET', held_key(worker), id)
    if entry then
      local token, score = numbers(entry)
      local f = fields_of(id)
      local alone = f[14] and tonumber(f[14]) >= SUSPECT_AFTER and 1 or 0
      jobs[#jobs + 1] = row(id, token, score, alone, short_queue(f[4] or ''), f)
    end
  end
  return { 'ok', score_text(NOW_MS), '', 1, 0, cancels, {}, jobs }
end

-- 1. Look: pick ids queue by queue; a share each first, then whatever is left. Nothing is written yet.
local picked, drop, aside, spoilt = {}, {}, {}, {}
local taken, hold, alone, next_due = {}, 0, 0, nil
local reserve = nil

local function look_at(queue, id, score)
  if taken[id] then
    drop[#drop + 1] = { queue, id }
    return
  end
  local f = fields_of(id)
  if f.err then
    aside[#aside + 1] = { queue, id, 'rrq:job:' .. id .. ' is not a hash' }
    return
  end
  local status = f[12]
  if not f[1] and not status and not f[3] then
    drop[#drop + 1] = { queue, id } -- no such job (RRQ's rule: the id leaves the queue)
    return
  end
  if f[13] and string.sub(f[13], 1, 1) ~= '-' then
    drop[#drop + 1] = { queue, id } -- held by somebody: queued twice by a foreign tool
    return
  end
  if status == 'COMPLETED' or status == 'CANCELLED' then
    drop[#drop + 1] = { queue, id }
    return
  end
  local home = f[4] and short_queue(f[4])
  if home and home ~= queue and redis.call('ZSCORE', queue_key(home), id) then
    drop[#drop + 1] = { queue, id } -- moved by a debounce that left the old entry behind
    return
  end
  if f[14] and tonumber(f[14]) >= SUSPECT_AFTER then
    if running == 0 and #picked == 0 then
      alone = 1
    else
      local who, till = '', 0
      if f[15] then who, till = string.match(f[15], '^(%S+) (%d+)$') end
      if who == worker or not till or tonumber(till) < NOW_MS then
        reserve = { id, worker .. ' ' .. string.format('%.0f', NOW_MS + RESERVE_MS) }
        hold = 1
      end
      return
    end
  end
  taken[id] = true
  picked[#picked + 1] = { id, score, queue, f }
end

local function look_in(queue, share)
  local offset = 0
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
local full = #picked >= limit and 1 or 0
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
elseif me[6] then
  redis.call('HDEL', worker_key(worker), 'told')
end

local jobs = {}
if #picked > 0 then
  local last = tonumber(redis.call('GET', TOKEN_KEY) or '0')
  local first_token = math.max(last + 1, SEC * 1000000 + USEC)
  local by_queue, held, ids = {}, {}, {}
  for nth, one in ipairs(picked) do
    local id, score, queue, f = one[1], one[2], one[3], one[4]
    local token = string.format('%.0f', first_token + nth - 1)
    local removed = by_queue[queue] or {}
    by_queue[queue] = removed
    removed[#removed + 1] = id
    held[#held + 1] = id
    held[#held + 1] = token .. ' ' .. score
    ids[nth] = id
    redis.call('HSET', job_key(id), 'status', 'ACTIVE', 'start_time', NOW_ISO, 'worker_id', worker, 'rrqd_token', token)
    if not f[4] then redis.call('HSET', job_key(id), 'queue_name', 'rrq:queue:' .. queue) end
    jobs[nth] = row(id, token, score, alone, queue, f)
  end
  for queue, members in pairs(by_queue) do redis.call('ZREM', queue_key(queue), unpack(members)) end
  redis.call('HSET', held_key(worker), unpack(held))
  redis.call('HSET', worker_key(worker), 'turn', turn, 'last', cjson.encode(ids))
  redis.call('SET', TOKEN_KEY, string.format('%.0f', first_token + #picked - 1))
end
return { 'ok', score_text(NOW_MS), next_due or '', full, hold, cancels, aside_answer, jobs }
