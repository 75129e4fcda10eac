//! Sessions where `connect-redis` stores them.

use std::sync::{Mutex, MutexGuard, PoisonError};

use redis::pipe;

use crate::redis_link::RedisLink;
use crate::redis_place::RedisPlace;
use crate::secret::Secret;
use crate::session::{SESSION_BYTES_MAX, SessionStore, StoredSession, Unavailable};

/// Sessions in Redis. The user there needs `GETRANGE` and `PTTL` on their keys.
#[derive(Debug)]
pub struct RedisSessions {
    link: RedisLink,
    trouble: Mutex<Option<String>>,
}

impl RedisSessions {
    /// The sessions in the Redis at this place. Nothing is connected yet.
    pub fn new(place: RedisPlace) -> Self {
        Self { link: RedisLink::new(place), trouble: Mutex::default() }
    }

    fn last_trouble(&self) -> MutexGuard<'_, Option<String>> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SessionStore for RedisSessions {
    fn session(&self, key: &Secret) -> Result<Option<StoredSession>, Unavailable> {
        let mut commands = pipe();
        // No more than is looked at, and one byte by which to tell. Of a key that is not there, nothing.
        commands.cmd("GETRANGE").arg(key.expose()).arg(0).arg(SESSION_BYTES_MAX);
        commands.cmd("PTTL").arg(key.expose());
        let outcome = self.link.ask::<(Vec<u8>, i64)>(key.expose(), &commands);
        *self.last_trouble() = outcome.as_ref().err().cloned();
        let (text, left_ms) = outcome.map_err(|_| Unavailable)?;
        // A session that ended between the commands has -2 left, which is none as well.
        let is_there = !text.is_empty() && left_ms != -2;
        Ok(is_there.then(|| StoredSession { text, left_ms: u64::try_from(left_ms).ok() }))
    }

    fn trouble(&self) -> Option<String> {
        self.last_trouble().clone()
    }
}
