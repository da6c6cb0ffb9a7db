#!lua flags=allow-oom
-- Writes one field of a face's own into a job's hash, if the job is there. Not for fields that decide anything.
-- KEYS  1 <namespace>rrqd:token
-- ARGV  1 job id   2 field (begins with rrqd_)   3 value
-- Answer: 1 written, 0 no such job.
-- Promise: never makes a hash of a job that has gone; repeated, it writes the same again.

local there = redis.pcall('HEXISTS', job_key(ARGV[1]), 'status')
if there ~= 1 then return 0 end
redis.call('HSET', job_key(ARGV[1]), ARGV[2], ARGV[3])
return 1
