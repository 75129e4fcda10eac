-- Stores a message, or removes some and stores that, and publishes what is stored, with the command ANNOUNCE.
--
-- KEYS[3], KEYS[4]  only with an idempotency key: hashes of its two generations, of field `k<key>` to `<digest> <epoch> <offset>`. The
--                   field `` is always there, because a key that regularly does not exist holds up a script while its slot moves
-- ARGV[4]   channel
-- ARGV[5]   how many messages are kept
-- ARGV[6]   how many bytes of payloads are kept
-- ARGV[7]   payload; of a removal `REMOVED <offset>` or `REMOVED ALL`
-- ARGV[8]   only with an idempotency key: the key
-- ARGV[9]   digest of what must be the same under the same key
-- ARGV[10]  for how many milliseconds a key is remembered at least
-- ARGV[11]  how many keys a generation has at most
-- ARGV[8], ARGV[9]  only of a removal, which has no such key: the offset, or nothing if all are removed; the epoch that it has to be, or
--           nothing
--
-- Replies epoch, offset, 1 if it was stored just now, Unix ms, 1 if it is announced or need not be, and what went wrong after it was
-- stored.

local MESSAGES_MAX, BYTES_MAX, PAYLOAD = tonumber(ARGV[5]), tonumber(ARGV[6]), ARGV[7]
local IS_REMOVAL = not KEYS[3] and ARGV[8] ~= nil
local REMOVED_AT, OF_EPOCH = tonumber(ARGV[8]), ARGV[9]
local KEY, DIGEST, KEY_AGE_MAX, KEYS_MAX = KEYS[3] and ARGV[8], ARGV[9], tonumber(ARGV[10]), tonumber(ARGV[11])
-- More are left to the next store and hidden from readers.
local AGED_MAX = 64
local CHUNK = 16
-- An expiry is set a quarter longer than is needed, so that it has to be set again only now and then. Milliseconds: a minute on top, and
-- a hundred years at most, because Redis refuses times that overflow.
local function lifetime(needed)
  return math.min(math.floor(needed * 1.25) + 60000, 3155760000000)
end

local keys_of = { [0] = KEYS[3], [1] = KEYS[4] }
local known = { [0] = 0, [1] = 0 }
if KEY then
  for which = 0, 1 do
    known[which] = redis.call('HLEN', keys_of[which])
  end
end

settle()

local generation, began
if KEY then
  local told = redis.call('HMGET', META, 'generation', 'began0', 'began1')
  generation, began = tonumber(told[1] or ''), { [0] = tonumber(told[2] or ''), [1] = tonumber(told[3] or '') }
end
if generation then
  for _, which in ipairs({ generation, 1 - generation }) do
    local found = began[which] and now < began[which] + 2 * KEY_AGE_MAX and redis.call('HGET', keys_of[which], 'k' .. KEY)
    if found then
      local digest, at_epoch, at_offset = string.match(found, '^(%x+) (%S+) (%d+)$')
      if digest ~= DIGEST then
        return redis.error_reply('KEYREUSED the idempotency key belongs to another message')
      end
      return { at_epoch, tonumber(at_offset), 0, now, 1, '' }
    end
  end
end

if IS_REMOVAL and OF_EPOCH ~= '' and OF_EPOCH ~= epoch then
  return redis.error_reply('EPOCHUNKNOWN the history has another epoch')
end
if IS_REMOVAL and REMOVED_AT then
  local entry = REMOVED_AT <= offset and redis.call('XRANGE', LOG, ARGV[8], ARGV[8], 'COUNT', 1)[1]
  local _, ms
  if entry then
    _, ms = place(entry)
  end
  if not entry or is_expired(ms) or string.sub(entry[2][2], 1, 8) == 'REMOVED ' then
    return redis.error_reply('NOMESSAGE there is no such message')
  end
  -- Refused, this is the script's error, and nothing has been done.
  redis.call('XDEL', LOG, entry[1])
  bytes, removed = bytes - #entry[2][2], removed + 1
end
local is_cleared = IS_REMOVAL and not REMOVED_AT

local bytes_before, oldest_before, until_before = bytes, oldest, tonumber(state[6] or '') or 0
local removed_before, removed_in_meta = removed, tonumber(state[7] or '') or 0
if count == 0 then
  bytes, oldest = 0, now
elseif is_cleared then
  bytes, oldest, removed = 0, now, count
end
bytes = bytes + #PAYLOAD
local stored = offset + 1

-- Finds the offset with which what is kept begins. The steps are those of the log in memory, but that an entry is read only if it must
-- go, or may be too old: until then it is as old as the one before it.
local first = stored - count
local aged = 0
local entries, at_entry, entry = {}, 0, nil
while first < stored do
  local is_within = stored - first + 1 <= MESSAGES_MAX and bytes <= BYTES_MAX
  if is_within and (aged == AGED_MAX or not is_expired(oldest)) then
    break
  end
  if not entry and not is_cleared then
    at_entry = at_entry + 1
    if at_entry > #entries then
      -- Mostly it is one that goes for the one that comes.
      entries = redis.call('XRANGE', LOG, string.format('%d', first), '+', 'COUNT', #entries == 0 and 1 or CHUNK)
      at_entry = 1
    end
    entry = entries[at_entry]
  end
  if not entry and removed == 0 then
    first, bytes = stored, #PAYLOAD
    break
  end
  local at, ms = stored, now
  if entry then
    at, ms = place(entry)
  end
  oldest = ms
  if is_within then
    if not is_expired(ms) then
      break
    end
    aged = aged + 1
  end
  if at == first then
    bytes = bytes - #entry[2][2]
    entry = nil
  else
    removed = removed - 1
  end
  first = first + 1
end
if first == stored then
  oldest = now
end

local until_ms = until_before
local is_renewed = until_ms < now + AGE_MAX or count == 0
if is_renewed then
  until_ms = now + lifetime(AGE_MAX)
end
redis.call('HSET', META, 'offset', stored, 'bytes', bytes, 'oldest', oldest, 'until', until_ms)
if removed ~= removed_in_meta then
  redis.call('HSET', META, 'removed', removed)
end
local added = redis.pcall('XADD', LOG, 'MINID', '=', is_cleared and stored or first, string.format('%d-%d', stored, now), 'payload', PAYLOAD)
if type(added) == 'table' and added.err then
  redis.call('HSET', META, 'offset', offset, 'bytes', bytes_before, 'oldest', oldest_before, 'until', until_before)
  if removed ~= removed_in_meta or removed ~= removed_before then
    redis.call('HSET', META, 'removed', removed_before)
  end
  return added
end

-- The message is stored: whatever fails from here on is told beside that.
local trouble = ''
local function attempt(...)
  local reply = redis.pcall(...)
  local is_done = type(reply) ~= 'table' or not reply.err
  if not is_done and trouble == '' then
    trouble = (...) .. ': ' .. reply.err
  end
  return is_done
end

if is_renewed then
  attempt('PEXPIRE', LOG, lifetime(AGE_MAX))
  attempt('PEXPIRE', META, lifetime(AGE_MAX) + META_TTL)
end
if KEY then
  if not generation or known[generation] == 0 or known[generation] > KEYS_MAX or now >= began[generation] + KEY_AGE_MAX then
    generation = generation and 1 - generation or 0
    attempt('HSET', META, 'generation', generation, 'began' .. generation, now)
    attempt('DEL', keys_of[generation])
    for _, name in pairs(keys_of) do
      attempt('HSET', name, '', '')
      attempt('PEXPIRE', name, lifetime(2 * KEY_AGE_MAX))
    end
  end
  attempt('HSET', keys_of[generation], 'k' .. KEY, string.format('%s %s %d', DIGEST, epoch, stored))
end
local is_announced = attempt(ANNOUNCE, ARGV[4], string.format('F2 %s %d ', epoch, stored) .. PAYLOAD)
return { epoch, stored, 1, now, is_announced and 1 or 0, trouble }
