-- Looking at a job that might be handed out. Needs _places.

-- Whether an id is UTF-8: one that is not can be named by no program that speaks JSON.
local function is_text(id)
  if string.find(id, '^%w+%-%w+%-%w+%-%w+%-%w+$') then return true end -- a UUID, as most are: seen soonest
  if not string.find(id, '[\128-\255]') then return true end
  for _, whole in ipairs({ '[\194-\223]', '\224[\160-\191]', '[\225-\236\238\239][\128-\191]', '\237[\128-\159]',
    '\240[\144-\191][\128-\191]', '[\241-\243][\128-\191][\128-\191]', '\244[\128-\143][\128-\191]' }) do
    id = string.gsub(id, whole .. '[\128-\191]', ' ')
  end
  return not string.find(id, '[\128-\255]')
end

-- A whole hash is cheaper to read than a dozen fields by name, most of which are absent. The second answer is the same
-- by name, in one table for all jobs: it is only good until the next call.
local f, named = {}, {}
local function look_up(id)
  local flat = server_pcall('HGETALL', job_key(id))
  if flat.err and is_obstacle(flat) then error(flat) end
  for at = 1, #named, 2 do f[named[at]] = nil end
  for at = 1, #flat, 2 do f[flat[at]] = flat[at + 1] end
  named = flat
  return flat, f
end

-- What a worker needs to know of a job that has no fields but those that all have; nil for others.
local function in_short(flat, f)
  local count = #flat
  if count > 14 or not (f.id and f.status and f.queue_name and f.function_name and f.enqueue_time) then return nil end
  local params = f.job_params
  local usual = 10 + (params and 2 or 0) + (f.next_scheduled_run_time and 2 or 0)
  return count == usual and { f.function_name, f.enqueue_time, params or '' } or nil
end

local function is_suspect(f) return f.rrqd_aboard and (tonumber(f.rrqd_aboard) or 0) >= SUSPECT_AFTER end
