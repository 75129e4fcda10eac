-- What both scripts of a room's history begin with: what is known of the room, and how an epoch begins. The text of store.lua or
-- read.lua follows this one. Both do what core/src/history/log.rs does.
--
-- KEYS[1]  hash: `epoch`; `offset` of the last message; `bytes` of all payloads; `oldest`, before which none of the messages was stored
--          (ms); `incarnation` of the Redis that began the epoch; `ended` pairs of epoch and fence, the oldest first; `until`, when the
--          stream expires (ms); of the idempotency keys the current `generation` (0 or 1), and when each `began` (ms); `removed`, how many
--          offsets the stream lacks from the first that is kept on, only where any was removed
-- KEYS[2]  stream: ids are `<offset>-<unix ms>`, and the only field is the payload. Only what is removed is missing, so that the number of
--          entries and of these says with which one they begin: entries are read only where they must be, for that copies their payloads.
--          What is missing is as old as what follows. The last entry is never removed
-- ARGV[1]  16 hexadecimal digits for an epoch that begins
-- ARGV[2]  for how many milliseconds a message is kept
-- ARGV[3]  how many milliseconds the hash outlives its stream

-- Redis 6.2 replicates what a script does, instead of the script, only if it is asked to.
if redis.replicate_commands then redis.replicate_commands() end

local META, LOG = KEYS[1], KEYS[2]
local DRAWN, AGE_MAX, META_TTL = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local ENDED_MAX = 16
local ORDINAL_MAX = 4294967295

local state = redis.call('HMGET', META, 'epoch', 'offset', 'bytes', 'oldest', 'incarnation', 'until', 'removed')
local epoch, offset, bytes, oldest = state[1], tonumber(state[2] or ''), tonumber(state[3] or '') or 0, tonumber(state[4] or '') or 0
local count, removed = redis.call('XLEN', LOG), tonumber(state[7] or '') or 0
-- A stream that is gone lacks nothing.
removed = count > 0 and removed or 0
count = count + removed

local info = redis.pcall('INFO', 'replication')
if type(info) ~= 'string' then
  return redis.error_reply('NOHISTORY INFO is refused: ' .. tostring(info.err))
end
local _, before_id = string.find(info, 'master_replid:', 1, true)
local incarnation = string.sub(info, (before_id or #info) + 1, (before_id or #info) + 40)
-- One that was written is one.
if incarnation ~= state[5] and (not string.find(incarnation, '[^0]') or #string.gsub(incarnation, '%X', '') ~= 40) then
  return redis.error_reply('NOHISTORY INFO tells no replication id')
end

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

-- The offset and the Unix milliseconds of an entry.
local function place(entry)
  local at, ms = string.match(entry[1], '^(%d+)-(%d+)$')
  return tonumber(at), tonumber(ms)
end

local function is_expired(ms)
  return ms + AGE_MAX <= now
end

-- Begins an epoch where there is none, or where another Redis began it. Called when all that the script asks before it writes is known:
-- the first write is one that Redis denies when it is out of memory.
local function settle()
  if not epoch or not offset then
    epoch, offset, bytes, oldest, count, removed, state = '1-' .. DRAWN, 0, 0, 0, 0, 0, {}
    -- The epoch comes last, so that there is none where something of this is refused.
    redis.call('HSET', META, 'offset', 0, 'bytes', 0, 'oldest', 0, 'incarnation', incarnation, 'ended', '', 'until', 0,
      'generation', '', 'began0', '', 'began1', '')
    redis.call('DEL', LOG)
    redis.call('PEXPIRE', META, META_TTL)
    redis.call('HSET', META, 'epoch', epoch)
  elseif state[5] ~= incarnation then
    local ended = {}
    for pair in string.gmatch(redis.call('HGET', META, 'ended') or '', '%S+') do
      ended[#ended + 1] = pair
    end
    ended[#ended + 1] = string.format('%s:%d', epoch, offset)
    local ordinal = tonumber(string.match(epoch, '^%d+')) or 0
    epoch = string.format('%d-%s', math.min(ordinal + 1, ORDINAL_MAX), DRAWN)
    local kept = table.concat(ended, ' ', math.max(1, #ended - ENDED_MAX + 1))
    redis.call('HSET', META, 'epoch', epoch, 'incarnation', incarnation, 'ended', kept)
  end
end

