//! Histories of rooms within one process, within a budget of memory for all of them.

use crate::broker::Store;
use crate::hash::Seeded;
use crate::history::{Moment, NotStored, Page, Query, Retention, RoomLog, StoredAt};
use hashbrown::HashMap;
use siphasher::sip::SipHasher13;
use std::collections::BTreeMap;
use std::hash::Hasher;

/// Data in memory have one life: what outlives them is nothing.
const INCARNATION: &str = "memory";

/// The logs of all rooms with history: what an embedded broker stores. When they take more memory than allowed, the rooms that have
/// not been used for longest lose their messages. When most rooms have none left, such rooms are forgotten altogether. A room that
/// is forgotten begins anew, without its position: a client that comes back is told that all has been lost.
#[derive(Debug)]
pub struct Logs {
    rooms: HashMap<String, Kept, Seeded>,
    /// Rooms in the order in which they were stored to or read last: those with messages, and those whose messages are forgotten.
    by_use: BTreeMap<u64, String>,
    emptied: BTreeMap<u64, String>,
    uses: u64,
    bytes: u64,
    bytes_max: u64,
    seed: u64,
}

#[derive(Debug)]
struct Kept {
    log: RoomLog,
    used: u64,
    bytes: u64,
}

impl Logs {
    /// Without a room. `seed` decides the random parts of epochs, so two that begin at different times should have different ones.
    pub fn new(bytes_max: usize, seed: u64) -> Logs {
        Logs {
            rooms: HashMap::with_hasher(Seeded::new(seed)),
            by_use: BTreeMap::new(),
            emptied: BTreeMap::new(),
            uses: 0,
            bytes: 0,
            bytes_max: bytes_max as u64,
            seed,
        }
    }

    /// Stores a message at this Unix time in milliseconds, or removes what that says.
    ///
    /// # Errors
    /// Its idempotency key belongs to another message, or there is nothing to remove.
    pub fn store(&mut self, now_ms: u64, room: &str, payload: &[u8], store: &Store<'_>) -> Result<StoredAt, NotStored> {
        self.with(now_ms, room, |log, moment| match store.removes {
            None => log.store(moment, store.retention, store.key.as_ref(), payload),
            Some(remove) => log.remove(moment, store.retention, remove),
        })
    }

    /// What is found in a part of a room's history.
    pub fn read(&mut self, now_ms: u64, room: &str, retention: &Retention, query: &Query) -> Page {
        self.with(now_ms, room, |log, moment| log.read(moment, retention, query))
    }

    /// The memory of all.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    fn with<T>(&mut self, now_ms: u64, room: &str, act: impl FnOnce(&mut RoomLog, &Moment<'_>) -> T) -> T {
        self.uses += 1;
        let drawn = self.draw(room);
        let Logs { rooms, by_use, emptied, uses, bytes, .. } = self;
        let kept = rooms.entry_ref(room).or_insert_with(|| Kept { log: RoomLog::default(), used: 0, bytes: 0 });
        let known = by_use.remove(&kept.used).or_else(|| emptied.remove(&kept.used));
        let name = known.unwrap_or_else(|| room.into());
        kept.used = *uses;
        by_use.insert(*uses, name);
        let outcome = act(&mut kept.log, &Moment { now_ms, incarnation: INCARNATION, drawn });
        let now = kept.log.bytes() + room.len() as u64;
        *bytes = *bytes - kept.bytes + now;
        kept.bytes = now;
        self.keep_within();
        outcome
    }

    /// Never at the cost of the room that was used last.
    fn keep_within(&mut self) {
        let Logs { rooms, by_use, emptied, bytes, bytes_max, .. } = self;
        while *bytes > *bytes_max {
            if by_use.len() > 1 && by_use.len() >= emptied.len() {
                let Some((used, name)) = by_use.pop_first() else { return };
                let Some(kept) = rooms.get_mut(&name) else { return };
                kept.log.forget_messages();
                let now = kept.log.bytes() + name.len() as u64;
                *bytes = *bytes - kept.bytes + now;
                kept.bytes = now;
                emptied.insert(used, name);
            } else {
                let Some((_, name)) = emptied.pop_first() else { return };
                let Some(kept) = rooms.remove(&name) else { return };
                *bytes -= kept.bytes;
            }
        }
    }

    fn draw(&self, room: &str) -> u64 {
        let mut hasher = SipHasher13::new_with_keys(self.seed, self.uses);
        hasher.write(room.as_bytes());
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Part;
    use std::time::Duration;

    const RETENTION: Retention =
        Retention { messages_max: 1_000, bytes_max: 1 << 30, age_max: Duration::from_secs(3_600) };

    fn store(logs: &mut Logs, room: &str, bytes: usize) -> u64 {
        let store = Store { retention: &RETENTION, key: None, removes: None };
        logs.store(0, room, &vec![b'x'; bytes], &store).expect("there is no key").position.offset
    }

    fn read(logs: &mut Logs, room: &str) -> Page {
        logs.read(0, room, &RETENTION, &Query { part: Part::Newest, messages_max: 1_000, bytes_max: u64::MAX })
    }

    #[test]
    fn rooms_that_were_silent_for_longest_give_way() {
        let mut logs = Logs::new(100_000, 7);
        for round in 1..=3 {
            for room in ["a", "b", "c"] {
                assert_eq!(store(&mut logs, room, 10_000), round);
            }
        }
        assert!(logs.bytes() < 100_000);
        store(&mut logs, "b", 10_000);
        assert!(logs.bytes() <= 100_000);
        let page = read(&mut logs, "a");
        assert_eq!((page.entries.len(), page.last.offset, page.first), (0, 3, 4), "messages go, the position stays");
        assert_eq!((read(&mut logs, "b").entries.len(), read(&mut logs, "c").entries.len()), (4, 3));
    }

    #[test]
    fn any_number_of_rooms_stays_within_the_budget() {
        let mut logs = Logs::new(100_000, 7);
        for room in 0..10_000 {
            store(&mut logs, &format!("room {room}"), 10);
            assert!(logs.bytes() <= 100_000);
        }
        assert_eq!(logs.rooms.len(), logs.by_use.len() + logs.emptied.len());
        assert_eq!(logs.bytes(), logs.rooms.values().map(|kept| kept.bytes).sum::<u64>());
        assert_eq!(read(&mut logs, "room 9999").entries.len(), 1);
    }
}
