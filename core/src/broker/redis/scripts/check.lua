-- Looks whether what an incarnation has noted is there still, and who else has noted anything.
--
-- KEYS[1]  `rooms:<I>`
-- KEYS[2]  `tellers`
-- ARGV[1]  how many of those at most
--
-- Replies 1 if it has anybody in any room of the partition, else 0; master_replid; and a list of the incarnations that have.

return { redis.call('EXISTS', KEYS[1]), replid, redis.call('SRANDMEMBER', KEYS[2], ARGV[1]) }
