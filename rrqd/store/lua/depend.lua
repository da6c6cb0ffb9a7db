#!lua flags=allow-oom
-- Changes for whom a waiting job waits.
-- With: _places _family
-- KEYS  1 <namespace>rrqd:token
-- ARGV  1 'add' | 'drop' (none named: all)   2 job id   3 most parents a job may have   4.. parents
-- Answer: {'waits' (for somebody still) | 'ready' (in its queue) | 'too-late' (it does not wait any more)
--         | 'unknown' | 'unknown-parent' | 'cycle' | 'deep' (too many to look for a cycle) | 'full' | 'refused' (its place is spoilt),
--         the parent it is about}
-- Promise: nobody ever waits for itself, over any number of others; repeated it changes nothing more.

local verb, id, most = ARGV[1], ARGV[2], tonumber(ARGV[3])
local job = redis.call('HMGET', job_key(id), 'status', 'queue_name', 'rrqd_token', 'rrqd_place', 'rrqd_due',
  'rrqd_priority', 'rrqd_on_parent', 'rrqd_parents')
if not job[1] then return { 'unknown', '' } end
local queue, kind, due, policy = short_queue(job[2] or ''), job[4] or '', job[5], job[7] or 'hold'
local held = job[3] and string.sub(job[3], 1, 1) ~= '-'
if held or (job[1] ~= 'PENDING' and job[1] ~= 'RETRYING') then return { 'too-late', '' } end

local function rest()
  if redis.call('EXISTS', parents_key(id)) == 1 then return { 'waits', '' } end
  return { let_go(id, queue, due, job[6]) and 'ready' or 'refused', '' }
end

if verb == 'drop' then
  if kind ~= 'depends' then return { 'too-late', '' } end
  if #ARGV == 3 then
    disown(id, policy)
  else
    for at = 4, #ARGV do unlink(id, ARGV[at], policy) end
  end
  return rest()
end

local parents, known = {}, {}
for at = 4, #ARGV do parents[#parents + 1] = ARGV[at] end
local waits, doomed, unknown = unmet(parents, policy)
if unknown then return { 'unknown-parent', unknown } end
if doomed then return { 'too-late', doomed } end
for _, parent in ipairs(waits) do
  local found = waits_for(parent, id)
  if found ~= false then return { found and 'cycle' or 'deep', parent } end
end
for _, parent in ipairs(read_list(job[8])) do known[parent] = true end
local all = read_list(job[8])
for _, parent in ipairs(parents) do
  if not known[parent] then all[#all + 1] = parent end
  known[parent] = true
end
if #all > most then return { 'full', '' } end
if #waits == 0 then return { kind == 'depends' and 'waits' or 'ready', '' } end
if kind ~= 'depends' then
  if kind == '' then due = redis.call('ZSCORE', queue_key(queue), id) end
  if not due then return { 'too-late', '' } end -- a foreign worker has it
  if type(redis.pcall('ZADD', depends_key(queue), due, id)) == 'table' then return { 'refused', '' } end
  take(queue, id, kind, due)
end
redis.call('HSET', job_key(id), 'rrqd_place', 'depends', 'rrqd_due', due, 'rrqd_parents', cjson.encode(all))
for _, parent in ipairs(waits) do link(id, parent, policy, due) end
return { 'waits', '' }
