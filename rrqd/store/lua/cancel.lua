#!lua flags=allow-oom
-- Cancels jobs: at once those that wait; by asking their worker those that run.
-- With: _effort _places _throttles _family
-- KEYS  1 <namespace>rrqd:token
-- ARGV  1 retention of a cancelled job in s   2.. job ids
-- Answer: for each 'cancelled' | 'asked' | 'too-late' (ended, or run by a foreign worker) | 'unknown'
--         The first ones only, when there was much to do: the others are still to be asked for.
-- Promise: 'cancelled' means it never starts. 'asked': it ends in exactly one final state, whoever is faster.

local retention, parent_ended = tonumber(ARGV[1]), false

local function cancel(id)
  local job = redis.pcall('HMGET', job_key(id), 'status', 'queue_name', 'rrqd_token', 'worker_id', 'function_name',
    'rrqd_unique', 'rrqd_tracked', 'rrqd_place', 'rrqd_due',
    'rrqd_children', 'rrqd_throttles', 'rrqd_listed')
  if job.err or (not job[1] and not job[5]) then return 'unknown' end
  local token = job[3]
  if token and string.sub(token, 1, 1) ~= '-' then
    local worker = job[4]
    local first = redis.call('HSET', job_key(id), 'rrqd_cancel', '1') == 1
    if first and worker and redis.call('EXISTS', worker_key(worker)) == 1 then
      local noted = redis.call('HGET', worker_key(worker), 'cancels')
      local ids = noted and cjson.decode(noted) or {}
      ids[#ids + 1] = id
      redis.call('HSET', worker_key(worker), 'cancels', cjson.encode(ids))
      redis.call('PUBLISH', NS .. 'rrqd:to:' .. worker, 'cancel ' .. id)
    end
    if first and job[7] then tell(id, 'cancel-asked', { worker = worker }) end
    return 'asked'
  end
  if job[1] == 'CANCELLED' then return 'cancelled' end
  if not job[2] or not take(short_queue(job[2]), id, job[8], job[9]) then return 'too-late' end
  redis.call('HSET', job_key(id), 'status', 'CANCELLED', 'completion_time', NOW_ISO)
  unique_of[id], listed_of[id] = job[6] or nil, job[12] or nil
  finish(id, 'cancelled', 'CANCELLED', retention)
  if job[11] and (job[8] == 'prio' or job[8] == 'fair') then -- it may have been woken for a place that is now another's
    for _, name in ipairs(read_list(job[11])) do next_of(name) end
  end
  if job[7] then tell(id, 'cancelled', { queue = short_queue(job[2]) }) end
  if job[10] then
    note_end(id, 'cancelled', retention, true)
    parent_ended = true
  end
  return 'cancelled'
end

local answers = {}
for at = 2, #ARGV do
  if effort.is_enough() then break end
  answers[at - 1] = cancel(ARGV[at])
end
if parent_ended then inform(TOLD_MOST) end
return answers
