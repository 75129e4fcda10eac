//! Idempotency keys of a room: what was stored under them, for a while.

use std::collections::BTreeMap;
use std::mem::size_of;
use std::time::Duration;

use super::{Position, millis};

/// What one key takes beside its text, about: a node of the tree is at least half full.
const KEY_BYTES: u64 = 2 * size_of::<(Box<str>, Remembered)>() as u64;

/// A key under which a message is stored at most once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdempotencyKey<'a> {
    /// The key, with whatever scope it has beside the room.
    pub text: &'a str,
    /// Of what must be the same under the same key.
    pub digest: u64,
    /// For how long it is remembered at least, unless there are too many.
    pub age_max: Duration,
    /// How many of the room's keys are remembered at least; never more than twice as many.
    pub keys_max: u32,
}

/// What a key stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Remembered {
    pub digest: u64,
    pub position: Position,
}

/// Two generations: new keys go to the current one. When that is old or full it becomes the previous, and what was the previous is
/// forgotten at once, so that no key has to be looked for because of its age.
#[derive(Clone, Debug, Default)]
pub(super) struct Keys {
    current: Generation,
    previous: Generation,
}

#[derive(Clone, Debug, Default)]
struct Generation {
    began_ms: u64,
    keys: BTreeMap<Box<str>, Remembered>,
    bytes: u64,
}

impl Generation {
    fn find(&self, now_ms: u64, key: &IdempotencyKey<'_>) -> Option<Remembered> {
        let ends_ms = self.began_ms.saturating_add(millis(key.age_max).saturating_mul(2));
        self.keys.get(key.text).copied().filter(|_| now_ms < ends_ms)
    }
}

impl Keys {
    pub fn find(&self, now_ms: u64, key: &IdempotencyKey<'_>) -> Option<Remembered> {
        self.current.find(now_ms, key).or_else(|| self.previous.find(now_ms, key))
    }

    /// Remembers a key that is not found.
    pub fn remember(&mut self, now_ms: u64, key: &IdempotencyKey<'_>, position: Position) {
        let is_old = now_ms >= self.current.began_ms.saturating_add(millis(key.age_max));
        if self.current.keys.is_empty() || is_old || self.current.keys.len() >= key.keys_max as usize {
            let begun = Generation { began_ms: now_ms, ..Generation::default() };
            self.previous = std::mem::replace(&mut self.current, begun);
        }
        self.current.bytes += key.text.len() as u64 + KEY_BYTES;
        self.current.keys.insert(key.text.into(), Remembered { digest: key.digest, position });
    }

    pub fn bytes(&self) -> u64 {
        self.current.bytes + self.previous.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Epoch;

    const AGE_MAX: Duration = Duration::from_millis(100);

    fn key(text: &str) -> IdempotencyKey<'_> {
        IdempotencyKey { text, digest: 1, age_max: AGE_MAX, keys_max: 3 }
    }

    fn at(offset: u64) -> Position {
        Position { epoch: Epoch { ordinal: 1, random: 0 }, offset }
    }

    fn found(keys: &Keys, now_ms: u64, text: &str) -> Option<u64> {
        keys.find(now_ms, &key(text)).map(|remembered| remembered.position.offset)
    }

    #[test]
    fn a_key_is_remembered_for_its_age_and_forgotten_at_twice_that() {
        let mut keys = Keys::default();
        keys.remember(1_000, &key("first"), at(1));
        keys.remember(1_099, &key("last"), at(2));
        keys.remember(1_100, &key("next"), at(3));
        assert_eq!(["first", "last", "next"].map(|text| found(&keys, 1_199, text)), [Some(1), Some(2), Some(3)]);
        assert_eq!(["first", "last", "next"].map(|text| found(&keys, 1_200, text)), [None, None, Some(3)]);
    }

    #[test]
    fn as_many_as_said_are_remembered_and_never_twice_as_many_and_one() {
        let mut keys = Keys::default();
        let names: Vec<String> = (0..10).map(|number| number.to_string()).collect();
        for (number, name) in names.iter().enumerate() {
            keys.remember(0, &key(name), at(number as u64));
            let count = names.iter().filter(|name| found(&keys, 1, name).is_some()).count();
            assert!((3.min(number + 1)..=6).contains(&count), "{count} after {number}");
            assert_eq!(found(&keys, 1, name), Some(number as u64));
        }
        assert_eq!(found(&keys, 1, "5"), None);
        assert_eq!(found(&keys, 1, "6"), Some(6));
    }

    #[test]
    fn what_is_forgotten_takes_no_memory() {
        let mut keys = Keys::default();
        let mut most = 0;
        for number in 0..100 {
            keys.remember(number, &key(&format!("{number:03}")), at(number));
            most = most.max(keys.bytes());
        }
        assert_eq!(most, 6 * (3 + KEY_BYTES));
    }
}
