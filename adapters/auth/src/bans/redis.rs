//! Bans in Redis, for all servers on it: a sorted set by their ends, and a number that each change makes larger.

use redis::{Pipeline, pipe};

use crate::bans::text::{banned_in, text_of};
use crate::bans::{BANS_MAX, Ban, BanError, BanList, BanStore, BanVersion, Banned, UNTIL_MS_MAX, check_name};
use crate::redis_link::RedisLink;
use crate::redis_place::RedisPlace;

/// Bans in Redis.
#[derive(Debug)]
pub struct RedisBans {
    link: RedisLink,
    bans: String,
    version: String,
}

impl RedisBans {
    /// The bans in the Redis at this place, under keys that begin with this prefix and U+0001, which no room's name holds. Nothing is
    /// connected yet.
    pub fn new(place: RedisPlace, prefix: &str) -> Self {
        // Both keys are in one slot of a Cluster, because they change together.
        let bans = format!("{prefix}\u{1}{{bans}}");
        Self { link: RedisLink::new(place), version: format!("{bans}:version"), bans }
    }

    /// These commands, those that are over removed, and the number increased: all of it or nothing.
    fn change<R: redis::FromRedisValue>(
        &self,
        now_ms: u64,
        add: impl FnOnce(&mut Pipeline, &str),
    ) -> Result<R, BanError> {
        let mut commands = pipe();
        commands.atomic();
        add(&mut commands, &self.bans);
        commands.cmd("ZREMRANGEBYSCORE").arg(&self.bans).arg("-inf").arg(now_ms).ignore();
        commands.cmd("INCR").arg(&self.version).ignore();
        self.ask(&commands)
    }

    fn ask<R: redis::FromRedisValue>(&self, commands: &Pipeline) -> Result<R, BanError> {
        self.link.ask(self.bans.as_bytes(), commands).map_err(BanError::Unavailable)
    }
}

impl BanStore for RedisBans {
    fn version(&self) -> Result<BanVersion, BanError> {
        match self.ask(pipe().cmd("ZCARD").arg(&self.bans).cmd("GET").arg(&self.version))? {
            (0, None::<u64>) => Ok(BanVersion::Unwritten),
            (entries, changes) => Ok(BanVersion::Counted { changes: changes.unwrap_or(0), entries }),
        }
    }

    fn list(&self, now_ms: u64) -> Result<BanList, BanError> {
        let mut command = pipe();
        command.cmd("ZRANGEBYSCORE").arg(&self.bans).arg(format!("({now_ms}")).arg("+inf").arg("WITHSCORES");
        command.arg("LIMIT").arg(0).arg(BANS_MAX + 1);
        let (entries,): (Vec<(Vec<u8>, f64)>,) = self.ask(&command)?;
        if entries.len() > BANS_MAX {
            return Err(BanError::TooMany);
        }
        let mut list = BanList::default();
        for (text, until_ms) in entries {
            match banned_in(&text) {
                Some(what) => list.bans.push(Ban { what, until_ms: until_ms as u64 }),
                None => list.unreadable += 1,
            }
        }
        Ok(list)
    }

    fn ban(&self, ban: &Ban, now_ms: u64) -> Result<(), BanError> {
        check_name(&ban.what)?;
        let until_ms = ban.until_ms.min(UNTIL_MS_MAX);
        let text = text_of(&ban.what);
        let mut command = pipe();
        command.cmd("ZCOUNT").arg(&self.bans).arg(format!("({now_ms}")).arg("+inf");
        command.cmd("ZSCORE").arg(&self.bans).arg(&text);
        let (count, known): (usize, Option<f64>) = self.ask(&command)?;
        if count >= BANS_MAX && known.is_none() {
            return Err(BanError::TooMany);
        }
        self.change(now_ms, |commands, bans| {
            commands.cmd("ZADD").arg(bans).arg(until_ms).arg(text).ignore();
        })
    }

    fn unban(&self, what: &Banned, now_ms: u64) -> Result<bool, BanError> {
        // What is over is no ban that could be lifted, so it goes first.
        let (removed,): (usize,) = self.change(now_ms, |commands, bans| {
            commands.cmd("ZREMRANGEBYSCORE").arg(bans).arg("-inf").arg(now_ms).ignore();
            commands.cmd("ZREM").arg(bans).arg(text_of(what));
        })?;
        Ok(removed > 0)
    }
}
