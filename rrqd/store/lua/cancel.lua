#!lua flags=allow-oom
-- Cancels a job: at once while it waits; by asking its worker while it runs.
-- KEYS  1 <namespace>rrqd:token
-- ARGV  1 job id   2 retention of the cancelled job in s
-- Answer: 'cancelled' | 'asked' | 'too-late' (ended, or run by a foreign worker) | 'unknown'
-- Promise: 'cancelled' means it never starts. 'asked': it ends in exactly one final state, whoever is faster.

local id, retention = ARGV[1], tonumber(ARGV[2])
local job = redis.call('HMGET', job_key(id), 'status', 'queue_name', 'rrqd_token', 'worker_id', 'function_name')
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
  return 'asked'
end
if job[1] == 'CANCELLED' then return 'cancelled' end
if not job[2] or redis.call('ZREM', queue_key(short_queue(job[2])), id) == 0 then return 'too-late' end
redis.call('HSET', job_key(id), 'status', 'CANCELLED', 'completion_time', NOW_ISO)
finish(id, 'cancelled', 'CANCELLED', retention)
return 'cancelled'
