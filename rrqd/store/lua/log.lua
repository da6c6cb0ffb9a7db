#!lua
-- Adds lines to the logs of jobs that run, or whose run has just ended.
-- KEYS  1 <namespace>rrqd:token
-- ARGV  1 most lines of a job   2 seconds a log is kept after its last line   3.. id, token, line (JSON), …
-- Answer: how many lines were written
-- Promise: only who holds the job, or was the last to, can write; of too many lines the oldest go.

local most, keep, written = tonumber(ARGV[1]), tonumber(ARGV[2]), 0
local touched = {}
for at = 3, #ARGV, 3 do
  local id, token = ARGV[at], ARGV[at + 1]
  local now = redis.pcall('HGET', job_key(id), 'rrqd_token')
  if now == token or now == '-' .. token then
    local pushed = redis.pcall('RPUSH', log_key(id), ARGV[at + 2])
    if type(pushed) == 'number' then
      written = written + 1
      touched[id] = pushed
    end
  end
end
for id, size in pairs(touched) do
  if size > most then redis.call('LTRIM', log_key(id), -most, -1) end
  redis.call('EXPIRE', log_key(id), keep)
end
return written
