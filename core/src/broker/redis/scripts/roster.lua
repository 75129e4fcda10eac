-- Reads a part of those who are in a room. An epoch begins by it where there is none, so that a change that follows has the next number.
--
-- ARGV[3]  where the part begins: `0`, or as the part before it said
-- ARGV[4]  about how many users
--
-- Replies epoch, number of the last change, how many users there are, where the next part begins (`0` if this was the last), master_replid,
-- and then user and `<connections> <info>` of each. A user may be among them twice.

local page = redis.call('HSCAN', PRESENT, ARGV[3], 'COUNT', ARGV[4])
if settle(0) then
  keep()
end
local reply = { epoch, number, users, page[1], replid }
for _, item in ipairs(page[2]) do
  reply[#reply + 1] = item
end
return reply
