#!lua flags=allow-oom
-- Registers a worker under its node, so that it may claim.
-- With: _paused
-- KEYS  1 <namespace>rrqd:token
-- ARGV  1 worker id   2 node id
-- Answer: 1 opened (or was open already); 0 the node's lease is not live: nothing done, try again.
-- Promise: a worker can only be open under a node whose end somebody will notice.

local worker, node = ARGV[1], ARGV[2]
local deadline = redis.call('ZSCORE', NODES_KEY, node)
if not deadline or tonumber(deadline) <= NOW_MS then return 0 end
redis.call('HSETNX', worker_key(worker), 'turn', '0')
redis.call('HSET', worker_key(worker), 'node', node, 'opened_ms', score_text(NOW_MS))
redis.call('SADD', node_key(node), worker)
tell_paused(worker, paused_text())
return 1
