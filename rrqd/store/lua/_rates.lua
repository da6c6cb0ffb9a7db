-- Rates: of the jobs that name one, so many start in a time, over all queues. A virtual clock for each name (`tat`) is
-- moved on an interval by each start, and may be ahead of time by `burst` of them less one.
-- A job that comes too early gets a slot behind those that wait already, and is due then. What is kept is a wish: whether
-- it may start is asked again when its slot has come.
local RATE_KEPT_MS = 60000
local function rate_key(name) return NS .. 'rrqd:rate:' .. name end -- hash: tat, slot = the next free one; both µs

local NOW_US = SEC * 1000000 + USEC
local NEAR_US = 1000
local rates = {}

local function rate_of(name)
  if not rates[name] then
    local kept = redis.pcall('HMGET', rate_key(name), 'tat', 'slot')
    if kept.err then kept = {} end
    rates[name] = { tat = tonumber(kept[1] or '') or 0, slot = tonumber(kept[2] or '') or 0, late = 0 }
  end
  return rates[name]
end

-- nil when a job may start now (its start counts from here on), else when it may, ms. `text`: "interval burst name";
-- `slotted`: it has waited for its slot.
local function rate_stops(text, slotted)
  local interval, burst, name = string.match(text, '^(%d+) (%d+) (.*)$')
  if not interval then return nil end
  local rate = rate_of(name)
  interval = tonumber(interval)
  local tat = math.max(rate.tat, NOW_US)
  local earliest = tat - (tonumber(burst) - 1) * interval
  rate.changed = true
  if earliest <= NOW_US + NEAR_US and (slotted or rate.slot <= NOW_US) then
    rate.tat = tat + interval
    return nil
  end
  local slot
  if slotted then -- others have started late: a little later, not behind everybody
    slot = math.max(rate.late, earliest)
    rate.late = slot + interval
  else
    slot = math.max(rate.slot, earliest)
    rate.slot = slot + interval
  end
  return slot / 1000
end

local function keep_rates()
  for name, rate in pairs(rates) do
    if rate.changed then
      local till = math.max(rate.tat, rate.slot)
      redis.call('HSET', rate_key(name), 'tat', whole(rate.tat), 'slot', whole(rate.slot))
      redis.call('PEXPIREAT', rate_key(name), whole(till / 1000 + RATE_KEPT_MS))
    end
  end
end
