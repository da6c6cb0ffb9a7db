#!lua
-- Writes new jobs down: hash, place in the queue, unique key. Refused whole by a full server (no allow-oom).
-- With: _places _throttles _family _ticks _tags
-- KEYS  1 <namespace>rrqd:token
-- ARGV  1 msgpack: list of jobs {id, name, queue, params, fields = {name, value, …}, due_ms | delay_ms, enqueue_time?,
--         priority?, listed?, unique_key?, unique_ttl? | rate_limit_key?, window? | debounce_key?, window? | tick?, tags?, track?,
--         parents? = ids of the jobs to wait for, on_parent?, retention? of one that is cancelled for a parent, s,
--         again?, throttles? (then a priority, too)}
--         tick: {name, version, by, left_out, unique?, at?}, the timetable's entry, and the epoch second it is asked for
--       2 '1' when this call repeats one whose reply was lost
-- Answer: for each job {code, id}: 1 created; 0 the unique key is held by id; 2 the rate limit lets nothing through (no
--         id); 3 id, debounced and not started yet, is now what was asked for; -1 the id is taken by another job;
--         -2 its queue's key holds something else; -3 id, of which it asks to wait, is no job. Of ticks: 4 a node had it
--         before; 5 the entry is paused; 6 the job of the last tick, id, has not ended; 7 it is yet to come by the
--         server's clock.
-- Promise: repeated with the same ids it writes nothing twice; order of the list = order in the queue.

local jobs = cmsgpack.unpack(ARGV[1])
local repeated = ARGV[2] == '1'
-- Fields that a debounced request which does not name them leaves to the worker's defaults.
local OPEN = { 'max_retries', 'job_timeout_seconds', 'result_ttl_seconds', 'correlation_context', 'rrqd_policy',
  'rrqd_priority', 'rrqd_throttles', 'rrqd_rate', 'rrqd_tenant' }

-- Whether a job has this id. EXISTS counts a key as often as it is named: so one command tells of several keys which of
-- them are there, each being named twice as often as the one before. What it tells of a job's tags and throttles is
-- good for the whole call.
local ASKED_MOST = 4
local is_there = {}
local function is_taken(job)
  if not job.tags and not job.throttles then return redis.call('EXISTS', job_key(job.id)) == 1 end
  local keys, words = { job_key(job.id) }, {}
  for _, name in ipairs(job.throttles or {}) do
    if #keys < ASKED_MOST and is_there[parked_key(name)] == nil then keys[#keys + 1] = parked_key(name) end
  end
  for _, tag in ipairs(job.tags or {}) do
    if #keys < ASKED_MOST and is_there[tag_key(tag)] == nil then keys[#keys + 1] = tag_key(tag) end
  end
  for nth, key in ipairs(keys) do
    for _ = 1, 2 ^ (nth - 1) do words[#words + 1] = key end
  end
  local found = redis.call('EXISTS', unpack(words))
  for nth = #keys, 1, -1 do
    is_there[keys[nth]] = found >= 2 ^ (nth - 1)
    found = found % 2 ^ (nth - 1)
  end
  return is_there[keys[1]]
end

local function exists_as_ours(job)
  local there = redis.call('HMGET', job_key(job.id), 'function_name', 'job_params')
  return repeated and (job.debounce_key or there[1] == job.name and (there[2] or '{}') == job.params)
end

local function due_of(job, nth)
  return job.due_ms or NOW_MS + job.delay_ms + nth / 1000
end

local function mark(job, id, nth)
  if job.tags then index_tags(id, job.tags, nth, is_there) end
  if job.track then
    redis.call('ZADD', TRACKED_KEY, whole(SEC * 1000000 + USEC + nth), id)
    tell(id, 'enqueued', { queue = job.queue })
  end
end

local seen_queues = {} -- those that are known by name

-- Puts a new job into its queue, or to those that wait for a throttle already.
local function put_new(job, due)
  for _, name in ipairs(job.throttles or {}) do
    local key = parked_key(name)
    if is_there[key] == nil then is_there[key] = redis.call('EXISTS', key) == 1 end
    if is_there[key] and not queue_of_throttle(name) and tonumber(due) <= NOW_MS + 1 then
      return park(name, job.id, due, job.priority, job.fields)
    end
  end
  local kind = put(job.queue, due, job.id, job.priority, job.fields)
  if kind and kind ~= '' then seen_queues[job.queue] = true end
  return kind
end

-- A job that waits for others; if none of them has to be waited for, it is one like any other.
local function write_child(job, due, fields, nth)
  local id = job.id
  local waits, doomed, unknown = unmet(job.parents, job.on_parent)
  if unknown then return -3, unknown end
  if doomed then
    redis.call('HSET', job_key(id), 'id', id, 'status', 'CANCELLED', 'completion_time', NOW_ISO, 'last_error',
      doom_text(doomed), unpack(fields))
    mark(job, id, nth)
    listed_of[id] = job.listed
    finish(id, 'cancelled', 'CANCELLED', job.retention)
    return 1
  end
  if #waits == 0 then
    if not put_new(job, due) then return -2 end
  else
    if type(redis.pcall('ZADD', depends_key(job.queue), due, id)) == 'table' then return -2 end
    redis.call('HSET', job_key(id), 'rrqd_place', 'depends', 'rrqd_due', due)
    for _, parent in ipairs(waits) do link(id, parent, job.on_parent, due) end
  end
  redis.call('HSET', job_key(id), 'id', id, 'status', 'PENDING', unpack(fields))
  mark(job, id, nth)
  return 1
end

local function write(job, nth)
  local due = due_of(job, nth)
  local fields = job.fields
  fields[#fields + 1] = 'function_name'
  fields[#fields + 1] = job.name
  fields[#fields + 1] = 'enqueue_time'
  fields[#fields + 1] = job.enqueue_time or NOW_ISO
  fields[#fields + 1] = 'queue_name'
  fields[#fields + 1] = 'rrq:queue:' .. job.queue
  if job.params ~= '{}' then
    fields[#fields + 1] = 'job_params'
    fields[#fields + 1] = job.params
  end
  if job.due_ms ~= nil or job.delay_ms > 0 then
    fields[#fields + 1] = 'next_scheduled_run_time'
    fields[#fields + 1] = iso_ms(due)
  end
  if job.parents then return write_child(job, score_text(due), fields, nth) end
  if not put_new(job, score_text(due)) then return -2 end
  redis.call('HSET', job_key(job.id), 'id', job.id, 'status', 'PENDING', unpack(fields))
  mark(job, job.id, nth)
  return 1
end

-- Whether the job that holds a unique key still does: for as long as its record is there, unless the key is to be free
-- earlier and a foreign worker, which knows nothing of that, has taken or ended the job.
local function holds(id)
  local there = redis.pcall('HMGET', job_key(id), 'status', 'rrqd_unique')
  if there.err then return true end
  if not there[1] then return redis.call('EXISTS', job_key(id)) == 1 end
  local till = there[2] and string.match(there[2], '^%S+')
  if till == 'started' then return there[1] == 'PENDING' end
  if till == 'finished' then return there[1] == 'PENDING' or there[1] == 'ACTIVE' or there[1] == 'RETRYING' end
  return true
end

-- The answer when there is a job like it, else nil.
local function unique_holder(job)
  local holder = redis.pcall('GET', NS .. 'rrq:idempotency:' .. job.unique_key)
  if type(holder) == 'string' and holds(holder) then
    return { holder == job.id and repeated and 1 or 0, holder } -- our own first try; its reply was lost
  end
  -- Producers of RRQ's first API, and its orchestrator, take a lock instead, until their job ends.
  holder = redis.pcall('GET', NS .. 'rrq:lock:unique:' .. job.unique_key)
  local status = type(holder) == 'string' and redis.pcall('HGET', job_key(holder), 'status')
  if status == 'PENDING' or status == 'ACTIVE' or status == 'RETRYING' then return { 0, holder } end
  return nil
end

local function limited(job)
  local holder = redis.pcall('GET', NS .. 'rrq:rate_limit:' .. job.rate_limit_key)
  if not holder then return nil end
  if holder == job.id and repeated then return { 1, job.id } end
  return { 2, '' }
end

-- The job of the burst that waits becomes what is asked for now, also when that is in another queue.
local function replaced(job, nth)
  local key = NS .. 'rrq:debounce:' .. job.debounce_key
  local id = redis.pcall('GET', key)
  if type(id) ~= 'string' then return nil end
  if id == job.id and repeated then return { 1, id } end
  local there = redis.pcall('HMGET', job_key(id), 'status', 'queue_name', 'rrqd_asked', 'rrqd_place', 'rrqd_due')
  if there.err then return nil end
  if there[3] == job.id and repeated then return { 3, id } end
  if there[1] ~= 'PENDING' then return nil end
  local due = due_of(job, nth)
  local before = there[2] and short_queue(there[2]) or job.queue
  if not move(id, before, there[4], there[5], job.queue, score_text(due), job.priority) then return { -2, id } end
  local named = {}
  for at = 1, #job.fields, 2 do named[job.fields[at]] = true end
  for _, name in ipairs(OPEN) do
    if not named[name] then redis.call('HDEL', job_key(id), name) end
  end
  redis.call('HSET', job_key(id), 'function_name', job.name, 'job_params', job.params, 'queue_name',
    'rrq:queue:' .. job.queue, 'next_scheduled_run_time', iso_ms(due), 'rrqd_asked', job.id, unpack(job.fields))
  redis.call('EXPIRE', key, job.window)
  mark(job, id, nth)
  return { 3, id }
end

-- Whether the id is free again: the job that had it has ended, and its record makes room.
local function makes_room(id)
  local there = redis.pcall('HMGET', job_key(id), 'status', 'dlq_name')
  if there.err or (there[1] ~= 'COMPLETED' and there[1] ~= 'CANCELLED' and there[1] ~= 'FAILED') then return false end
  if there[1] == 'FAILED' then redis.pcall('LREM', dlq_key(short_dlq(there[2] or 'default')), 1, id) end
  redis.call('DEL', job_key(id), events_key(id))
  return true
end

-- What is kept so that the next request like it is seen to be one.
local function remember(job)
  if job.unique_key then
    local key = NS .. 'rrq:idempotency:' .. job.unique_key
    if job.unique_ttl > 0 then
      redis.call('SET', key, job.id, 'EX', job.unique_ttl)
    else
      redis.call('SET', key, job.id)
    end
  elseif job.rate_limit_key then
    redis.call('SET', NS .. 'rrq:rate_limit:' .. job.rate_limit_key, job.id, 'EX', job.window)
  elseif job.debounce_key then
    redis.call('SET', NS .. 'rrq:debounce:' .. job.debounce_key, job.id, 'EX', job.window)
  elseif job.tick then
    keep_tick(job)
  end
end

local answers = {}
for nth, job in ipairs(jobs) do
  local answer = nil
  if job.unique_key then
    answer = unique_holder(job)
  elseif job.rate_limit_key then
    answer = limited(job)
  elseif job.debounce_key then
    answer = replaced(job, nth - 1)
  elseif job.tick then
    answer = ticked(job)
  end
  if not answer then
    local code, about = 1, nil
    local there = is_taken(job)
    if there and (exists_as_ours(job) or not (job.again and makes_room(job.id))) then
      if not exists_as_ours(job) then code = -1 end
    else
      code, about = write(job, nth - 1)
      if code == 1 then remember(job) end
    end
    answer = { code, about or job.id }
  end
  if answer[1] == 1 or answer[1] == 3 then
    if not seen_queues[job.queue] then
      seen_queues[job.queue] = true
      redis.call('SADD', QUEUES_KEY, job.queue)
    end
  end
  answers[nth] = answer
end
return answers
