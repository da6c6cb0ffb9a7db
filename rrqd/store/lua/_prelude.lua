-- Shared by all scripts: it is laid under each of them when they are loaded.

-- Errors that say nothing of a key, but that this script can't do its work: a right that is missing, a key on its way
-- to another node of a cluster.
local function is_obstacle(answer)
  return type(answer) == 'table' and type(answer.err) == 'string'
    and (string.find(answer.err, 'ermission', 1, true) or string.find(answer.err, 'non local key', 1, true)) ~= nil
end

-- As the server's, but pcall lets an obstacle through: whoever uses it takes any error for a spoilt key. What is asked
-- for every job asks the server itself (and looks only at errors): a function in between costs a two-hundredth a call.
local type, server_call, server_pcall = type, redis.call, redis.pcall
local redis = {
  call = server_call,
  error_reply = redis.error_reply,
  pcall = function(...)
    local answer = server_pcall(...)
    if type(answer) == 'table' and answer.err and is_obstacle(answer) then return redis.call(...) end
    return answer
  end,
}

-- Every script gets KEYS[1] = <namespace>rrqd:token; all other names are built from that namespace, so that a
-- namespace with a hash tag keeps every key of a script in one cluster slot.
local NS = string.sub(KEYS[1], 1, -11)
local TOKEN_KEY = KEYS[1]
local NODES_KEY = NS .. 'rrqd:nodes'      -- zset: node id -> end of its lease, ms
local QUEUES_KEY = NS .. 'rrqd:queues'    -- set: names of queues ever seen
local DLQS_KEY = NS .. 'rrqd:dlqs'        -- set: names of DLQs ever written
local ASIDE_KEY = NS .. 'rrqd:aside'      -- hash: id, or queue's key -> what is wrong with it
local TRACKED_KEY = NS .. 'rrqd:tracked'  -- zset: id -> µs since when it is tracked
local EVENTS_KEY = NS .. 'rrqd:events'    -- stream of the last events of tracked jobs, and the channel they are told on
local LISTS_KEY = NS .. 'rrqd:lists'      -- set: "<status> <list>" of jobs that asked to be listed and have ended

local function job_key(id) return NS .. 'rrq:job:' .. id end
local function events_key(id) return NS .. 'rrq:events:job:' .. id end
local function lock_key(id) return NS .. 'rrq:lock:job:' .. id end
local function queue_key(name) return NS .. 'rrq:queue:' .. name end
local function dlq_key(name) return NS .. 'rrq:dlq:' .. name end
local function held_key(worker) return NS .. 'rrqd:held:' .. worker end      -- hash: id -> "token score turn"
local function worker_key(worker) return NS .. 'rrqd:worker:' .. worker end  -- hash: node, opened_ms, turn, cancels, told, paused
local function node_key(node) return NS .. 'rrqd:node:' .. node end          -- set: its open workers
local function ended_key(name) return NS .. 'rrqd:ended:' .. name end        -- zset: id -> µs when it ended
local function log_key(id) return NS .. 'rrqd:log:' .. id end                -- list: lines that handlers wrote, JSON

-- The server's clock: whole seconds, µs within, and epoch ms with the µs as a fraction.
local clock = redis.call('TIME')
local SEC, USEC = tonumber(clock[1]), tonumber(clock[2])
local NOW_MS = SEC * 1000 + USEC / 1000

local function score_text(ms) return string.format('%.3f', ms) end
local function whole(number) return string.format('%.0f', number) end

-- RFC 3339 in UTC with µs (days to civil date by the usual era arithmetic; Redis has no os.date).
local function iso(sec, usec)
  local days = math.floor(sec / 86400)
  local rest = sec - days * 86400
  local z = days + 719468
  local era = math.floor(z / 146097)
  local doe = z - era * 146097
  local yoe = math.floor((doe - math.floor(doe / 1460) + math.floor(doe / 36524) - math.floor(doe / 146096)) / 365)
  local doy = doe - (365 * yoe + math.floor(yoe / 4) - math.floor(yoe / 100))
  local mp = math.floor((5 * doy + 2) / 153)
  local day = doy - math.floor((153 * mp + 2) / 5) + 1
  local month = mp < 10 and mp + 3 or mp - 9
  local year = yoe + era * 400 + (month <= 2 and 1 or 0)
  return string.format('%04d-%02d-%02dT%02d:%02d:%02d.%06d+00:00', year, month, day, math.floor(rest / 3600),
    math.floor(rest / 60) % 60, rest % 60, usec)
end

local function iso_ms(ms)
  local sec = math.floor(ms / 1000)
  return iso(sec, math.min(999999, math.floor((ms - sec * 1000) * 1000 + 0.5)))
end

local NOW_ISO = iso(SEC, USEC)

-- `queue_name` in a hash is the full key without our namespace; a name may also stand there bare.
local function short_queue(name)
  if string.sub(name, 1, 10) == 'rrq:queue:' then return string.sub(name, 11) end
  return name
end

local function short_dlq(name)
  if string.sub(name, 1, 8) == 'rrq:dlq:' then return string.sub(name, 9) end
  return name
end

-- RRQ's rule for what a result's time to live means, for the hash and its event stream.
local expiry = {} -- seconds -> epoch ms as text: jobs of one batch mostly share it
local function set_ttl(id, seconds)
  if seconds > 0 then -- at most three centuries: far more would be an error
    local at = expiry[seconds]
    if not at then
      at = whole(NOW_MS + math.min(seconds, 1e10) * 1000)
      expiry[seconds] = at
    end
    server_call('PEXPIREAT', job_key(id), at)
    server_call('PEXPIREAT', events_key(id), at)
  elseif seconds == 0 then
    redis.call('PERSIST', job_key(id))
    redis.call('PERSIST', events_key(id))
  end
end

-- A place in a queue. False when something else lies under the queue's name; then nothing is written. It comes before
-- a job's other changes, which can't fail: so no move stops half way for a key that a foreign hand has spoiled.
local function place(queue, due_ms, id)
  local done = redis.pcall('ZADD', queue_key(queue), due_ms, id)
  return type(done) ~= 'table'
end

local function no_queue(queue) return 'rrq:queue:' .. queue .. ' holds something that is not a queue.' end

-- `rrqd_unique` of a job, "<until> <key>", for those jobs of a script that have one. Whoever reads a job that may end
-- reads it too; `finish` does the rest.
local unique_of = {}
-- The same for `job_unique_key`, for which RRQ's first API, and its orchestrator within itself, take a lock.
local lock_of = {}
-- `rrqd_listed`: the list in which a job is found when it has ended.
local listed_of = {}
local known_lists = {} -- in this call: a batch says it once
local function list_end(id, status)
  local name = status .. ' ' .. listed_of[id]
  redis.call('ZADD', ended_key(name), whole(SEC * 1000000 + USEC), id)
  if not known_lists[name] then redis.call('SADD', LISTS_KEY, name) end
  known_lists[name] = true
end

-- Another job may have the key by now: it is freed by its holder only.
local function free_unique(id, unique, until_started)
  local till, key = string.match(unique, '^(%S+) (.*)$')
  if not till or (until_started and till ~= 'started') then return end
  key = NS .. 'rrq:idempotency:' .. key
  if redis.pcall('GET', key) == id then redis.call('DEL', key) end
end

-- A job's end: RRQ's event entry (the wake-up of every waiter), then the retention.
local function finish(id, event, status, ttl)
  if unique_of[id] then free_unique(id, unique_of[id]) end
  if lock_of[id] then
    local lock = NS .. 'rrq:lock:unique:' .. lock_of[id]
    if redis.pcall('GET', lock) == id then redis.call('DEL', lock) end
  end
  local told = server_pcall('XADD', events_key(id), '*', 'event', event, 'job_id', id, 'status', status)
  if is_obstacle(told) then error(told) end
  set_ttl(id, ttl)
  if listed_of[id] then list_end(id, status) end
end

-- Into the DLQ. RRQ's order of fields; `current_retries` is the caller's business.
local function bury(id, dlq, err, detail, retention)
  redis.call('HSET', job_key(id), 'status', 'FAILED', 'last_error', err, 'completion_time', NOW_ISO)
  if detail ~= '' then redis.call('HSET', job_key(id), 'rrqd_error', detail) end
  local listed = redis.pcall('LPUSH', dlq_key(dlq), id)
  if type(listed) == 'table' then
    redis.call('HSET', ASIDE_KEY, id, 'rrq:dlq:' .. dlq .. ' is not a list; the job is FAILED')
  else
    redis.call('SADD', DLQS_KEY, dlq)
  end
  finish(id, 'failed', 'FAILED', retention)
end

-- The token, the score and the turn of a held entry, "token score turn".
local function numbers(text) return string.match(text, '^(%S+) (%S+) (%S+)$') end

-- A JSON list of texts in a field of a job; whatever else stands there counts as an empty one.
local function read_list(text)
  if not text or text == '' then return {} end
  local ok, list = pcall(cjson.decode, text)
  return ok and type(list) == 'table' and list or {}
end

-- A job's past with one entry more: the first one and the newest stay.
local PAST_KEPT, WHY_BYTES = 50, 300
local function with_past(text, entry, most)
  local past = read_list(text)
  if entry.why and #entry.why > WHY_BYTES then
    entry.why = string.gsub(string.sub(entry.why, 1, WHY_BYTES), '[\128-\255]*$', '') .. '…'
  end
  past[#past + 1] = entry
  while #past > (most or PAST_KEPT) do table.remove(past, 2) end
  return cjson.encode(past)
end

-- A move of a tracked job: kept for those who ask later, and told to those who listen. `what`: more of the event; `progress`: JSON.
local EVENTS_KEPT = 1000
local function tell(id, event, what, progress)
  what.event, what.job_id, what.at = event, id, NOW_ISO
  local text = cjson.encode(what)
  -- As it came: decoded and encoded again, an empty list would become an object.
  if progress then text = string.sub(text, 1, -2) .. ',"progress":' .. progress .. '}' end
  redis.pcall('XADD', EVENTS_KEY, 'MAXLEN', '~', EVENTS_KEPT, '*', 'event', text)
  redis.pcall('PUBLISH', EVENTS_KEY, text)
end
