-- Extends the lease of an incarnation, and hands out dead ones that are to be cleared up.
--
-- KEYS[1]  `instances`, sorted set: incarnation to the Unix ms until which its lease lasts, by Redis's clock
-- KEYS[2]  `dead`, sorted set: dead incarnation to the Unix ms until which somebody has taken on to clear up after it
-- KEYS[3]  `about`, hash: incarnation to what is to be known of its instance; and of the empty name, master_replid
-- ARGV[1]  the incarnation
-- ARGV[2]  the lease, ms
-- ARGV[3]  what is to be known of the instance
-- ARGV[4]  1 if the incarnation is new, as far as the caller knows: it gets a lease unless it is dead, because an earlier call may have been
--          done and not answered. Others keep theirs, if it has not run out
-- ARGV[5]  how many dead incarnations the caller takes on at most
-- ARGV[6]  how many follow from ARGV[9] on that are cleared up
-- ARGV[7]  master_replid of the Redis that handed those out: another one may have lost that they are cleared up
-- ARGV[8]  how many follow behind them that the caller has given up itself. They are dead, and are left alone for a lease, so that their
--          users are told of anew before they are taken out. The others have users somewhere, and the caller knows of no lease of theirs. So
--          they are dead as well, unless they have one, or it is known that they are
--
-- Whose lease has run out is dead, and left alone for a quarter of a lease, so that an instance that comes back a little late tells of its
-- users anew before they are taken out. Where another Redis began since the last call, all leases begin anew: nobody could renew theirs.
--
-- Replies 1 if the lease is extended, 0 if it is lost; Unix ms; master_replid; a list of dead incarnations that the caller has taken on for
-- one lease, none if its own is lost; and then incarnation, end of the lease in Unix ms as a text, and what is to be known of it, of each
-- instance.

local INSTANCES, DEAD, ABOUT = KEYS[1], KEYS[2], KEYS[3]
local OWN, LEASE = ARGV[1], tonumber(ARGV[2])
local CLEARED_TO = 8 + tonumber(ARGV[6])
local RETIRED_TO = CLEARED_TO + tonumber(ARGV[8])
-- More have to wait for the next call.
local EXPIRED_MAX, TOLD_MAX = 64, 1024

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local now_text, later_text = string.format('%d', now), string.format('%d', now + LEASE)
local soon_text = string.format('%d', now + math.floor(LEASE / 4))

local began_by = redis.call('HGET', ABOUT, '')
if began_by ~= replid then
  redis.call('HSET', ABOUT, '', replid)
  for _, incarnation in ipairs(began_by and redis.call('ZRANGE', INSTANCES, 0, TOLD_MAX - 1) or {}) do
    redis.call('ZADD', INSTANCES, 'GT', later_text, incarnation)
  end
end
local lasts = tonumber(redis.call('ZSCORE', INSTANCES, OWN) or '') or 0
local is_dead = redis.call('ZSCORE', DEAD, OWN)
local is_kept = lasts > now or ARGV[4] == '1' and not is_dead

if is_kept then
  redis.call('ZADD', INSTANCES, later_text, OWN)
  redis.call('HSET', ABOUT, OWN, ARGV[3])
end
local function bury(incarnation, untaken_until)
  redis.call('ZADD', DEAD, 'GT', untaken_until, incarnation)
  redis.call('ZREM', INSTANCES, incarnation)
  redis.call('HDEL', ABOUT, incarnation)
end
for _, incarnation in ipairs(redis.call('ZRANGEBYSCORE', INSTANCES, '-inf', now_text, 'LIMIT', 0, EXPIRED_MAX)) do
  bury(incarnation, soon_text)
end
for at = CLEARED_TO + 1, RETIRED_TO do
  bury(ARGV[at], later_text)
end
for at = 9, ARGV[7] == replid and CLEARED_TO or 0 do
  redis.call('ZREM', DEAD, ARGV[at])
end
for at = RETIRED_TO + 1, #ARGV do
  if not redis.call('ZSCORE', INSTANCES, ARGV[at]) and not redis.call('ZSCORE', DEAD, ARGV[at]) then
    bury(ARGV[at], later_text)
  end
end

local taken = {}
if is_kept then
  taken = redis.call('ZRANGEBYSCORE', DEAD, '-inf', now_text, 'LIMIT', 0, ARGV[5])
  for _, incarnation in ipairs(taken) do
    redis.call('ZADD', DEAD, later_text, incarnation)
  end
end

local reply = { is_kept and 1 or 0, now, replid, taken }
local instances = redis.call('ZRANGE', INSTANCES, 0, TOLD_MAX - 1, 'WITHSCORES')
for at = 1, #instances, 2 do
  reply[#reply + 1] = instances[at]
  reply[#reply + 1] = string.format('%d', tonumber(instances[at + 1]))
  reply[#reply + 1] = redis.call('HGET', ABOUT, instances[at]) or ''
end
return reply
