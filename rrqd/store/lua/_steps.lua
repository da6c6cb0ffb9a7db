-- A job that goes on instead of ending: the same id, hash and children, another place and other work.
local STEPS_KEPT, STEP_RESULT_BYTES = 100, 4096

-- What a job is before its next step.
local function read_step(id)
  local f = redis.call('HMGET', job_key(id), 'queue_name', 'function_name', 'worker_id', 'start_time', 'rrqd_step',
    'rrqd_priority', 'rrqd_cancel', 'rrqd_throttles', 'rrqd_rate', 'rrqd_tenant')
  return { queue = short_queue(f[1] or ''), name = f[2] or '', worker = f[3] or '', began = f[4] or '',
    number = tonumber(f[5]) or 0, priority = f[6] or nil, cancel = f[7], resting = fair.resting(f[10], f[8] or f[9]) }
end

-- The parents that the next step has to wait for; the one that ends the job; or what is wrong with them.
local function parents_of_step(id, step)
  if not step.parents then return {} end
  local waits, doomed, unknown = unmet(step.parents, step.on_parent)
  if unknown then return {}, nil, 'Its next step depends on job ' .. unknown .. ', which is not there.' end
  for _, parent in ipairs(waits) do
    if waits_for(parent, id) ~= false then
      return {}, nil, 'Its next step depends on job ' .. parent .. ', which waits for this one.'
    end
  end
  return waits, doomed
end

-- Into its next place. False when something else lies under that place's name; then nothing is written.
local function place_step(id, step, job, due_ms, waits)
  local queue, due = step.queue or job.queue, score_text(due_ms)
  if step.priority == '' then step.priority = job.resting or '' end
  local priority = job.priority
  if step.priority then priority = step.priority ~= '' and step.priority or nil end
  if #waits == 0 then return put(queue, due, id, priority) end
  if type(redis.pcall('ZADD', depends_key(queue), due, id)) == 'table' then return false end
  redis.call('HSET', job_key(id), 'rrqd_place', 'depends', 'rrqd_due', due)
  for _, parent in ipairs(waits) do link(id, parent, step.on_parent, due) end
  return 'depends'
end

-- The step that is over becomes history; the job becomes what the next one says. A result is kept as it came: decoded
-- and encoded again, an empty list would become an object.
local function note_step(id, step, job, result)
  local number = job.number + 1
  local told = cjson.encode({ queue = job.queue, ['function'] = job.name, worker = job.worker, began = job.began,
    ended = NOW_ISO })
  if #result <= STEP_RESULT_BYTES then told = string.sub(told, 1, -2) .. ',"result":' .. result .. '}' end
  redis.call('HSET', job_key(id), 'rrqd_step', number, 'rrqd_step:' .. number, told, 'current_retries', '0')
  redis.call('HDEL', job_key(id), 'rrqd_step:' .. (number - STEPS_KEPT), 'start_time', 'worker_id', 'last_error',
    'rrqd_error', 'rrqd_progress', 'rrqd_stalls', 'rrqd_aboard', 'next_scheduled_run_time')
  if step.queue then
    redis.call('HSET', job_key(id), 'queue_name', 'rrq:queue:' .. step.queue)
    redis.call('SADD', QUEUES_KEY, step.queue)
  end
  if step.name then redis.call('HSET', job_key(id), 'function_name', step.name) end
  if step.params then redis.call('HSET', job_key(id), 'job_params', step.params) end
  if step.priority == '' then
    redis.call('HDEL', job_key(id), 'rrqd_priority')
  elseif step.priority then
    redis.call('HSET', job_key(id), 'rrqd_priority', step.priority)
  end
  if step.parents then
    redis.call('HSET', job_key(id), 'rrqd_parents', step.parents_json, 'rrqd_on_parent', step.on_parent)
  end
end
