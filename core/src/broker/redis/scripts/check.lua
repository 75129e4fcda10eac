-- Looks whether what an incarnation has noted in a partition is there still.
--
-- KEYS[1]  `rooms:<I>`
--
-- Replies 1 if it has anybody in any room of the partition, else 0; and master_replid.

return { redis.call('EXISTS', KEYS[1]), replid }
