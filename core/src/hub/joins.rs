//! SUBSCRIBEs that the broker has not confirmed, and the publishes that are deferred until it has: what is kept of them, within
//! bounds. What becomes of them stands in `deferral`.

use crate::config::Config;
use crate::hash::Seeded;
use crate::protocol::CommandId;
use crate::protocol::command::Start;
use crate::time::Time;
use hashbrown::HashMap;
use std::ops::Range;
use std::time::Duration;

/// How long a publish is deferred at most. Redis's own probes take as long by default to find out that it says nothing, so
/// what waits longer waits for a broker that is as good as away.
pub(super) const DEFERRED_MAX: Duration = Duration::from_secs(10);

/// What a publish is counted with beside its payload: its place in the list. So the bound of bytes is one of number as well.
const PLACE_BYTES: usize = 64;

/// Publishes in the order in which they were sent.
#[derive(Debug)]
pub(super) struct Deferred {
    since: Time,
    /// Payloads and idempotency keys.
    pub bytes: Vec<u8>,
    pub publishes: Vec<Publish>,
}

/// One of them.
#[derive(Debug)]
pub(super) struct Publish {
    pub id: Option<CommandId>,
    pub payload: Range<usize>,
    /// Whether it is stored where the room keeps history.
    pub store: bool,
    /// Its idempotency key, and the message's digest.
    pub key: Option<(Range<usize>, u64)>,
}

impl Deferred {
    fn cost(&self) -> usize {
        self.bytes.len() + self.publishes.len() * PLACE_BYTES
    }
}

/// A SUBSCRIBE that waits.
#[derive(Debug)]
pub(crate) struct Join {
    pub id: Option<CommandId>,
    /// Where in the room's messages it wants to begin.
    pub start: Start,
    /// Exists only where there is something.
    pub(super) deferred: Option<Box<Deferred>>,
}

/// All of them, by connection slot and room.
#[derive(Debug)]
pub(crate) struct Joins {
    table: HashMap<(u32, u32), Join, Seeded>,
    /// What is deferred of each connection of which anything is.
    of_slots: HashMap<u32, usize, Seeded>,
    bytes: usize,
    publishes: usize,
    /// Nothing deferred is older.
    oldest: Option<Time>,
    bytes_max: usize,
    total_bytes_max: usize,
}

impl Joins {
    pub fn new(config: &Config) -> Joins {
        Joins {
            table: HashMap::with_hasher(Seeded::new(config.seed)),
            of_slots: HashMap::with_hasher(Seeded::new(config.seed)),
            bytes: 0,
            publishes: 0,
            oldest: None,
            bytes_max: config.limits.deferred_bytes_max,
            total_bytes_max: config.limits.deferred_total_bytes_max,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Publishes that are deferred.
    pub fn deferred(&self) -> usize {
        self.publishes
    }

    /// The slots of those who wait, each as often as it does.
    pub fn slots(&self) -> impl Iterator<Item = u32> {
        self.table.keys().map(|(slot, _)| *slot)
    }

    pub fn get(&self, slot: u32, room: u32) -> Option<&Join> {
        self.table.get(&(slot, room))
    }

    pub fn contains(&self, slot: u32, room: u32) -> bool {
        self.table.contains_key(&(slot, room))
    }

    pub fn insert(&mut self, slot: u32, room: u32, start: Start, id: Option<CommandId>) {
        self.table.insert((slot, room), Join { id, start, deferred: None });
    }

    /// When something will have been deferred for too long.
    pub fn deadline(&self) -> Option<Time> {
        self.oldest.map(|since| since + DEFERRED_MAX)
    }

    /// Defers a publish until the SUBSCRIBE that waits has ended. Gives its id back if that would be too much. One publish of each
    /// connection, and one in all, may always wait, so that none is too large by itself.
    pub(super) fn defer(
        &mut self,
        (slot, room): (u32, u32),
        id: Option<CommandId>,
        now: Time,
        (store, key): (bool, Option<(&str, u64)>),
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), Option<CommandId>> {
        let join = self.table.get_mut(&(slot, room)).expect("whoever defers has found it");
        let new = || Box::new(Deferred { since: now, bytes: Vec::new(), publishes: Vec::new() });
        let deferred = join.deferred.get_or_insert_with(new);
        let start = deferred.bytes.len();
        write(&mut deferred.bytes);
        let payload = start..deferred.bytes.len();
        let key = key.map(|(key, digest)| {
            deferred.bytes.extend_from_slice(key.as_bytes());
            (payload.end..deferred.bytes.len(), digest)
        });
        let cost = deferred.bytes.len() - start + PLACE_BYTES;
        let of_slot = self.of_slots.get(&slot).copied().unwrap_or(0);
        let fits = |bytes: usize, bytes_max: usize| bytes == 0 || bytes + cost <= bytes_max;
        if !fits(of_slot, self.bytes_max) || !fits(self.bytes, self.total_bytes_max) {
            deferred.bytes.truncate(start);
            if deferred.publishes.is_empty() {
                join.deferred = None;
            }
            return Err(id);
        }
        deferred.publishes.push(Publish { id, payload, store, key });
        self.of_slots.insert(slot, of_slot + cost);
        self.bytes += cost;
        self.publishes += 1;
        self.oldest.get_or_insert(now);
        Ok(())
    }

    pub(super) fn remove(&mut self, slot: u32, room: u32) -> Option<Join> {
        let join = self.table.remove(&(slot, room))?;
        if let Some(deferred) = &join.deferred {
            self.forget(slot, deferred);
        }
        Some(join)
    }

    /// Takes what has been deferred for so long from behind its SUBSCRIBEs, which go on waiting.
    pub(super) fn take_deferred(&mut self, now: Time, age: Duration) -> Vec<((u32, u32), Box<Deferred>)> {
        let is_due = |join: &Join| join.deferred.as_ref().is_some_and(|deferred| deferred.since + age <= now);
        let mut keys: Vec<_> = self.table.iter().filter(|(_, join)| is_due(join)).map(|(key, _)| *key).collect();
        keys.sort_unstable();
        let mut taken = Vec::new();
        for key in keys {
            let join = self.table.get_mut(&key).expect("listed above");
            let deferred = join.deferred.take().expect("listed for it");
            self.forget(key.0, &deferred);
            taken.push((key, deferred));
        }
        self.oldest = self.table.values().filter_map(|join| Some(join.deferred.as_ref()?.since)).min();
        taken
    }

    fn forget(&mut self, slot: u32, deferred: &Deferred) {
        self.bytes -= deferred.cost();
        self.publishes -= deferred.publishes.len();
        let of_slot = self.of_slots.get_mut(&slot).expect("counted when it was deferred");
        *of_slot -= deferred.cost();
        if *of_slot == 0 {
            self.of_slots.remove(&slot);
        }
        if self.publishes == 0 {
            self.oldest = None;
        }
    }

    pub fn check_invariants(&self) {
        let mut of_slots = HashMap::<u32, usize, _>::with_hasher(Seeded::new(0));
        let (mut bytes, mut publishes) = (0, 0);
        for ((slot, _), join) in &self.table {
            let Some(deferred) = &join.deferred else { continue };
            assert!(!deferred.publishes.is_empty() && self.oldest.is_some_and(|oldest| oldest <= deferred.since));
            *of_slots.entry(*slot).or_default() += deferred.cost();
            (bytes, publishes) = (bytes + deferred.cost(), publishes + deferred.publishes.len());
        }
        assert_eq!((bytes, publishes, self.oldest.is_some()), (self.bytes, self.publishes, publishes > 0));
        assert!(of_slots.iter().all(|(slot, bytes)| self.of_slots.get(slot) == Some(bytes)));
        assert_eq!(of_slots.len(), self.of_slots.len());
    }
}
