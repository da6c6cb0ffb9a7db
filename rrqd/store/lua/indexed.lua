#!lua flags=allow-oom
-- A page of an index of jobs: those with a tag, those that are tracked, those that failed in a group, those of a list
-- that have ended. Entries whose job is gone, or says otherwise, are dropped on the way.
-- With: _tags _groups
-- KEYS  1 <namespace>rrqd:token
-- ARGV  1 'tag' | 'tracked' | 'group' | 'ended'   2 name of the tag or group; "<status> <list>"   3 offset   4 most ids   5 most entries to look at
--       6 'newest' | 'oldest' first
-- Answer: {ids, entries dropped, entries left in the index}
-- Promise: bounded work; an id is only named while the job's own hash agrees.

local kind, name, at, limit, most = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local key_of = { tag = tag_key, group = group_key, ended = ended_key }
local known_in = { tag = TAGS_KEY, group = GROUPS_KEY, ended = LISTS_KEY }
local key = key_of[kind] and key_of[kind](name) or TRACKED_KEY

local agrees = {}
function agrees.tracked(id) return redis.pcall('HEXISTS', job_key(id), 'rrqd_tracked') == 1 end
function agrees.group(id)
  local job = redis.pcall('HMGET', job_key(id), 'rrqd_group', 'status')
  return job[1] == name and job[2] == 'FAILED'
end
function agrees.ended(id)
  local job = redis.pcall('HMGET', job_key(id), 'status', 'rrqd_listed')
  return (job[1] or '') .. ' ' .. (job[2] or '') == name
end
function agrees.tag(id)
  local stored = redis.pcall('HGET', job_key(id), 'rrqd_tags')
  if type(stored) ~= 'string' then return false end
  for _, one in ipairs(read_list(stored)) do
    if one == name then return true end
  end
  return false
end

local found, dropped, looked = {}, 0, 0
while #found < limit and looked < most do
  local last = at + math.min(limit - #found, most - looked) - 1
  local page
  if ARGV[6] == 'oldest' then
    page = redis.call('ZRANGE', key, at, last)
  else
    page = redis.call('ZRANGE', key, at, last, 'REV')
  end
  if #page == 0 then break end
  local hollow = {}
  for _, id in ipairs(page) do
    looked = looked + 1
    if agrees[kind](id) then
      found[#found + 1] = id
      at = at + 1
    else
      hollow[#hollow + 1] = id
    end
  end
  if #hollow > 0 then dropped = dropped + redis.call('ZREM', key, unpack(hollow)) end
end
local left = redis.call('ZCARD', key)
if left == 0 and known_in[kind] then redis.call('SREM', known_in[kind], name) end
return { found, dropped, left }
