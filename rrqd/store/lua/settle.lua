#!lua flags=allow-oom
-- Ends runs: each job leaves its holder for the state its verdict names.
-- KEYS  1 <namespace>rrqd:token
-- ARGV  1 worker id   2 default DLQ   3 DLQ retention s   4 cancelled retention s
--       5 msgpack: list of {id, token, end, result, error, detail, delay_ms, ttl_seconds}
-- Answer: for each 'ok' | 'stale' (another token holds it, or nobody) | 'gone' (no such job)
--         | 'broken' (what is stored of it does not let it end; it is set aside, its neighbours settle)
-- Promise: at most one settlement a token, however often it is asked; a repeat answers 'ok' again.

local worker, default_dlq = ARGV[1], ARGV[2]
local dlq_retention, cancelled_retention = tonumber(ARGV[3]), tonumber(ARGV[4])
local runs = cmsgpack.unpack(ARGV[5])
local answers, let_go = {}, {}

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

local function requeue(id, status, delay_ms, err, settled)
  local due = NOW_MS + delay_ms
  local job = redis.call('HMGET', job_key(id), 'queue_name', 'rrqd_cancel')
  local queue = short_queue(job[1] or '')
  if job[2] then -- somebody cancelled it, and the run ended otherwise before it heard
    cancel(id, 'Job cancelled before its next run.', cancelled_retention, settled)
    return
  end
  if not place(queue, score_text(due), id) then
    lay_down(id, no_queue(queue) .. ' ' .. err, '', dlq_retention, settled)
    return
  end
  redis.call('HSET', job_key(id), 'status', status, 'next_scheduled_run_time', iso_ms(due), 'rrqd_token', settled)
  if err ~= '' then redis.call('HSET', job_key(id), 'last_error', err) end
end

-- RRQ's count of failed attempts; one that is no number, or too large a one, must not stop the job from ending.
local function count_attempt(id)
  local made = tonumber(redis.call('HGET', job_key(id), 'current_retries') or '0') or 0
  redis.call('HSET', job_key(id), 'current_retries', string.format('%.0f', math.min(math.floor(made), 1e9) + 1))
end

-- Each end also marks the token as settled ('-' before it): a repeat of the same settlement finds it so.
local ends = {}

function ends.complete(id, run, settled, key)
  if run[4] == 'null' then -- what a missing result means, too
    redis.call('HSET', key, 'completion_time', NOW_ISO, 'status', 'COMPLETED', 'rrqd_token', settled)
  else
    redis.call('HSET', key, 'result', run[4], 'completion_time', NOW_ISO, 'status', 'COMPLETED',
      'rrqd_token', settled)
  end
  finish(id, 'completed', 'COMPLETED', run[8])
end

function ends.retry(id, run, settled)
  count_attempt(id)
  if run[6] ~= '' then redis.call('HSET', job_key(id), 'rrqd_error', run[6]) end
  requeue(id, 'RETRYING', run[7], run[5], settled)
end

function ends.snooze(id, run, settled)
  redis.call('HDEL', job_key(id), 'start_time', 'worker_id')
  requeue(id, 'PENDING', run[7], '', settled)
end

function ends.bury(id, run, settled)
  count_attempt(id)
  lay_down(id, run[5], run[6], run[8], settled)
end

function ends.cancel(id, run, settled)
  cancel(id, run[5], run[8], settled)
end

for nth, run in ipairs(runs) do
  local id, token = run[1], run[2]
  local key = job_key(id)
  local holds = redis.pcall('HGET', key, 'rrqd_token')
  if type(holds) == 'table' or (not holds and redis.call('EXISTS', key) == 0) then
    answers[nth] = 'gone'
    let_go[#let_go + 1] = id
  elseif holds == '-' .. token then
    answers[nth] = 'ok'
    let_go[#let_go + 1] = id
  elseif holds ~= token then
    answers[nth] = 'stale'
  else
    local done, why = pcall(ends[run[3]], id, run, '-' .. token, key)
    if not done then redis.call('HSET', ASIDE_KEY, id, type(why) == 'table' and why.err or tostring(why)) end
    let_go[#let_go + 1] = id
    answers[nth] = done and 'ok' or 'broken'
  end
end
if #let_go > 0 then redis.call('HDEL', held_key(worker), unpack(let_go)) end
return answers
