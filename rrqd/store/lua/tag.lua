#!lua
-- Adds tags to a job, or takes some away, whatever state it is in.
-- With: _tags
-- KEYS  1 <namespace>rrqd:token
-- ARGV  1 'add' | 'remove'   2 job id   3 most tags a job may have   4.. tags
-- Answer: {'ok' | 'unknown' (no such job) | 'full' (they would be too many), tags it has now}
-- Promise: repeated it changes nothing more. What a job's hash says is the truth; the index only leads there.

local adding, id, most = ARGV[1] == 'add', ARGV[2], tonumber(ARGV[3])
local job = redis.pcall('HMGET', job_key(id), 'rrqd_tags', 'function_name', 'status')
if job.err or not (job[2] or job[3]) then return { 'unknown', {} } end

local asked, tags, has, lost = {}, {}, {}, {}
for at = 4, #ARGV do asked[ARGV[at]] = true end
for _, tag in ipairs(read_list(job[1])) do
  if adding or not asked[tag] then
    tags[#tags + 1] = tag
    has[tag] = true
  else
    lost[#lost + 1] = tag
  end
end
local fresh = {}
for at = 4, #ARGV do
  if adding and not has[ARGV[at]] then
    has[ARGV[at]] = true
    fresh[#fresh + 1] = ARGV[at]
    tags[#tags + 1] = ARGV[at]
  end
end
if #fresh > 0 and #tags > most then return { 'full', read_list(job[1]) } end

if #fresh > 0 then index_tags(id, fresh, 0, {}) end
for _, tag in ipairs(lost) do
  redis.call('ZREM', tag_key(tag), id)
  if redis.call('EXISTS', tag_key(tag)) == 0 then redis.call('SREM', TAGS_KEY, tag) end
end
if #fresh + #lost > 0 then
  if #tags > 0 then
    redis.call('HSET', job_key(id), 'rrqd_tags', cjson.encode(tags))
  else
    redis.call('HDEL', job_key(id), 'rrqd_tags')
  end
end
return { 'ok', tags }
