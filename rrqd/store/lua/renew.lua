#!lua flags=allow-oom
-- Moves the end of a node's lease to now + lease, for all its workers at once.
-- KEYS  1 <namespace>rrqd:token
-- ARGV  1 node id   2 lease in ms (0: the node gives its lease up)
-- Answer: {deadline ms, now ms, 'live' | 'unknown' (new, or it was reaped) | 'lapsed' (late: others may have reaped it)}
-- Promise: while it is called in time, nobody releases this node's jobs.

local SEEN_KEY = NS .. 'rrqd:seen'        -- zset: node id -> when it last renewed its lease, ms
local SEEN_KEPT_MS = 86400000
local node, lease = ARGV[1], tonumber(ARGV[2])
local before = redis.call('ZSCORE', NODES_KEY, node)
if lease == 0 then
  if redis.call('SCARD', node_key(node)) == 0 then
    redis.call('ZREM', NODES_KEY, node)
  else
    redis.call('ZADD', NODES_KEY, score_text(NOW_MS), node) -- workers are left behind: let any reaper see to them
  end
  return { score_text(NOW_MS), score_text(NOW_MS), 'live' }
end
local deadline = NOW_MS + lease
redis.call('ZADD', NODES_KEY, score_text(deadline), node)
redis.call('ZADD', SEEN_KEY, score_text(NOW_MS), node)
if not before then redis.call('ZREMRANGEBYSCORE', SEEN_KEY, '-inf', score_text(NOW_MS - SEEN_KEPT_MS)) end
local was = not before and 'unknown' or tonumber(before) <= NOW_MS and 'lapsed' or 'live'
return { score_text(deadline), score_text(NOW_MS), was }
