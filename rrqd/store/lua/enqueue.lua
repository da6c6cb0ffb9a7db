#!lua
-- Writes new jobs down: hash, place in the queue, unique key. Refused whole by a full server (no allow-oom).
-- KEYS  1 <namespace>rrqd:token
-- ARGV  1 msgpack: list of jobs {id, name, queue, params, fields = {name, value, …}, due_ms | delay_ms,
--         enqueue_time?, unique_key?, unique_ttl?}   2 '1' when this call repeats one whose reply was lost
-- Answer: for each job {code, id}: 1 created; 0 the unique key is held by id; -1 the id is taken by another job;
--         -2 its queue's key holds something else.
-- Promise: repeated with the same ids it writes nothing twice; order of the list = order in the queue.

local jobs = cmsgpack.unpack(ARGV[1])
local repeated = ARGV[2] == '1'

local function exists_as_ours(job)
  local there = redis.call('HMGET', job_key(job.id), 'function_name', 'job_params')
  return repeated and there[1] == job.name and (there[2] or '{}') == job.params
end

local function write(job, nth)
  local due = job.due_ms
  local deferred = due ~= nil or job.delay_ms > 0
  if due == nil then due = NOW_MS + job.delay_ms + nth / 1000 end
  local queue = 'rrq:queue:' .. job.queue
  local fields = job.fields
  fields[#fields + 1] = 'function_name'
  fields[#fields + 1] = job.name
  fields[#fields + 1] = 'enqueue_time'
  fields[#fields + 1] = job.enqueue_time or NOW_ISO
  fields[#fields + 1] = 'queue_name'
  fields[#fields + 1] = queue
  if job.params ~= '{}' then
    fields[#fields + 1] = 'job_params'
    fields[#fields + 1] = job.params
  end
  if deferred then
    fields[#fields + 1] = 'next_scheduled_run_time'
    fields[#fields + 1] = iso_ms(due)
  end
  if not place(job.queue, score_text(due), job.id) then return false end
  redis.call('HSET', job_key(job.id), 'id', job.id, 'status', 'PENDING', unpack(fields))
  return true
end

local answers = {}
local seen_queues = {}
for nth, job in ipairs(jobs) do
  local code, id = 1, job.id
  local unique = job.unique_key and (NS .. 'rrq:idempotency:' .. job.unique_key)
  if unique then
    local holder = redis.pcall('GET', unique)
    if type(holder) == 'string' and redis.call('EXISTS', job_key(holder)) == 1 then
      code, id = 0, holder
      if holder == job.id and repeated then code = 1 end -- our own first try; its reply was lost
    end
  end
  if code == 1 and id == job.id then
    if redis.call('EXISTS', job_key(id)) == 1 then
      if not exists_as_ours(job) then code = -1 end
    elseif not write(job, nth - 1) then
      code = -2
    else
      if unique then
        if job.unique_ttl > 0 then
          redis.call('SET', unique, id, 'EX', job.unique_ttl)
        else
          redis.call('SET', unique, id)
        end
      end
      if not seen_queues[job.queue] then
        seen_queues[job.queue] = true
        redis.call('SADD', QUEUES_KEY, job.queue)
      end
    end
  end
  answers[nth] = { code, id }
end
return answers
