-- Which queues are paused, and how open workers are told: in their own hashes, which their claims read anyway.
local PAUSED_KEY = NS .. 'rrqd:work:paused'    -- hash: paused queue -> since when, ms

-- What a worker's hash says of paused queues: a JSON object with their names as keys, or false when there is none.
local function paused_text()
  local names = redis.call('HKEYS', PAUSED_KEY)
  if #names == 0 then return false end
  local told = {}
  for _, name in ipairs(names) do told[name] = 1 end
  return cjson.encode(told)
end

local function tell_paused(worker, told)
  if told then
    redis.call('HSET', worker_key(worker), 'paused', told)
  else
    redis.call('HDEL', worker_key(worker), 'paused')
  end
end
