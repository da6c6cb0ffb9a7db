#!lua flags=allow-oom
-- Removes jobs with all that is stored of them: out of their queue, out of the DLQ, hash and events.
-- With: _places _family
-- KEYS  1 <namespace>rrqd:token
-- ARGV  1 DLQ (short name): only what lies there; or '': wherever they are   2 default DLQ   3.. job ids, oldest first
-- Answer: {removed ids, ids that run and were left alone, ids that are not there}
-- Promise: no job that runs is touched, whoever runs it. An entry of a DLQ whose job has expired, or has been put back by
--   a foreign tool and is no buried job any more, leaves the list only.

local dlq, default_dlq = ARGV[1], ARGV[2]
local removed, running, missing = {}, {}, {}

local function runs(id, job)
  return (job[3] and string.sub(job[3], 1, 1) ~= '-') or job[1] == 'ACTIVE' or redis.call('EXISTS', lock_key(id)) == 1
end

local function unlist(name, id)
  local done = redis.pcall('LREM', dlq_key(name), -1, id)
  return type(done) == 'number' and done > 0
end

local function erase(id, tracked)
  if tracked then tell(id, 'purged', {}) end
  redis.call('DEL', job_key(id), events_key(id), log_key(id))
  removed[#removed + 1] = id
end

for at = 3, #ARGV do
  local id = ARGV[at]
  local job = redis.pcall('HMGET', job_key(id), 'status', 'queue_name', 'rrqd_token', 'dlq_name',
    'rrqd_tracked', 'rrqd_place', 'rrqd_due')
  if job.err then job = {} end -- no hash, so no job of ours: only its entries can go
  local there = redis.call('EXISTS', job_key(id)) == 1 and #job > 0
  if dlq ~= '' then
    if not unlist(dlq, id) then
      missing[#missing + 1] = id
    elseif job[1] == 'FAILED' then
      erase(id, job[5])
    else
      removed[#removed + 1] = id
    end
  elseif not there then
    missing[#missing + 1] = id
  elseif runs(id, job) then
    running[#running + 1] = id
  else
    if job[2] then pcall(take, short_queue(job[2]), id, job[6], job[7]) end
    if job[1] == 'FAILED' then unlist(job[4] and short_dlq(job[4]) or default_dlq, id) end
    erase(id, job[5])
  end
end
return { removed, running, missing }
