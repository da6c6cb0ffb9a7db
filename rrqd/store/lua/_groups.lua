-- Groups of failures.
local GROUPS_KEY = NS .. 'rrqd:groups'    -- set: groups of failures in use
local function group_key(group) return NS .. 'rrqd:group:' .. group end      -- zset: id of a buried job -> µs when it failed
