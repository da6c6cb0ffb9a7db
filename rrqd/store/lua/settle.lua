#!lua flags=allow-oom
-- Ends runs: each job leaves its holder for the state its verdict names.
-- With: _effort _places _throttles _family _steps _groups
-- KEYS  1 <namespace>rrqd:token
-- ARGV  1 worker id   2 default DLQ   3 DLQ retention s   4 cancelled retention s
--       5 msgpack: list of {id, token, end, result (of a divert: the queue; of a burial: the group or ''), ttl_seconds}, and
--         of other ends than a plain completion also: error, detail, delay_ms, step: nil or {queue?, name?,
--         params?, priority? (text, '' = none), parents?, parents_json?, on_parent}, most entries of its history?,
--         most completed jobs to keep of its queue?
-- Answer: for each 'ok' | 'stale' (another token holds it, or nobody) | 'gone' (no such job)
--         | 'broken' (what is stored of it does not let it end; it is set aside, its neighbours settle)
--         The first ones only, when there was much to do: the others are still to be asked for.
-- Promise: at most one settlement a token, however often it is asked; a repeat answers 'ok' again.

local worker, default_dlq = ARGV[1], ARGV[2]
local dlq_retention, cancelled_retention = tonumber(ARGV[3]), tonumber(ARGV[4])
local runs = cmsgpack.unpack(ARGV[5])
local answers, freed = {}, {}
local function done_key(queue) return NS .. 'rrqd:done:' .. queue end          -- zset: completed id -> µs, where only so many are kept

local function lay_down(id, err, detail, retention, settled)
  redis.call('HSET', job_key(id), 'rrqd_token', settled)
  local dlq = redis.call('HGET', job_key(id), 'dlq_name')
  bury(id, dlq and short_dlq(dlq) or default_dlq, err, detail, retention)
end

local function cancel(id, err, ttl, settled)
  redis.call('HSET', job_key(id), 'status', 'CANCELLED', 'completion_time', NOW_ISO, 'last_error', err,
    'rrqd_token', settled)
  finish(id, 'cancelled', 'CANCELLED', ttl)
end

local function requeue(id, status, delay_ms, err, settled, past_most)
  local due = NOW_MS + delay_ms
  local job = redis.call('HMGET', job_key(id), 'queue_name', 'rrqd_cancel', 'rrqd_priority',
    'rrqd_history', 'start_time')
  local queue = short_queue(job[1] or '')
  if job[2] then -- somebody cancelled it, and the run ended otherwise before it heard
    cancel(id, 'Job cancelled before its next run.', cancelled_retention, settled)
    return 'cancelled'
  end
  if not put(queue, score_text(due), id, job[3]) then
    lay_down(id, no_queue(queue) .. ' ' .. err, '', dlq_retention, settled)
    return 'buried'
  end
  effort.weigh(job[4] or nil)
  local what = status == 'RETRYING' and 'retrying' or 'snoozed'
  local past = with_past(job[4], { what = what, at = NOW_ISO, began = job[5] or nil, worker = worker,
    why = err ~= '' and err or nil }, past_most)
  redis.call('HSET', job_key(id), 'status', status, 'next_scheduled_run_time', iso_ms(due), 'rrqd_token', settled,
    'rrqd_history', past)
  if err ~= '' then redis.call('HSET', job_key(id), 'last_error', err) end
  return what
end

-- RRQ's count of failed attempts; one that is no number, or too large a one, must not stop the job from ending.
local function count_attempt(id)
  local made = tonumber(redis.call('HGET', job_key(id), 'current_retries') or '0') or 0
  redis.call('HSET', job_key(id), 'current_retries', whole(math.min(math.floor(made), 1e9) + 1))
end

-- Each end also marks the token as settled ('-' before it): a repeat of the same settlement finds it so. It answers
-- what has become of the job.
local ends = {}

-- Of a queue of which only so many completed jobs are kept the oldest go, at most two at a time.
local function keep_newest(id, most, ttl, nth)
  local done = done_key(short_queue(redis.call('HGET', job_key(id), 'queue_name') or ''))
  local added = redis.pcall('ZADD', done, whole(SEC * 1000000 + USEC + nth), id)
  if type(added) == 'table' then return end
  if ttl > 0 then redis.call('PEXPIREAT', done, whole(NOW_MS + math.min(ttl, 1e10) * 1000)) end
  local over = math.min(2, redis.call('ZCARD', done) - most)
  if over <= 0 then return end
  local old = redis.call('ZPOPMIN', done, over)
  for at = 1, #old, 2 do
    if redis.pcall('HGET', job_key(old[at]), 'status') == 'COMPLETED' then
      redis.call('DEL', job_key(old[at]), events_key(old[at]), log_key(old[at]))
    end
  end
end

function ends.complete(id, run, settled, key, nth)
  if run[4] == 'null' then -- what a missing result means, too
    server_call('HSET', key, 'completion_time', NOW_ISO, 'status', 'COMPLETED', 'rrqd_token', settled)
  else
    server_call('HSET', key, 'result', run[4], 'completion_time', NOW_ISO, 'status', 'COMPLETED',
      'rrqd_token', settled)
  end
  finish(id, 'completed', 'COMPLETED', run[5])
  if run[11] then keep_newest(id, run[11], run[5], nth) end
  return 'completed'
end

-- The same job goes on in its next step. One that can't is buried: its run is over, and nobody is there to be told no.
function ends.advance(id, run, settled)
  local step, job = run[9] or {}, read_step(id)
  if job.cancel then
    cancel(id, 'Job cancelled before its next step.', cancelled_retention, settled)
    return 'cancelled'
  end
  local waits, doomed, trouble = parents_of_step(id, step)
  if doomed then
    cancel(id, doom_text(doomed), cancelled_retention, settled)
    return 'cancelled'
  end
  local kind = not trouble and place_step(id, step, job, NOW_MS + run[8], waits)
  if not kind then
    lay_down(id, trouble or no_queue(step.queue or job.queue), '', dlq_retention, settled)
    return 'buried'
  end
  note_step(id, step, job, run[4])
  redis.call('HSET', job_key(id), 'status', 'PENDING', 'rrqd_token', settled)
  return 'advanced'
end

function ends.retry(id, run, settled)
  count_attempt(id)
  if run[7] ~= '' then redis.call('HSET', job_key(id), 'rrqd_error', run[7]) end
  return requeue(id, 'RETRYING', run[8], run[6], settled, run[10])
end

function ends.snooze(id, run, settled)
  local what = requeue(id, 'PENDING', run[8], '', settled, run[10])
  if what == 'snoozed' then redis.call('HDEL', job_key(id), 'start_time', 'worker_id') end
  return what
end

-- Unrun, to the queue of the runner that it names. It keeps its place in time, and where it was asked for.
function ends.divert(id, run, settled)
  redis.call('HSETNX', job_key(id), 'rrqd_home', redis.call('HGET', job_key(id), 'queue_name') or '')
  redis.call('HSET', job_key(id), 'queue_name', 'rrq:queue:' .. run[4])
  redis.call('HDEL', job_key(id), 'start_time', 'worker_id')
  local what = requeue(id, 'PENDING', 0, '', settled)
  return what == 'snoozed' and 'diverted' or what
end

function ends.bury(id, run, settled, _, nth)
  count_attempt(id)
  lay_down(id, run[6], run[7], run[5], settled)
  if run[4] ~= '' then
    redis.call('HSET', job_key(id), 'rrqd_group', run[4])
    redis.call('ZADD', group_key(run[4]), whole(SEC * 1000000 + USEC + nth), id)
    redis.call('SADD', GROUPS_KEY, run[4])
  end
  return 'buried'
end

function ends.cancel(id, run, settled)
  cancel(id, run[6], run[5], settled)
  return 'cancelled'
end

-- What a job has become -> what its children hear.
local HEARD = { completed = 'completed', buried = 'failed', cancelled = 'cancelled' }
local parent_ended, NOTHING = false, {}

for nth, run in ipairs(runs) do
  local spent = effort.spent
  if spent >= effort.MOST then break end
  effort.spent = spent + 5 -- what each end asks the server itself, uncounted
  local id, token = run[1], run[2]
  local key = job_key(id)
  local job = server_pcall('HMGET', key, 'rrqd_token', 'rrqd_holds', 'rrqd_ends')
  if job.err and is_obstacle(job) then return redis.error_reply(job.err) end
  local holds, settled = job[1], '-' .. token
  if holds == token then
    local more = NOTHING
    if job[3] then
      more = redis.call('HMGET', key, 'rrqd_unique', 'job_unique_key', 'rrqd_tracked', 'rrqd_children', 'rrqd_listed')
      unique_of[id] = more[1] or nil
      lock_of[id] = more[2] or nil
      listed_of[id] = more[5] or nil
    end
    local done, what = pcall(ends[run[3]], id, run, settled, key, nth)
    if not done then
      if is_obstacle(what) then return redis.error_reply(what.err) end
      redis.call('HSET', ASIDE_KEY, id, type(what) == 'table' and what.err or tostring(what))
    else
      if more[3] then tell(id, what, { worker = worker, error = run[6] ~= '' and run[6] or nil }) end
      if more[4] and HEARD[what] then
        note_end(id, HEARD[what], cancelled_retention, true)
        parent_ended = true
      end
    end
    if job[2] then let_go_of(id, job[2]) end
    freed[#freed + 1] = id
    answers[nth] = done and 'ok' or 'broken'
  elseif job.err or (not holds and redis.call('EXISTS', key) == 0) then
    answers[nth] = 'gone'
    freed[#freed + 1] = id
  elseif holds == settled then
    answers[nth] = 'ok'
    freed[#freed + 1] = id
  else
    answers[nth] = 'stale'
  end
end
if #freed > 0 then redis.call('HDEL', held_key(worker), unpack(freed)) end
if parent_ended then inform(TOLD_MOST) end
return answers
