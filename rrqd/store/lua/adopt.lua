#!lua flags=allow-oom
-- Puts back jobs that a foreign worker (a real RRQ one) held when it died.
-- With: _places _family
-- KEYS  1 <namespace>rrqd:token
-- ARGV  1 the worker's id, or '' for jobs of the first RRQ that say ACTIVE for ever   2 most jobs in this call
--       3 guard ms   4 max stalls   5 default queue   6 default DLQ   7 DLQ retention s   8.. job ids (only with '')
-- Answer: {state, put back ids, buried ids, jobs left alone because their lock lives, entries left}
--   state 'alive': its health record is there, nothing was touched | 'dead' | 'none': it lists no jobs
-- Promise: a job is put back only when its worker's health record and the job's own lock have both expired, which is
--   RRQ's own rule; it is under a lock of ours until it comes due again, `guard` ms from now, so that a real worker
--   that is recovering the same jobs at this moment, not in one step, does not queue it a second time.

local FOREIGN_KEY = NS .. 'rrqd:foreign'  -- set: real RRQ workers that were seen to run jobs
local worker, most, guard = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local max_stalls, default_queue = tonumber(ARGV[4]), ARGV[5]
local default_dlq, dlq_retention = ARGV[6], tonumber(ARGV[7])
local active_key = NS .. 'rrq:active:jobs:' .. worker

local function is_alive(id) return redis.call('EXISTS', NS .. 'rrq:health:worker:' .. id) == 1 end

local ids, size = {}, 0
if worker ~= '' then
  local counted = redis.pcall('ZCARD', active_key)
  size = type(counted) == 'number' and counted or 0
  if size == 0 then
    redis.call('SREM', FOREIGN_KEY, worker)
    return { 'none', {}, {}, 0, 0 }
  end
  if is_alive(worker) then return { 'alive', {}, {}, 0, size } end
  ids = redis.call('ZRANGE', active_key, 0, most - 1)
else
  for at = 8, #ARGV do ids[#ids + 1] = ARGV[at] end
end

-- Whoever was alone is blamed like the last of a lapsed node: only if it has been aboard two deaths before.
local function price(aboard)
  if worker == '' then return 'free' end
  return size == 1 and (tonumber(aboard) or 0) >= 2 and 'stall' or 'aboard'
end

local queued, buried, locked, over = {}, {}, 0, {}

-- One more; what a foreign hand has spoilt is not counted, and holds nothing up.
local function count(id, field)
  local number = redis.pcall('HINCRBY', job_key(id), field, 1)
  return type(number) == 'number' and number or 0
end

local function put_back(id, job)
  local queue = job[3] and short_queue(job[3]) or default_queue
  local dlq = job[4] and short_dlq(job[4]) or default_dlq
  local cost = price(job[6])
  local stalls = cost == 'stall' and count(id, 'rrqd_stalls') or 0
  if cost == 'aboard' then count(id, 'rrqd_aboard') end
  if job[8] then unique_of[id] = job[8] end
  redis.call('HDEL', job_key(id), 'start_time', 'worker_id')
  local before = #buried
  if stalls >= max_stalls then
    local message = 'Poison: workers died ' .. stalls .. ' times while running this job; last: ' .. worker
    bury(id, dlq, message, cjson.encode({ type = 'poison', message = message, stalls = stalls }), dlq_retention)
    buried[#buried + 1] = id
  elseif not put(queue, score_text(NOW_MS + guard), id, job[9]) then
    bury(id, dlq, no_queue(queue), '', dlq_retention)
    buried[#buried + 1] = id
  else
    redis.call('SET', lock_key(id), 'rrqd-adoption', 'PX', math.max(1, guard - 1))
    redis.call('HSET', job_key(id), 'status', job[1] == 'ACTIVE' and 'PENDING' or job[1], 'last_error',
      worker == '' and 'Put back: it was ACTIVE and nobody ran it.' or 'Put back: its worker is gone (' .. worker .. ').')
    redis.call('SADD', QUEUES_KEY, queue)
    queued[#queued + 1] = id
  end
  if #buried > before then note_end(id, 'failed', dlq_retention, job[11]) end
  if job[10] then tell(id, #buried > before and 'buried' or 'released', { queue = queue, worker = worker }) end
end

local function waits(id, job)
  if job[7] and job[7] ~= '' then return true end -- in a place of ours
  return type(redis.pcall('ZSCORE', queue_key(short_queue(job[3] or '')), id)) == 'string'
end

for _, id in ipairs(ids) do
  local job = redis.pcall('HMGET', job_key(id), 'status', 'rrqd_token', 'queue_name', 'dlq_name', 'worker_id',
    'rrqd_aboard', 'rrqd_place', 'rrqd_unique', 'rrqd_priority', 'rrqd_tracked', 'rrqd_children')
  local mine = not job.err and not (job[2] and string.sub(job[2], 1, 1) ~= '-')
  local living = mine and (job[1] == 'ACTIVE' or (worker ~= '' and (job[1] == 'PENDING' or job[1] == 'RETRYING')))
  if living and job[1] == 'ACTIVE' and job[5] and job[5] ~= '' and job[5] ~= worker then
    living = worker == '' and not is_alive(job[5]) -- another worker has it by now
  end
  if living and redis.call('EXISTS', lock_key(id)) == 1 then
    locked = locked + 1
  else
    over[#over + 1] = id
    if living and waits(id, job) then
      if job[1] == 'ACTIVE' then
        redis.call('HSET', job_key(id), 'status', 'PENDING')
        redis.call('HDEL', job_key(id), 'start_time', 'worker_id')
      end
    elseif living then
      put_back(id, job)
    end
  end
end
if worker ~= '' and #over > 0 then redis.call('ZREM', active_key, unpack(over)) end
local left = worker ~= '' and redis.call('ZCARD', active_key) or 0
if worker ~= '' and left == 0 then redis.call('SREM', FOREIGN_KEY, worker) end
return { 'dead', queued, buried, locked, left }
