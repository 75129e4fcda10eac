-- An incarnation is dead: from now on, present.lua refuses in this partition what it says.
--
-- KEYS[1]  `gone:<I>`, which expires
-- KEYS[2]  `rooms:<I>`
-- KEYS[3]  `tellers`, from which the incarnation is taken if it has no room
-- ARGV[1]  for how many milliseconds that is known
-- ARGV[2]  how many rooms at most
-- ARGV[3]  the incarnation
--
-- It is said again until it names no room. Replies some of the rooms in which it has anybody: none if it is cleared up here.

local rooms = redis.call('SRANDMEMBER', KEYS[2], ARGV[2])
redis.call('SCARD', KEYS[3])
redis.call('SET', KEYS[1], '1', 'PX', ARGV[1])
if #rooms == 0 then
  redis.call('SREM', KEYS[3], ARGV[3])
end
return rooms
