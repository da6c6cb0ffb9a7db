#!lua flags=allow-oom
-- A page of an index of jobs (those with a tag, those that are tracked). Entries whose job is gone, or says otherwise,
-- are dropped on the way.
-- KEYS  1 <namespace>rrqd:token
-- ARGV  1 tag, or '' = tracked jobs   2 offset   3 most ids   4 most entries to look at   5 'newest' | 'oldest' first
-- Answer: {ids, entries dropped, entries left in the index}
-- Promise: bounded work; an id is only named while the job's own hash agrees.

local tag, at, limit, most = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local key = tag ~= '' and tag_key(tag) or TRACKED_KEY

local function agrees(id)
  if tag == '' then return redis.pcall('HEXISTS', job_key(id), 'rrqd_tracked') == 1 end
  local stored = redis.pcall('HGET', job_key(id), 'rrqd_tags')
  if type(stored) ~= 'string' then return false end
  for _, one in ipairs(read_list(stored)) do
    if one == tag then return true end
  end
  return false
end

local found, dropped, looked = {}, 0, 0
while #found < limit and looked < most do
  local last = at + math.min(limit - #found, most - looked) - 1
  local page
  if ARGV[5] == 'oldest' then
    page = redis.call('ZRANGE', key, at, last)
  else
    page = redis.call('ZRANGE', key, at, last, 'REV')
  end
  if #page == 0 then break end
  local hollow = {}
  for _, id in ipairs(page) do
    looked = looked + 1
    if agrees(id) then
      found[#found + 1] = id
      at = at + 1
    else
      hollow[#hollow + 1] = id
    end
  end
  if #hollow > 0 then dropped = dropped + redis.call('ZREM', key, unpack(hollow)) end
end
local left = redis.call('ZCARD', key)
if left == 0 and tag ~= '' then redis.call('SREM', TAGS_KEY, tag) end
return { found, dropped, left }
