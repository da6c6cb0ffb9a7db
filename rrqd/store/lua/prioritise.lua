#!lua flags=allow-oom
-- Gives a job another priority; where it waits, it moves to its place among the others at once.
-- With: _places
-- KEYS  1 <namespace>rrqd:token
-- ARGV  1 job id   2 priority as text; '' = none
-- Answer: 'moved' | 'noted' (it runs, is buried, or waits for something else: it counts when it next waits in a queue)
--         | 'too-late' (ended, or run by a foreign worker) | 'unknown' | 'refused' (what lies in its place is no queue)
-- Promise: its age among its new equals is kept; the same priority given again changes nothing.

local id, priority = ARGV[1], ARGV[2] ~= '' and ARGV[2] or nil
local job = redis.call('HMGET', job_key(id), 'status', 'queue_name', 'rrqd_token', 'rrqd_place', 'rrqd_due',
  'rrqd_priority', 'rrqd_throttles', 'rrqd_rate', 'rrqd_tenant')
if not job[1] and redis.call('EXISTS', job_key(id)) == 0 then return 'unknown' end
if job[1] == 'COMPLETED' or job[1] == 'CANCELLED' then return 'too-late' end

priority = priority or fair.resting(job[9], job[7] or job[8])

local queue, kind, due = short_queue(job[2] or ''), job[4] or '', job[5]
local held = job[3] and string.sub(job[3], 1, 1) ~= '-'
local waits = not held and job[1] ~= 'FAILED' and (kind == '' or kind == 'prio' or kind == 'later' or kind == 'fair' or kind == 'alone'
  or string.sub(kind, 1, 7) == 'parked ')
if waits and kind == '' then
  due = redis.call('ZSCORE', queue_key(queue), id)
  if not due then return 'too-late' end
end
if waits and (job[6] or nil) ~= priority and not move(id, queue, kind, due, queue, due, priority) then
  return 'refused'
end
if priority then
  redis.call('HSET', job_key(id), 'rrqd_priority', priority)
else
  redis.call('HDEL', job_key(id), 'rrqd_priority')
end
return waits and 'moved' or 'noted'
