#!lua flags=allow-oom
-- Cancels a job: at once while it waits; by asking its worker while it runs.
-- With: _places _throttles _family
-- KEYS  1 <namespace>rrqd:token
-- ARGV  1 job id   2 retention of the cancelled job in s
-- Answer: 'cancelled' | 'asked' | 'too-late' (ended, or run by a foreign worker) | 'unknown'
-- Promise: 'cancelled' means it never starts. 'asked': it ends in exactly one final state, whoever is faster.

local id, retention = ARGV[1], tonumber(ARGV[2])
local job = redis.call('HMGET', job_key(id), 'status', 'queue_name', 'rrqd_token', 'worker_id', 'function_name',
  'rrqd_unique', 'rrqd_tracked', 'rrqd_place', 'rrqd_due',
  'rrqd_children', 'rrqd_throttles')
if not job[1] and not job[5] then return 'unknown' end
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
unique_of[id] = job[6] or nil
finish(id, 'cancelled', 'CANCELLED', retention)
if job[11] and job[8] == 'prio' then -- it may have been woken for a place that is now another's
  for _, name in ipairs(read_list(job[11])) do next_of(name) end
end
if job[7] then tell(id, 'cancelled', { queue = short_queue(job[2]) }) end
if job[10] then
  note_end(id, 'cancelled', retention, true)
  inform(TOLD_MOST)
end
return 'cancelled'
