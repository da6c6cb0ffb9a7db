#!lua flags=allow-oom
-- Puts jobs elsewhere, by hand: into another queue, to another time or priority, out of the DLQ, away from a worker.
-- With: _places _throttles _family _groups _again
-- KEYS  1 <namespace>rrqd:token
-- ARGV  1 queue (short name), '' = each job's own   2 delay in ms from now, '' = its own time; of one that ran or was
--       buried: now   3 priority as text, '' = none, '=' = its own   4 states out of which a job is moved, joined by
--       spaces: waiting, buried, running   5 default queue   6 default DLQ   7 cancelled retention s   8.. job ids
-- Answer: for each 'moved' (it waited) | 'revived' (it was buried) | 'taken' (it ran; its worker was told) | 'cancelled'
--         (it ran, and somebody had cancelled it) | 'waiting' | 'buried' | 'running' (not to be moved out of that state)
--         | 'too-late' (ended, or run by a foreign worker) | 'unknown' | 'refused' (its place holds no queue)
-- Promise: the last run of a job that was taken can settle nothing any more. No job is in two places, or in none.

local to_queue, delay_ms, to_priority = ARGV[1], tonumber(ARGV[2]), ARGV[3]
local default_queue, default_dlq, retention = ARGV[5], ARGV[6], tonumber(ARGV[7])
local from = {}
for state in string.gmatch(ARGV[4], '%S+') do from[state] = true end

local FIELDS = { 'status', 'queue_name', 'rrqd_token', 'worker_id', 'function_name', 'rrqd_unique', 'rrqd_tracked',
  'rrqd_place', 'rrqd_due', 'rrqd_children', 'rrqd_throttles', 'rrqd_rate', 'rrqd_priority', 'rrqd_holds', 'rrqd_cancel',
  'rrqd_history', 'start_time', 'dlq_name', 'rrqd_tenant' }

local function read(id)
  local found, job = redis.pcall('HMGET', job_key(id), unpack(FIELDS)), {}
  if found.err then return job end
  for at, name in ipairs(FIELDS) do job[name] = found[at] or nil end
  return job
end

-- The priority to wait with; false: none.
local function priority_of(job)
  local own = to_priority
  if own == '=' then own = job.rrqd_priority or '' end
  if own == '' then return fair.resting(job.rrqd_tenant, job.rrqd_throttles or job.rrqd_rate) or false end
  return own
end

local function note(id, job, queue, due, past)
  local priority = priority_of(job)
  if to_priority ~= '=' then
    if priority then
      redis.call('HSET', job_key(id), 'rrqd_priority', priority)
    else
      redis.call('HDEL', job_key(id), 'rrqd_priority')
    end
  end
  if to_queue ~= '' then
    redis.call('HDEL', job_key(id), 'rrqd_home')
    redis.call('SADD', QUEUES_KEY, queue)
  end
  if delay_ms then redis.call('HSET', job_key(id), 'next_scheduled_run_time', iso_ms(tonumber(due))) end
  redis.call('HSET', job_key(id), 'queue_name', 'rrq:queue:' .. queue, 'rrqd_history', with_past(job.rrqd_history, past))
  if job.rrqd_tracked then tell(id, past.what == 'taken' and 'taken' or 'moved', { queue = queue }) end
end

local function where_to(job, own_due, nth)
  local own = short_queue(job.queue_name or default_queue)
  local due = delay_ms and score_text(NOW_MS + delay_ms + nth / 1000) or own_due
  return to_queue ~= '' and to_queue or own, due, own
end

local function shift(id, job, nth)
  local kind, queue = job.rrqd_place or '', short_queue(job.queue_name or '')
  local own_due = kind ~= '' and job.rrqd_due or redis.pcall('ZSCORE', queue_key(queue), id)
  if type(own_due) ~= 'string' or redis.call('EXISTS', lock_key(id)) == 1 then return 'too-late' end
  local to, due = where_to(job, own_due, nth)
  if kind == 'depends' then
    if type(redis.pcall('ZADD', depends_key(to), due, id)) == 'table' then return 'refused' end
    if to ~= queue then redis.call('ZREM', depends_key(queue), id) end
    redis.call('HSET', job_key(id), 'rrqd_due', due)
  elseif not move(id, queue, kind, own_due, to, due, priority_of(job)) then
    return 'refused'
  end
  if (kind == 'prio' or kind == 'fair') and job.rrqd_throttles then -- it may have been woken for a place that is now another's
    for _, name in ipairs(read_list(job.rrqd_throttles)) do next_of(name) end
  end
  note(id, job, to, due, { what = 'moved', at = NOW_ISO, why = 'from queue ' .. queue })
  return 'moved'
end

-- The worker hears of it at once, and again with its next claim.
local function tell_worker(worker, id, token)
  if redis.call('EXISTS', worker_key(worker)) == 0 then return end
  local noted = redis.call('HGET', worker_key(worker), 'cancels')
  local runs = noted and cjson.decode(noted) or {}
  runs[#runs + 1] = { token, id }
  redis.call('HSET', worker_key(worker), 'cancels', cjson.encode(runs))
  redis.call('PUBLISH', NS .. 'rrqd:to:' .. worker, 'taken ' .. token .. ' ' .. id)
end

local function take_away(id, job, nth)
  local worker, token = job.worker_id or '', job.rrqd_token
  local entry = redis.call('HGET', held_key(worker), id)
  local held, score = numbers(entry or '')
  local to, due = where_to(job, held == token and score or score_text(NOW_MS), nth)
  local past = { what = 'taken', at = NOW_ISO, began = job.start_time, worker = worker }
  fair.has_turn = true
  local put_back = job.rrqd_cancel or put(to, due, id, priority_of(job))
  fair.has_turn = false
  if not put_back then return 'refused' end
  if held == token then redis.call('HDEL', held_key(worker), id) end
  redis.call('HDEL', job_key(id), 'rrqd_token')
  if job.rrqd_cancel then
    redis.call('HSET', job_key(id), 'status', 'CANCELLED', 'completion_time', NOW_ISO)
    unique_of[id], listed_of[id] = job.rrqd_unique, job.rrqd_listed
    finish(id, 'cancelled', 'CANCELLED', retention)
    note_end(id, 'cancelled', retention, job.rrqd_children)
    if job.rrqd_tracked then tell(id, 'cancelled', { queue = to, worker = worker }) end
  else
    redis.call('HSET', job_key(id), 'status', 'PENDING')
    redis.call('HDEL', job_key(id), 'start_time', 'worker_id')
    note(id, job, to, due, past)
  end
  if job.rrqd_holds then let_go_of(id, job.rrqd_holds) end
  tell_worker(worker, id, token)
  return job.rrqd_cancel and 'cancelled' or 'taken'
end

local function dig_out(id, job, nth)
  local dlq = job.dlq_name and short_dlq(job.dlq_name) or default_dlq
  local _, due = where_to(job, score_text(NOW_MS + nth / 1000), nth)
  local what = bring_back(dlq, id, to_queue, due, default_queue, priority_of(job))
  if what ~= 'revived' then return what == 'refused' and what or 'too-late' end
  job = read(id)
  note(id, job, short_queue(job.queue_name), due, { what = 'moved', at = NOW_ISO, why = 'from the DLQ ' .. dlq })
  return 'revived'
end

local function state_of(job)
  local token = job.rrqd_token
  if token and string.sub(token, 1, 1) ~= '-' then return 'running', take_away end
  if job.status == 'FAILED' then return 'buried', dig_out end
  return 'waiting', shift
end

local answers, ended = {}, false
for at = 8, #ARGV do
  local id, answer = ARGV[at], nil
  local job = read(id)
  if not job.status and not job.function_name then
    answer = 'unknown'
  elseif job.status == 'COMPLETED' or job.status == 'CANCELLED' then
    answer = 'too-late'
  else
    local state, go = state_of(job)
    answer = from[state] and go(id, job, at - 8) or state
    ended = ended or answer == 'cancelled'
  end
  answers[#answers + 1] = answer
end
if ended then inform(TOLD_MOST) end
return answers
