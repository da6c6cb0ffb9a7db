-- In which order a claim looks at the jobs of a queue. Needs _places.

-- A lane: one range of one key, in which a queue's jobs lie in order; `at`: how many of it have been looked at.
local function lanes_of(queue, fact, turn)
  local home = 'rrq:queue:' .. queue -- what most jobs in it say of themselves
  local plain = { key = queue_key(queue), home = home, from = '-inf', to = '+inf', at = 0, queue = queue }
  local lanes, prio = {}, prio_key(queue)
  local function add(what, from, to)
    local name = what .. ' ' .. queue
    if fact[name] then
      lanes[#lanes + 1] = { key = prio, home = home, from = from, to = to, at = 0, queue = queue, prio = true,
        fact = name }
    end
  end
  add('high', '-inf', '(0')
  if fact['alone ' .. queue] then -- of any priority: there are few
    lanes[#lanes + 1] = { key = spots.alone(queue, '', 0), home = home, from = '-inf', to = '+inf', at = 0, queue = queue,
      prio = true, alone = true, fact = 'alone ' .. queue }
  end
  -- 0 is the priority of those who have none. Those with throttles, those of tenants and the others: each first in turn.
  local none = {}
  if fact['zero ' .. queue] then none[1] = 'zero' end
  none[#none + 1] = 'plain'
  if fact['fair ' .. queue] then none[#none + 1] = 'fair' end
  for nth = 0, #none - 1 do
    local what = none[1 + (turn + nth) % #none]
    if what == 'zero' then
      add('zero', '0', '0')
    elseif what == 'plain' then
      lanes[#lanes + 1], lanes.plain = plain, plain
    else
      lanes[#lanes + 1] = { key = fair.key(queue), home = home, from = '-inf', to = '+inf', at = 0, queue = queue,
        prio = true, fair = true, fact = 'fair ' .. queue }
    end
  end
  add('low', '(0', '+inf')
  return lanes
end

-- A queue's virtual time (_places) is now that of the last job taken. Tenants whose next turn has passed need not be
-- remembered: a job that is taken makes one such at most, so a bounded number of them goes with each claim.
function fair.pass_time(picked)
  local forget_more = 20
  local reached, taken_of = {}, {}
  for _, one in ipairs(picked) do
    local queue = one.queue
    if one.start then
      reached[queue] = math.max(reached[queue] or fair.time(queue), one.start)
      taken_of[queue] = (taken_of[queue] or 0) + 1
    end
  end
  for queue, now in pairs(reached) do
    redis.call('HSET', FACTS_KEY, 'fair ' .. queue, fair.text(now))
    local past = redis.call('ZRANGE', fair.turns_key(queue), '-inf', fair.text(now), 'BYSCORE', 'LIMIT', 0,
      taken_of[queue] + forget_more)
    if #past > 0 then redis.call('ZREM', fair.turns_key(queue), unpack(past)) end
  end
end

-- No tenant's job waits in the queue any more.
function fair.start_anew(queue)
  fair.now[queue], fair.turn_of = nil, {}
  redis.call('DEL', fair.turns_key(queue))
end
