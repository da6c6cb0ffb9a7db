-- Jobs that had ended begin again. Needs _places.
local AGAIN_FIELDS = { 'status', 'queue_name', 'rrqd_unique', 'rrqd_tracked', 'rrqd_priority', 'rrqd_history',
  'start_time', 'worker_id', 'completion_time', 'last_error', 'rrqd_group' }

-- Takes a buried job out of its DLQ and back to a queue, as if new. 'revived' | 'hollow' (it was listed, but is no buried
-- job any more) | 'absent' (it does not lie there) | 'refused' (what lies in its place is no queue; it stays buried).
-- `priority`: as in `put`; nil leaves it the job's own.
local function bring_back(dlq, id, queue, due_ms, default_queue, priority)
  if redis.call('LREM', dlq_key(dlq), -1, id) == 0 then return 'absent' end
  local found, job = redis.pcall('HMGET', job_key(id), unpack(AGAIN_FIELDS)), {}
  if found.err then return 'hollow' end
  for at, name in ipairs(AGAIN_FIELDS) do job[name] = found[at] or nil end
  if job.status ~= 'FAILED' then return 'hollow' end
  if queue == '' then queue = job.queue_name and short_queue(job.queue_name) or default_queue end
  if priority == nil then priority = job.rrqd_priority end
  if not put(queue, due_ms, id, priority) then
    redis.call('RPUSH', dlq_key(dlq), id)
    return 'refused', queue
  end
  redis.call('HDEL', job_key(id), 'last_error', 'completion_time', 'start_time', 'worker_id', 'rrqd_token',
    'rrqd_stalls', 'rrqd_aboard', 'rrqd_cancel', 'rrqd_error', 'rrqd_progress', 'rrqd_group',
    'next_scheduled_run_time')
  local past = with_past(job.rrqd_history, { what = 'buried', at = job.completion_time or NOW_ISO,
    began = job.start_time, worker = job.worker_id, why = job.last_error })
  redis.call('HSET', job_key(id), 'status', 'PENDING', 'current_retries', '0', 'queue_name', 'rrq:queue:' .. queue,
    'rrqd_history', with_past(past, { what = 'revived', at = NOW_ISO }))
  local key = job.rrqd_unique and string.match(job.rrqd_unique, '^finished (.*)$')
  if key then redis.call('SET', NS .. 'rrq:idempotency:' .. key, id, 'NX') end -- held again, if nobody has it
  if job.rrqd_group then redis.call('ZREM', group_key(job.rrqd_group), id) end
  redis.call('PERSIST', job_key(id))
  redis.call('PERSIST', events_key(id))
  redis.call('SADD', QUEUES_KEY, queue)
  if job.rrqd_tracked then tell(id, 'revived', { queue = queue }) end
  return 'revived'
end
