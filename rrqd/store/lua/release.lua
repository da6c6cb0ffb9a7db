#!lua flags=allow-oom
-- Takes jobs from a worker and puts them back at their old place: drain, crash, reaping, by hand.
-- With: _effort _places _throttles _family
-- KEYS  1 <namespace>rrqd:token
-- ARGV  1 worker id   2 reason   3 charge: nobody | death | node   4 culprit's id or ''   5 max stalls   6 default DLQ
--       7 DLQ retention s   8 cancelled retention s   9 close: '1' = also refuse the worker's further claims
--       10 node that must have lapsed, or ''   11 most jobs in this call   12 what is known of the death, JSON, or ''
--       13.. id, token, id, token, … (none: all it holds)
-- Answer: {queued ids, buried ids, cancelled ids, more, done} ; done = 0: the node's lease is live, nothing was touched
-- Promise: after a close nothing the worker had under way can take a job; a job is charged at most once a death.

local worker, reason, charge, culprit = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local max_stalls, default_dlq = tonumber(ARGV[5]), ARGV[6]
local dlq_retention, cancelled_retention = tonumber(ARGV[7]), tonumber(ARGV[8])
local close, lapsed_node, most, story = ARGV[9] == '1', ARGV[10], tonumber(ARGV[11]), ARGV[12]

if lapsed_node ~= '' then
  local deadline = redis.call('ZSCORE', NODES_KEY, lapsed_node)
  if deadline and tonumber(deadline) > NOW_MS then return { {}, {}, {}, 0, 0 } end
end

local entries, more = {}, 0
local held = redis.call('HLEN', held_key(worker))
if #ARGV > 12 then
  for at = 13, #ARGV, 2 do
    local entry = redis.call('HGET', held_key(worker), ARGV[at])
    if entry then
      local token, score = numbers(entry)
      if token == ARGV[at + 1] then entries[#entries + 1] = { ARGV[at], token, score } end
    end
  end
elseif held > 0 then
  local all = redis.call('HGETALL', held_key(worker))
  for at = 1, #all, 2 do
    if #entries == most then
      more = 1
      break
    end
    local token, score = numbers(all[at + 1])
    entries[#entries + 1] = { all[at], token, score }
  end
end

-- Who pays. A known culprit pays alone; without one, a job that was alone pays; else all were merely aboard.
-- A call that does not take everything can't tell "alone", so the worker's own count decides. A machine that is gone
-- is rarely a job's work: there even one that was alone pays only if it has been aboard two deaths before.
local were_aboard = nil
local function price(id, aboard)
  if charge == 'nobody' then return 'free' end
  if charge == 'node' and (tonumber(aboard) or 0) < 2 then return 'aboard' end
  if culprit ~= '' then return id == culprit and 'stall' or 'free' end
  were_aboard = were_aboard or tonumber(redis.call('HGET', worker_key(worker), 'aboard') or held)
  return were_aboard == 1 and 'stall' or 'aboard'
end

-- How long a failed job wishes to be kept, s; nil: it does not say.
local function own_retention(id)
  local read, policy = pcall(cjson.decode, redis.call('HGET', job_key(id), 'rrqd_policy') or '{}')
  return read and type(policy) == 'table' and tonumber(policy.failure_ttl_seconds) or nil
end

local function put_back(queue, score, id, priority, aboard)
  if aboard >= SUSPECT_AFTER then return put_alone(queue, score, id, priority) end
  fair.has_turn = true
  local kind = put(queue, score, id, priority)
  fair.has_turn = false
  return kind
end

local queued, buried, cancelled, gone = {}, {}, {}, {}
for nth, entry in ipairs(entries) do
  if effort.is_enough() then
    more = 1
    break
  end
  local id, token, score = entry[1], entry[2], entry[3]
  gone[nth] = id
  local now = redis.pcall('HMGET', job_key(id), 'rrqd_token', 'rrqd_cancel', 'queue_name', 'dlq_name', 'rrqd_aboard',
    'rrqd_unique', 'rrqd_tracked', 'rrqd_priority',
    'rrqd_children', 'rrqd_holds', 'rrqd_history', 'start_time', 'rrqd_listed')
  if not now.err and now[1] == token then
    unique_of[id], listed_of[id] = now[6] or nil, now[13] or nil
    effort.weigh(now[11] or nil)
    local queue = short_queue(now[3] or '')
    local dlq = now[4] and short_dlq(now[4]) or default_dlq
    local cost = price(id, now[5])
    local stalls = cost == 'stall' and redis.call('HINCRBY', job_key(id), 'rrqd_stalls', 1) or 0
    local aboard = cost == 'aboard' and redis.call('HINCRBY', job_key(id), 'rrqd_aboard', 1) or tonumber(now[5] or nil) or 0
    redis.call('HDEL', job_key(id), 'rrqd_token')
    local event = 'released'
    if now[2] then
      redis.call('HSET', job_key(id), 'status', 'CANCELLED', 'completion_time', NOW_ISO)
      finish(id, 'cancelled', 'CANCELLED', cancelled_retention)
      cancelled[#cancelled + 1] = id
      event = 'cancelled'
    elseif stalls >= max_stalls then
      local message = 'Poison: the worker died ' .. stalls .. ' times while running this job; last: ' .. reason
      local known = { type = 'poison', message = message, stalls = stalls, reason = reason, worker_id = worker }
      local detail = cjson.encode(known)
      -- As it came: decoded and encoded again, an empty list would become an object.
      if story ~= '' then detail = string.sub(detail, 1, -2) .. ',"death":' .. story .. '}' end
      bury(id, dlq, message, detail, own_retention(id) or dlq_retention)
      buried[#buried + 1] = id
      event = 'buried'
    elseif not put_back(queue, score, id, now[8], aboard) then
      bury(id, dlq, no_queue(queue), '', dlq_retention)
      buried[#buried + 1] = id
      event = 'buried'
    else
      redis.call('HSET', job_key(id), 'status', 'PENDING', 'rrqd_history', with_past(now[11], {
        what = 'released', at = NOW_ISO, began = now[12] or nil, worker = worker, why = reason }))
      if charge ~= 'nobody' then
        redis.call('HSET', job_key(id), 'last_error', 'Put back: its worker ended (' .. reason .. ').')
      end
      redis.call('HDEL', job_key(id), 'start_time', 'worker_id')
      queued[#queued + 1] = id
    end
    if now[10] then let_go_of(id, now[10]) end
    if event ~= 'released' then note_end(id, event == 'buried' and 'failed' or event, cancelled_retention, now[9]) end
    if now[7] then tell(id, event, { queue = queue, worker = worker, error = reason }) end
  end
end
if #gone > 0 then redis.call('HDEL', held_key(worker), unpack(gone)) end
if charge ~= 'nobody' and more == 1 then redis.call('HSETNX', worker_key(worker), 'aboard', held) end
if close then
  if more == 1 then
    redis.call('HDEL', worker_key(worker), 'turn') -- claims are refused from here on, though work is left
    redis.call('HSET', worker_key(worker), 'closing', '1')
  else
    local node = redis.call('HGET', worker_key(worker), 'node')
    redis.call('DEL', worker_key(worker), held_key(worker))
    if node then redis.call('SREM', node_key(node), worker) end
    if lapsed_node ~= '' then
      redis.call('SREM', node_key(lapsed_node), worker)
      if redis.call('SCARD', node_key(lapsed_node)) == 0 then redis.call('ZREM', NODES_KEY, lapsed_node) end
    end
  end
end
if #buried + #cancelled > 0 then inform(TOLD_MOST) end
return { queued, buried, cancelled, more, 1 }
