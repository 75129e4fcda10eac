-- Takes some of a dead incarnation's users out of a room, and publishes each change with the command ANNOUNCE. `gone.lua` comes first.
--
-- KEYS[3]  `at:<I>:<room>`, of the dead incarnation
-- KEYS[4]  `rooms:<I>`, from which the room is taken when nobody of it is left
-- KEYS[5]  `tellers`, from which the incarnation is taken with its last room
-- ARGV[3]  room
-- ARGV[4]  how many users at most
-- ARGV[5]  the incarnation
--
-- Replies 1 if more are left, else 0; how many users there are; master_replid; 1 if all changes are announced; and what went wrong with
-- that.

local AT, ROOMS, TELLERS, ROOM = KEYS[3], KEYS[4], KEYS[5], ARGV[3]

redis.call('SCARD', ROOMS)
redis.call('SCARD', TELLERS)
local found = redis.call('HRANDFIELD', AT, ARGV[4], 'WITHVALUES')
local leaving = {}
for at = 1, #found, 2 do
  local before, info = known(found[at])
  if before > 0 then
    leaving[#leaving + 1] = { found[at], math.max(before - (tonumber(found[at + 1]) or 0), 0), info }
  end
end
if #leaving > 0 then
  settle(#leaving)
end
for at = 1, #found, 2 do
  redis.call('HDEL', AT, found[at])
end
for _, user in ipairs(leaving) do
  change(user[1], user[2], user[3])
end
if #leaving > 0 then
  keep()
end
local is_more = redis.call('EXISTS', AT)
if is_more == 0 then
  redis.call('SREM', ROOMS, ROOM)
  if redis.call('SCARD', ROOMS) == 0 then
    redis.call('SREM', TELLERS, ARGV[5])
  end
end
return { is_more, users, replid, is_announced, trouble }
