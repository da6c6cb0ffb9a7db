-- For enqueue: jobs that the timetable asks for.

local function cron_key(name) return NS .. 'rrqd:cron:' .. name end          -- hash: last, job, by, paused, …

-- A tick is asked for by every node; the first one has it. The entry's last tick only grows.
local function ticked(job)
  local tick = job.tick
  local key = cron_key(tick.name)
  local there = redis.call('HMGET', key, 'last', 'paused', 'job')
  if tick.at then
    local last = tonumber(there[1] or '')
    if last and tick.at <= last then return { 4, there[3] or '' } end
    if tick.at * 1000 > NOW_MS then return { 7, '' } end
    if there[2] then
      redis.call('HSET', key, 'last', whole(tick.at))
      return { 5, '' }
    end
  end
  local before = tick.unique and there[3] and redis.pcall('HGET', job_key(there[3]), 'status')
  if before == 'PENDING' or before == 'ACTIVE' or before == 'RETRYING' then
    if tick.at then redis.call('HSET', key, 'last', whole(tick.at)) end
    redis.call('HINCRBY', key, 'overlapped', 1)
    return { 6, there[3] }
  end
  return nil
end

-- The job is written: the entry's tick is dealt with.
local function keep_tick(job)
  local tick, key = job.tick, cron_key(job.tick.name)
  redis.call('HSET', key, 'job', job.id, 'by', tick.by, 'fired_ms', score_text(NOW_MS), 'version', tick.version)
  if tick.at then redis.call('HSET', key, 'last', whole(tick.at)) end
  redis.call('HINCRBY', key, 'fired', 1)
  if tick.left_out > 0 then redis.call('HINCRBY', key, 'missed', tick.left_out) end
end

