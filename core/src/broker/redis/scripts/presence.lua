-- What the scripts of one room's presence begin with, behind replid.lua: which state it has, and how a change is numbered and published. The
-- text of present.lua, leave.lua or roster.lua follows this one. What changes is as in core/src/broker/memory/rosters.rs.
--
-- KEYS[1]  `present:<room>`, hash: user to `<connections at all instances> <info>`. Nobody who has none is in it
-- KEYS[2]  `changes:<room>`, hash: `epoch`, 16 hexadecimal digits; `number` of the last change; `incarnation` of the Redis that began the
--          epoch, its master_replid. It expires a minute after the room is empty, because anybody may ask
--          for rooms that nobody has ever been in
-- ARGV[1]  16 hexadecimal digits for an epoch that begins
-- ARGV[2]  channel on which changes are published

local PRESENT, CHANGES, DRAWN, CHANNEL = KEYS[1], KEYS[2], ARGV[1], ARGV[2]
local CHANGES_TTL = 60000

local state = redis.call('HMGET', CHANGES, 'epoch', 'number', 'incarnation')
local epoch, number = state[1], tonumber(state[2] or '')
local users = redis.call('HLEN', PRESENT)
local is_announced, trouble = 1, ''

-- So many changes follow: numbers them, in a new epoch where there is none or another Redis began it. Called when all that the script asks
-- before it writes is known: the first write is one that Redis denies when it is out of memory.
local function settle(changes)
  local is_new = not epoch or not number or state[3] ~= replid
  if is_new then
    epoch, number = DRAWN, 0
  end
  if is_new or changes > 0 then
    redis.call('HSET', CHANGES, 'epoch', epoch, 'number', string.format('%d', number + changes), 'incarnation', replid)
  end
  return is_new
end

-- How many connections a user has at all instances, and its info.
local function known(user)
  local connections, info = string.match(redis.call('HGET', PRESENT, user) or '', '^(%d+) (.*)$')
  return tonumber(connections or '') or 0, info or ''
end

-- Writes what is so now, and publishes it under the next number.
local function change(user, connections, info)
  number = number + 1
  if connections > 0 then
    users = users + redis.call('HSET', PRESENT, user, string.format('%d ', connections) .. info)
  else
    users = users - redis.call('HDEL', PRESENT, user)
    info = ''
  end
  local head = string.format('F3 %s %d %d %d %d\n', epoch, number, users, connections, #user)
  local told = redis.pcall(ANNOUNCE, CHANNEL, head .. user .. info)
  if type(told) == 'table' and told.err then
    is_announced = 0
    if trouble == '' then
      trouble = ANNOUNCE .. ': ' .. told.err
    end
  end
end

-- For how long the state is known: while somebody is there, and a minute longer.
local function keep()
  if users > 0 then
    redis.call('PERSIST', CHANGES)
  else
    redis.call('PEXPIRE', CHANGES, CHANGES_TTL)
  end
end

