#!lua flags=allow-oom
-- Notes how far running jobs are, and tells it of tracked ones.
-- KEYS  1 <namespace>rrqd:token
-- ARGV  1.. id, token, JSON, id, token, JSON, …
-- Answer: for each 'ok' | 'stale'
-- Promise: only the holder of the token can write.

local answers = {}
for at = 1, #ARGV, 3 do
  local job = redis.pcall('HMGET', job_key(ARGV[at]), 'rrqd_token', 'rrqd_tracked', 'queue_name')
  local ok = job[1] == ARGV[at + 1] -- an error is no token
  if ok then
    redis.call('HSET', job_key(ARGV[at]), 'rrqd_progress', ARGV[at + 2])
    if job[2] then tell(ARGV[at], 'progress', { queue = short_queue(job[3] or '') }, ARGV[at + 2]) end
  end
  answers[#answers + 1] = ok and 'ok' or 'stale'
end
return answers
