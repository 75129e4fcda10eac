-- Reads a part of a room's history.
--
-- ARGV[4]  `after`, `before` or `newest`
-- ARGV[5]  the epoch, for `after`
-- ARGV[6]  the offset, for `after` and `before`
-- ARGV[7]  how many messages at most
-- ARGV[8]  how many bytes of payloads at most; one message may always be had
--
-- Replies epoch, offset of the last message, offset of the first, `exact`, `trimmed`, `fenced` or `unknown`, the fence, Unix ms, how many
-- may be missing between the messages because they are removed, and then id and payload of each message.

local PART, FROM_EPOCH, FROM = ARGV[4], ARGV[5], tonumber(ARGV[6])
local MESSAGES_MAX, BYTES_MAX = tonumber(ARGV[7]), tonumber(ARGV[8])
local CHUNK = 16

settle()

-- The oldest message that is not too old, found by halving: a room may hold any number of others.
local first = offset - count + 1
if count > 0 and is_expired(oldest) then
  local low = first
  first = offset + 1
  while low < first do
    local middle = math.floor((low + first) / 2)
    local probe = redis.call('XRANGE', LOG, string.format('%d', middle), '+', 'COUNT', 1)[1]
    local at, ms
    if probe then
      at, ms = place(probe)
    end
    if probe and is_expired(ms) then
      low = at + 1
    else
      first = middle
    end
  end
end

local continuity, fence, start = 'exact', 0, first
if PART == 'after' then
  local seen = FROM_EPOCH == epoch and offset
  if FROM_EPOCH ~= epoch then
    for ended, at in string.gmatch(redis.call('HGET', META, 'ended') or '', '(%S+):(%d+)') do
      if ended == FROM_EPOCH then
        seen = tonumber(at)
      end
    end
  end
  if not seen or (FROM > seen and FROM_EPOCH == epoch) then
    continuity = 'unknown'
  elseif FROM > seen then
    continuity, fence, start = 'fenced', seen, math.max(first, seen + 1)
  elseif FROM + 1 < first then
    continuity = 'trimmed'
  else
    start = FROM + 1
  end
end

local reply = { epoch, offset, first, continuity, fence, now, removed }
local found, found_bytes, is_full = {}, 0, MESSAGES_MAX == 0
-- Takes entries as long as there is room.
local function take(entries)
  is_full = is_full or #entries == 0
  for _, entry in ipairs(entries) do
    found_bytes = found_bytes + #entry[2][2]
    if is_full or (#found > 0 and found_bytes > BYTES_MAX) then
      is_full = true
      return
    end
    found[#found + 1] = entry
    is_full = #found == MESSAGES_MAX
  end
end

if PART == 'after' then
  while not is_full do
    take(redis.call('XRANGE', LOG, string.format('%d', start), '+', 'COUNT', math.min(CHUNK, MESSAGES_MAX - #found)))
    start = #found > 0 and place(found[#found]) + 1 or start
  end
  for _, entry in ipairs(found) do
    reply[#reply + 1] = entry[1]
    reply[#reply + 1] = entry[2][2]
  end
else
  local last = PART == 'before' and math.min(FROM - 1, offset) or offset
  while not is_full and last >= first do
    take(redis.call('XREVRANGE', LOG, string.format('%d', last), string.format('%d', first), 'COUNT',
      math.min(CHUNK, MESSAGES_MAX - #found)))
    last = #found > 0 and place(found[#found]) - 1 or last
  end
  for at = #found, 1, -1 do
    reply[#reply + 1] = found[at][1]
    reply[#reply + 1] = found[at][2][2]
  end
end
return reply
