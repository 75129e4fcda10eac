-- Notes how many connections of a user an instance has in a room, and publishes with the command ANNOUNCE what changes by that.
--
-- KEYS[3]  `at:<I>:<room>`, hash: user to its connections at the instance, whose incarnation is <I>
-- KEYS[4]  `rooms:<I>`, set: the rooms in which the incarnation has anybody, within the partition
-- KEYS[5]  `gone:<I>`: the incarnation is dead, if this is there
-- KEYS[6]  `tellers`, set: the incarnations that have anybody in any room of the partition
-- ARGV[3]  room
-- ARGV[4]  user
-- ARGV[5]  connections: no sum, but all that the instance has
-- ARGV[6]  info, which is taken over unless there are no connections
-- ARGV[7]  the incarnation
--
-- Replies the user's connections at all instances, how many users there are, in how many rooms of the partition the incarnation has anybody,
-- master_replid, 1 if the change is announced or there is none, and what went wrong with that. GONE if the incarnation is dead: nothing is
-- noted.

local AT, ROOMS, TELLERS = KEYS[3], KEYS[4], KEYS[6]
local ROOM, USER, CONNECTIONS, INFO, OWN = ARGV[3], ARGV[4], tonumber(ARGV[5]), ARGV[6], ARGV[7]

if redis.call('EXISTS', KEYS[5]) == 1 then
  return redis.error_reply('GONE the incarnation is dead')
end
local had = tonumber(redis.call('HGET', AT, USER) or '') or 0
local before, info = known(USER)
local is_listed, rooms = redis.call('SISMEMBER', ROOMS, ROOM) == 1, redis.call('SCARD', ROOMS)
redis.call('SCARD', TELLERS)
-- What was evicted cannot be taken off.
local now = math.max(before - had + CONNECTIONS, CONNECTIONS)
local has_news = CONNECTIONS > 0 and info ~= INFO
local changes = (now ~= before or has_news) and 1 or 0

if changes > 0 then
  settle(changes)
end
if CONNECTIONS > 0 then
  if had ~= CONNECTIONS then
    redis.call('HSET', AT, USER, CONNECTIONS)
  end
  if not is_listed then
    redis.call('SADD', TELLERS, OWN)
    rooms = rooms + redis.call('SADD', ROOMS, ROOM)
  end
else
  redis.call('HDEL', AT, USER)
  if is_listed and redis.call('EXISTS', AT) == 0 then
    rooms = rooms - redis.call('SREM', ROOMS, ROOM)
    if rooms == 0 then
      redis.call('SREM', TELLERS, OWN)
    end
  end
end
if changes > 0 then
  change(USER, now, has_news and INFO or info)
  keep()
end
return { now, users, rooms, replid, is_announced, trouble }
