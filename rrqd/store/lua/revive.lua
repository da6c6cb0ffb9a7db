#!lua flags=allow-oom
-- Brings buried jobs back as if new: attempts, stalls, error and time to live are reset.
-- With: _places _groups _again
-- KEYS  1 <namespace>rrqd:token
-- ARGV  1 DLQ (short name)   2 target queue or '' = each job's own   3 default queue   4 delay in ms
--       5.. job ids, oldest first
-- Answer: {revived ids, ids that were in the DLQ but are no buried job (any more)}
-- Promise: only ids that are in this DLQ move; a repeat finds them gone and does nothing.

local dlq, target, default_queue, delay_ms = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local revived, hollow = {}, {}
for at = 5, #ARGV do
  local id = ARGV[at]
  local due = score_text(NOW_MS + delay_ms + (at - 5) / 1000)
  local what, queue = bring_back(dlq, id, target, due, default_queue)
  if what == 'refused' then return redis.error_reply('WRONGTYPE ' .. no_queue(queue)) end
  if what == 'revived' then
    revived[#revived + 1] = id
    if delay_ms > 0 then redis.call('HSET', job_key(id), 'next_scheduled_run_time', iso_ms(tonumber(due))) end
  elseif what == 'hollow' then
    hollow[#hollow + 1] = id
  end
end
return { revived, hollow }
