#!lua flags=allow-oom
-- Changes the configuration that lies in the store, and tells every open worker that it has changed.
-- KEYS  1 <namespace>rrqd:token
-- ARGV  1 'set' | 'unset'   2 field: "<key>", or "<key> <queue>"   3 value, of 'set'
-- Answer: what stood there before, or nil
-- Promise: jobs pay nothing for it: workers read the whole of it when they are told, and now and then.

local CONFIG_KEY = NS .. 'rrqd:config'    -- hash: "<key>" or "<key> <queue>" -> value
local before = redis.call('HGET', CONFIG_KEY, ARGV[2])
if ARGV[1] == 'set' then
  redis.call('HSET', CONFIG_KEY, ARGV[2], ARGV[3])
else
  redis.call('HDEL', CONFIG_KEY, ARGV[2])
end
for _, node in ipairs(redis.call('ZRANGE', NODES_KEY, 0, -1)) do
  for _, worker in ipairs(redis.call('SMEMBERS', node_key(node))) do
    redis.call('PUBLISH', NS .. 'rrqd:to:' .. worker, 'config')
  end
end
return before
