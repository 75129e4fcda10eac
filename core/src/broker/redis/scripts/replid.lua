-- What all scripts of presence begin with: which Redis this is. What `PSYNC` calls the replication id of a master becomes another one when a
-- replica is promoted and when a master is started again, so whenever writes may have been lost.
--
-- Replies NOPRESENCE if Redis does not tell it.

-- Redis 6.2 replicates what a script does, instead of the script, only if it is asked to.
if redis.replicate_commands then redis.replicate_commands() end

local replication = redis.pcall('INFO', 'replication')
if type(replication) ~= 'string' then
  return redis.error_reply('NOPRESENCE INFO is refused: ' .. tostring(replication.err))
end
local _, before_replid = string.find(replication, 'master_replid:', 1, true)
local replid = string.sub(replication, (before_replid or #replication) + 1, (before_replid or #replication) + 40)
if not string.find(replid, '[^0]') or #string.gsub(replid, '%X', '') ~= 40 then
  return redis.error_reply('NOPRESENCE INFO tells no replication id')
end

