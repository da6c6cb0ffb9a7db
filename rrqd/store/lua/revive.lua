#!lua flags=allow-oom
-- Brings buried jobs back as if new: attempts, stalls, error and time to live are reset.
-- With: _places
-- KEYS  1 <namespace>rrqd:token
-- ARGV  1 DLQ (short name)   2 target queue or '' = each job's own   3 default queue   4.. job ids, oldest first
-- Answer: {revived ids, ids that were in the DLQ but are no buried job (any more)}
-- Promise: only ids that are in this DLQ move; a repeat finds them gone and does nothing.

local dlq, target, default_queue = ARGV[1], ARGV[2], ARGV[3]
local revived, hollow = {}, {}
for at = 4, #ARGV do
  local id = ARGV[at]
  if redis.call('LREM', dlq_key(dlq), -1, id) == 1 then
    local job = redis.pcall('HMGET', job_key(id), 'queue_name', 'status', 'rrqd_unique', 'rrqd_tracked',
      'rrqd_priority', 'rrqd_history', 'start_time', 'worker_id', 'completion_time', 'last_error')
    if job.err or job[2] ~= 'FAILED' then
      hollow[#hollow + 1] = id
    else
      local queue = target ~= '' and target or (job[1] and short_queue(job[1]) or default_queue)
      if not put(queue, score_text(NOW_MS + (at - 4) / 1000), id, job[5]) then
        redis.call('RPUSH', dlq_key(dlq), id)
        return redis.error_reply('WRONGTYPE ' .. no_queue(queue))
      end
      redis.call('HDEL', job_key(id), 'last_error', 'completion_time', 'start_time', 'worker_id', 'rrqd_token',
        'rrqd_stalls', 'rrqd_aboard', 'rrqd_for', 'rrqd_cancel', 'rrqd_error', 'rrqd_progress', 'next_scheduled_run_time')
      local past = with_past(job[6], { what = 'buried', at = job[9] or NOW_ISO, began = job[7] or nil,
        worker = job[8] or nil, why = job[10] or nil })
      redis.call('HSET', job_key(id), 'status', 'PENDING', 'current_retries', '0', 'queue_name', 'rrq:queue:' .. queue,
        'rrqd_history', with_past(past, { what = 'revived', at = NOW_ISO }))
      local key = job[3] and string.match(job[3], '^finished (.*)$')
      if key then redis.call('SET', NS .. 'rrq:idempotency:' .. key, id, 'NX') end -- held again, if nobody has it
      redis.call('PERSIST', job_key(id))
      redis.call('PERSIST', events_key(id))
      redis.call('SADD', QUEUES_KEY, queue)
      revived[#revived + 1] = id
      if job[4] then tell(id, 'revived', { queue = queue }) end
    end
  end
end
return { revived, hollow }
