#!lua
-- Adds what a worker has counted to the figures of its queues, for today.
-- KEYS  1 <namespace>rrqd:token
-- ARGV  1 worker id   2 number of this report, growing   3 seconds the figures of a day are kept
--       4 msgpack: list of {queue, {count = n, …}, wait, run}, these two {count, mean, squares, {bucket = n, …}}
-- Answer: 1 added | 0 this report was added before
-- Promise: a report counts once, however often it is sent, while its worker is open.

local worker, number, keep = ARGV[1], ARGV[2], tonumber(ARGV[3])
local me = redis.call('HMGET', worker_key(worker), 'node', 'reported')
if me[2] and tonumber(me[2]) >= tonumber(number) then return 0 end

local function text(value) return string.format('%.17g', value) end

-- Mean and squares of both together, from those of each.
local function merge(key, what, fresh, new)
  local count, mean, squares, buckets = fresh[1], fresh[2], fresh[3], fresh[4]
  if count == 0 then return end
  local was = redis.call('HMGET', key, what .. '.count', what .. '.mean', what .. '.squares')
  local n = tonumber(was[1] or '0') or 0
  if n > 0 then
    local off = mean - tonumber(was[2])
    squares = squares + tonumber(was[3]) + off * off * n * count / (n + count)
    mean = tonumber(was[2]) + off * count / (n + count)
  end
  for _, word in ipairs({ what .. '.count', text(n + count), what .. '.mean', text(mean), what .. '.squares', text(squares) }) do
    new[#new + 1] = word
  end
  for bucket, more in pairs(buckets) do redis.call('HINCRBY', key, what .. ':' .. bucket, more) end
end

local day = string.sub(NOW_ISO, 1, 10)
local function add(key, counts, wait, ran)
  local new = {}
  for word, more in pairs(counts) do redis.call('HINCRBY', key, word, more) end
  merge(key, 'wait', wait, new)
  merge(key, 'run', ran, new)
  if #new > 0 then redis.call('HSET', key, unpack(new)) end
  redis.call('EXPIRE', key, keep)
end

for _, one in ipairs(cmsgpack.unpack(ARGV[4])) do
  pcall(add, figures_key(day, one[1]), one[2], one[3], one[4]) -- a spoilt key costs its own queue's figures only
end
if me[1] then redis.call('HSET', worker_key(worker), 'reported', number) end
return 1
