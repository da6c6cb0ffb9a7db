-- The index of tags.
local TAGS_KEY = NS .. 'rrqd:tags'        -- set: tags in use
local function tag_key(tag) return NS .. 'rrqd:tag:' .. tag end              -- zset: id -> µs when it was tagged

-- `is_there`: key -> whether it is known to be there; a tag whose index is there is among those in use already.
local function index_tags(id, tags, nth, is_there)
  local now = whole(SEC * 1000000 + USEC + nth)
  local fresh = {}
  for _, tag in ipairs(tags) do
    local key = tag_key(tag)
    redis.call('ZADD', key, now, id)
    if not is_there[key] then fresh[#fresh + 1] = tag end
    is_there[key] = true
  end
  if #fresh > 0 then redis.call('SADD', TAGS_KEY, unpack(fresh)) end
end
