#!lua
-- Adds what a worker has counted to the figures of its queues and functions, for today, and to the rings of history.
-- KEYS  1 <namespace>rrqd:token
-- ARGV  1 worker id   2 number of this report, growing   3 seconds the figures of a day are kept
--       4 msgpack: list of {kind, name, {count = n, …}, wait, run}; kind: 'queue' | 'function' | 'all' (no name);
--         wait and run: {count, mean, squares, {bucket = n, …}, {grade, n, grade, n, …}}
--       5 msgpack: list of the rings, {letter, seconds a slot, slots}   6 msgpack: the ends a slot counts, in order
-- Answer: 1 added | 0 this report was added before
-- Promise: a report counts once, however often it is sent, while its worker is open. A ring never has more slots.

local FUNCTIONS_KEY = NS .. 'rrqd:functions' -- zset: function -> when it last ran, s
local function figures_key(day, queue) return NS .. 'rrqd:figures:' .. day .. ':' .. queue end -- hash: a queue's day
local function handled_key(day, name) return NS .. 'rrqd:handled:' .. day .. ':' .. name end     -- hash: a function's day

local worker, number, keep = ARGV[1], ARGV[2], tonumber(ARGV[3])
local rings, order = cmsgpack.unpack(ARGV[5]), cmsgpack.unpack(ARGV[6])
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

local function add(key, counts, wait, ran)
  local new = {}
  for word, more in pairs(counts) do redis.call('HINCRBY', key, word, more) end
  merge(key, 'wait', wait, new)
  merge(key, 'run', ran, new)
  if #new > 0 then redis.call('HSET', key, unpack(new)) end
  redis.call('EXPIRE', key, keep)
end

-- A latency of a slot, {count, sum of seconds, {grade, n, …}}, with what is new.
local function widened(was, fresh)
  local sums, flat = {}, {}
  for _, list in ipairs({ was[3], fresh[5] }) do
    for at = 1, #list, 2 do sums[list[at]] = (sums[list[at]] or 0) + list[at + 1] end
  end
  for grade, n in pairs(sums) do
    flat[#flat + 1] = grade
    flat[#flat + 1] = n
  end
  return { was[1] + fresh[1], was[2] + fresh[1] * fresh[2], flat }
end

local function advance(key, ring, counts, wait, ran)
  local seconds, slots = ring[2], ring[3]
  local period = math.floor(SEC / seconds)
  local stored = redis.call('HGET', key, period % slots)
  local known, slot = pcall(cmsgpack.unpack, stored)
  if not known or type(slot) ~= 'table' or slot[1] ~= period then
    slot = { period, {}, { 0, 0, {} }, { 0, 0, {} } }
  end
  local sums = {}
  for at, word in ipairs(order) do sums[at] = (slot[2][at] or 0) + (counts[word] or 0) end
  local packed = cmsgpack.pack({ period, sums, widened(slot[3], wait), widened(slot[4], ran) })
  redis.call('HSET', key, period % slots, packed)
  redis.call('EXPIRE', key, seconds * slots)
end

local FUNCTIONS_MOST = 1000 -- names of functions that are remembered; the longest unseen goes
local day = string.sub(NOW_ISO, 1, 10)
for _, one in ipairs(cmsgpack.unpack(ARGV[4])) do
  local kind, name, counts, wait, ran = unpack(one)
  -- A spoilt key costs its own figures only.
  if kind == 'queue' then pcall(add, figures_key(day, name), counts, wait, ran) end
  if kind == 'function' then
    pcall(add, handled_key(day, name), counts, wait, ran)
    redis.pcall('ZADD', FUNCTIONS_KEY, SEC, name)
  else
    for _, ring in ipairs(rings) do
      local key = NS .. 'rrqd:series:' .. ring[1] .. (kind == 'queue' and ':' .. name or '')
      pcall(advance, key, ring, counts, wait, ran)
    end
  end
end
if (tonumber(redis.pcall('ZCARD', FUNCTIONS_KEY)) or 0) > FUNCTIONS_MOST then redis.call('ZPOPMIN', FUNCTIONS_KEY) end
if me[1] then redis.call('HSET', worker_key(worker), 'reported', number) end
return 1
