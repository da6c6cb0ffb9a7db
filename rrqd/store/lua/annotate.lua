#!lua flags=allow-oom
-- Writes one field of a face's own into a job's hash, if the job is there; or what it is about, for who holds it.
-- KEYS  1 <namespace>rrqd:token
-- ARGV  1 job id   2 field (begins with rrqd_; with a token also job_params)   3 value   4 token that must hold it, or ''
-- Answer: 1 written, 0 no such job, or not held under that token.
-- Promise: never makes a hash of a job that has gone; repeated, it writes the same again.

local job = redis.pcall('HMGET', job_key(ARGV[1]), 'status', 'rrqd_token')
if job.err or not job[1] or (ARGV[4] ~= '' and job[2] ~= ARGV[4]) then return 0 end
redis.call('HSET', job_key(ARGV[1]), ARGV[2], ARGV[3])
return 1
