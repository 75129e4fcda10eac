-- Renames the keys of rooms' histories as instances call them in a Redis Cluster, or back. Instances have to be stopped meanwhile, and Redis
-- does nothing else. docs/redis.md says what goes before and after.
--
--   redis-cli --eval tools/redis/part-rooms.lua , PREFIX PARTITIONS     for a Cluster: redis.prefix and redis.cluster_partitions
--   redis-cli --eval tools/redis/part-rooms.lua , PREFIX 0              back
--
-- Gives how many keys were renamed. Run again, it renames what is left.

local prefix, partitions = ARGV[1], tonumber(ARGV[2])
local KINDS = {meta = true, log = true, keys0 = true, keys1 = true}

-- As Redis Cluster has it for slots: the polynomial 0x1021, from 0 on.
local function crc16(text)
  local crc = 0
  for at = 1, #text do
    crc = bit.bxor(crc, bit.lshift(text:byte(at), 8))
    for _ = 1, 8 do
      local carries = bit.band(crc, 0x8000) ~= 0
      crc = bit.band(bit.lshift(crc, 1), 0xffff)
      if carries then
        crc = bit.bxor(crc, 0x1021)
      end
    end
  end
  return crc
end

-- What the key shall be called, if it is one of a room and called otherwise.
local function renamed(key)
  if key:sub(1, #prefix) ~= prefix then
    return nil
  end
  local tag, kind, room = key:sub(#prefix + 1):match('^({?%d*}?)\1(%w+):(.*)$')
  if not KINDS[kind] then
    return nil
  end
  local new_tag = ''
  if partitions > 0 then
    new_tag = '{' .. crc16(room) % partitions .. '}'
  end
  if new_tag ~= tag then
    return prefix .. new_tag .. '\1' .. kind .. ':' .. room
  end
end

local found, cursor = {}, '0'
repeat
  local page = redis.call('SCAN', cursor, 'COUNT', 1000)
  cursor = page[1]
  for _, key in ipairs(page[2]) do
    found[key] = renamed(key)
  end
until cursor == '0'

if partitions == 0 then
  -- What the instances of a Cluster have agreed on.
  redis.call('DEL', prefix .. '{0}\1layout')
end
local count = 0
for key, name in pairs(found) do
  if redis.call('RENAMENX', key, name) == 0 then
    return redis.error_reply('there are both ' .. key .. ' and ' .. name)
  end
  count = count + 1
end
return count
