//! SUBSCRIBEs that the broker has not confirmed, and the publishes that are deferred behind them: the commands of one connection
//! concerning one room take effect in the order in which they were sent, although a publish and a subscription may go to the
//! broker on two ways.
//!
//! However the SUBSCRIBE ends (confirmed, refused, undone by an UNSUBSCRIBE or by the connection's end), what is deferred behind
//! it is published then, for a publish needs no membership. Only while the broker cannot confirm, which is an outage or
//! [`DEFERRED_MAX`], is it refused where its client can be told; where it cannot, it is published all the same.

use crate::config::Config;
use crate::core::Core;
use crate::hash::Seeded;
use crate::hub::asks::Kind;
use crate::hub::subscriptions::TRY_AGAIN_LATER;
use crate::id::ConnId;
use crate::protocol::{CommandId, ErrorCode};
use crate::time::Time;
use hashbrown::HashMap;
use std::ops::Range;
use std::time::Duration;

/// How long a publish is deferred at most. Redis's own probes take as long by default to find out that it says nothing, so
/// what waits longer waits for a broker that is as good as away.
const DEFERRED_MAX: Duration = Duration::from_secs(10);

/// What a publish is counted with beside its payload: its place in the list. So the bound of bytes is one of number as well.
const PLACE_BYTES: usize = 64;

/// Publishes in the order in which they were sent.
#[derive(Debug)]
struct Deferred {
    since: Time,
    payloads: Vec<u8>,
    publishes: Vec<(Option<CommandId>, Range<usize>)>,
}

impl Deferred {
    fn cost(&self) -> usize {
        self.payloads.len() + self.publishes.len() * PLACE_BYTES
    }
}

/// A SUBSCRIBE that waits.
#[derive(Debug)]
pub(crate) struct Join {
    pub id: Option<CommandId>,
    /// Exists only where there is something.
    deferred: Option<Box<Deferred>>,
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
            bytes_max: config.deferred_bytes_max,
            total_bytes_max: config.deferred_total_bytes_max,
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

    pub fn insert(&mut self, slot: u32, room: u32, id: Option<CommandId>) {
        self.table.insert((slot, room), Join { id, deferred: None });
    }

    /// When something will have been deferred for too long.
    pub fn deadline(&self) -> Option<Time> {
        self.oldest.map(|since| since + DEFERRED_MAX)
    }

    /// Puts a publish behind the SUBSCRIBE that waits. Gives its id back where that would be too much; but one of each
    /// connection, and one in all, always may, so that none is too large by itself.
    fn defer(
        &mut self,
        (slot, room): (u32, u32),
        id: Option<CommandId>,
        now: Time,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), Option<CommandId>> {
        let join = self.table.get_mut(&(slot, room)).expect("whoever defers has found it");
        let new = || Box::new(Deferred { since: now, payloads: Vec::new(), publishes: Vec::new() });
        let deferred = join.deferred.get_or_insert_with(new);
        let start = deferred.payloads.len();
        write(&mut deferred.payloads);
        let payload = start..deferred.payloads.len();
        let cost = payload.len() + PLACE_BYTES;
        let of_slot = self.of_slots.get(&slot).copied().unwrap_or(0);
        let fits = |bytes: usize, bytes_max: usize| bytes == 0 || bytes + cost <= bytes_max;
        if !fits(of_slot, self.bytes_max) || !fits(self.bytes, self.total_bytes_max) {
            deferred.payloads.truncate(start);
            if deferred.publishes.is_empty() {
                join.deferred = None;
            }
            return Err(id);
        }
        deferred.publishes.push((id, payload));
        self.of_slots.insert(slot, of_slot + cost);
        self.bytes += cost;
        self.publishes += 1;
        self.oldest.get_or_insert(now);
        Ok(())
    }

    fn remove(&mut self, slot: u32, room: u32) -> Option<Join> {
        let join = self.table.remove(&(slot, room))?;
        if let Some(deferred) = &join.deferred {
            self.forget(slot, deferred);
        }
        Some(join)
    }

    /// Takes what has been deferred for so long from behind its SUBSCRIBEs, which go on waiting.
    fn take_deferred(&mut self, now: Time, age: Duration) -> Vec<((u32, u32), Box<Deferred>)> {
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

impl Core {
    /// The room, if a SUBSCRIBE of the connection for it waits.
    pub(crate) fn room_waited_for(&self, slot: u32, name: &str) -> Option<u32> {
        self.find_room(slot, name).filter(|room| self.joins.contains(slot, *room))
    }

    /// Defers a publish behind the SUBSCRIBE for its room that waits, or refuses it. Gives the id back where it has to be published
    /// at once.
    #[cold]
    pub(crate) fn defer(
        &mut self,
        (slot, room): (u32, u32),
        message: &str,
        except: Option<ConnId>,
        id: Option<CommandId>,
    ) -> Option<Option<CommandId>> {
        if self.broker.is_down() {
            return self.refuse_for_an_outage((slot, room), id);
        }
        let Core { joins, rooms, config, now, .. } = self;
        let name = &rooms.get(room).name;
        let Err(id) = joins.defer((slot, room), id, *now, |out| config.write_publish(out, name, message, except))
        else {
            return None;
        };
        let name = name.clone();
        self.metrics.publishes_failed += u64::from(id.is_some());
        let reason = "too many messages wait for the broker to confirm their room; this one was not published";
        self.error(slot, ErrorCode::BrokerBusy, reason, id.as_ref(), Some(&name));
        if !self.conns.get(slot).dialect.has_replies() {
            self.close(slot, TRY_AGAIN_LATER, "too many messages wait for the broker");
        }
        None
    }

    /// The SUBSCRIBE waits no more, and what is deferred behind it goes to the broker. The SUBSCRIBE's id.
    pub(crate) fn end_join(&mut self, slot: u32, room: u32) -> Option<Option<CommandId>> {
        let Join { id, deferred } = self.joins.remove(slot, room)?;
        if let Some(deferred) = deferred {
            for (id, payload) in deferred.publishes {
                self.publish_deferred((slot, room), id, &deferred.payloads[payload]);
            }
        }
        Some(id)
    }

    /// Ends what has been deferred for so long, although nothing is known of its SUBSCRIBE.
    pub(crate) fn end_deferred(&mut self, age: Duration) {
        for (key, deferred) in self.joins.take_deferred(self.now, age) {
            for (id, payload) in deferred.publishes {
                if let Some(id) = self.refuse_for_an_outage(key, id) {
                    self.publish_deferred(key, id, &deferred.payloads[payload]);
                }
            }
        }
    }

    /// Ends what has been deferred for too long, and what soon will have been, so that all is looked at only so often.
    pub(crate) fn end_overdue(&mut self) {
        if self.joins.deadline().is_some_and(|deadline| deadline <= self.now) {
            self.end_deferred(DEFERRED_MAX / 2);
        }
    }

    /// Refuses a publish whose SUBSCRIBE the broker cannot confirm for now. Gives the id back where its client cannot be told.
    fn refuse_for_an_outage(&mut self, (slot, room): (u32, u32), id: Option<CommandId>) -> Option<Option<CommandId>> {
        let Some(id) = id.as_ref().filter(|_| self.conns.get(slot).dialect.has_replies()) else { return Some(id) };
        self.metrics.publishes_failed += 1;
        let name = self.rooms.get(room).name.clone();
        let reason = "the broker cannot confirm the SUBSCRIBE before it for now; the message was not published";
        self.error(slot, ErrorCode::BrokerUnavailable, reason, Some(id), Some(&name));
        None
    }

    fn publish_deferred(&mut self, (slot, room): (u32, u32), id: Option<CommandId>, payload: &[u8]) {
        let publish = id.map(|id| self.senders.push(self.conns.id(slot), id, self.now));
        let name = &self.rooms.get(room).name;
        self.asks.push(Kind::Publish(publish), name, |out| out.extend_from_slice(payload));
    }
}
