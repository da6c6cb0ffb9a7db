#!lua
-- Begins to tell of every move of a job, or ends it.
-- KEYS  1 <namespace>rrqd:token
-- ARGV  1 '1' = track | '0' = untrack   2 job id
-- Answer: 1 changed | 0 it was so already | -1 no such job
-- Promise: a tracked job's moves are published from the next one on.

local on, id = ARGV[1] == '1', ARGV[2]
local job = redis.pcall('HMGET', job_key(id), 'function_name', 'status', 'rrqd_tracked')
if job.err or not (job[1] or job[2]) then
  redis.call('ZREM', TRACKED_KEY, id)
  return -1
end
if on == (job[3] and true or false) then return 0 end
if on then
  redis.call('HSET', job_key(id), 'rrqd_tracked', '1', 'rrqd_ends', '1')
  redis.call('ZADD', TRACKED_KEY, whole(SEC * 1000000 + USEC), id)
else
  redis.call('HDEL', job_key(id), 'rrqd_tracked')
  redis.call('ZREM', TRACKED_KEY, id)
end
tell(id, on and 'tracked' or 'untracked', {})
return 1
