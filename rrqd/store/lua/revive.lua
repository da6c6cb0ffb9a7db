#!lua flags=allow-oom
-- Brings buried jobs back as if new: attempts, stalls, error and time to live are reset.
-- KEYS  1 <namespace>rrqd:token
-- ARGV  1 DLQ (short name)   2 target queue or '' = each job's own   3 default queue   4.. job ids, oldest first
-- Answer: {revived ids, ids that were in the DLQ but are no buried job (any more)}
-- Promise: only ids that are in this DLQ move; a repeat finds them gone and does nothing.

local dlq, target, default_queue = ARGV[1], ARGV[2], ARGV[3]
local revived, hollow = {}, {}
for at = 4, #ARGV do
  local id = ARGV[at]
  if redis.call('LREM', dlq_key(dlq), -1, id) == 1 then
    local job = redis.pcall('HMGET', job_key(id), 'queue_name', 'status')
    if job.err or job[2] ~= 'FAILED' then
      hollow[#hollow + 1] = id
    else
      local queue = target ~= '' and target or (job[1] and short_queue(job[1]) or default_queue)
      if not place(queue, score_text(NOW_MS + (at - 4) / 1000), id) then
        redis.call('RPUSH', dlq_key(dlq), id)
        return redis.error_reply('WRONGTYPE ' .. no_queue(queue))
      end
      redis.call('HDEL', job_key(id), 'last_error', 'completion_time', 'start_time', 'worker_id', 'rrqd_token',
        'rrqd_stalls', 'rrqd_aboard', 'rrqd_for', 'rrqd_cancel', 'rrqd_error', 'rrqd_progress', 'next_scheduled_run_time')
      redis.call('HSET', job_key(id), 'status', 'PENDING', 'current_retries', '0', 'queue_name', 'rrq:queue:' .. queue)
      redis.call('PERSIST', job_key(id))
      redis.call('PERSIST', events_key(id))
      redis.call('SADD', QUEUES_KEY, queue)
      revived[#revived + 1] = id
    end
  end
end
return { revived, hollow }
