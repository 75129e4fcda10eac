//! What must hold between turns, checked from the outside by tests, fuzzers and simulations.

use crate::core::Core;
use crate::hash::Seeded;
use crate::limits::{awaits_introduction, is_source};
use crate::slots::{Ending, NONE, Phase};
use hashbrown::HashMap;

impl Core {
    /// Checks every invariant that ties the parts of the core together. Costs a walk over all that it holds.
    ///
    /// # Panics
    /// If one does not hold: that is a bug in this crate.
    pub fn check_invariants(&self) {
        self.backlog.check_invariants(&self.conns);
        assert!(self.runs.due().is_empty() && self.streams.all().is_empty(), "a turn says what is due");
        self.check_runs();
        assert!(self.touched.is_empty() && self.gone.is_empty());
        assert!(self.backlog.doomed.is_empty() && !self.backlog.is_over_budget(), "a turn ends within the limits");
        self.check_connections();
        self.check_rooms();
        self.check_drain();
    }

    /// Checks that nothing is left once every connection has ended, every room has lingered, and the broker has answered
    /// everything.
    ///
    /// # Panics
    /// If something is: that is a leak, and a bug in this crate.
    pub fn check_idle(&self) {
        self.check_invariants();
        assert_eq!(self.connections(), 0, "connections are left");
        assert_eq!(self.rooms.iter().count(), 0, "rooms are left");
        assert!(self.lingering.is_empty() && self.joins.is_empty(), "somebody waits for a room");
        assert!(self.senders.is_empty(), "somebody waits for the outcome of a publish");
        assert!(self.wheel.is_empty() && self.heads.is_empty(), "a timer or a request head is left");
        assert!(self.unfinished.is_empty() && self.unread.is_empty(), "unfinished or unread bytes are left");
        assert!(self.introducers.is_empty(), "a proxy's address is left");
        assert!(self.erring.is_empty(), "an error is left");
        assert_eq!((self.backlog.unsent_bytes(), self.backlog.stored_bytes()), (0, 0), "bytes are left");
        assert!(!self.runs.wait(), "a run is left");
    }

    fn check_connections(&self) {
        let (mut live, mut open, mut heads) = (0, 0, 0);
        let are_awaited = self.introducers.keys().all(|slot| awaits_introduction(self.conns.get(*slot).source));
        assert!(are_awaited, "a proxy is kept for a connection whose client has been told");
        let mut sources = HashMap::<u32, usize, _>::with_hasher(Seeded::new(0));
        for slot in self.conns.slots() {
            let conn = self.conns.get(slot);
            live += usize::from(conn.phase != Phase::Free);
            open += u64::from(conn.phase == Phase::Open);
            heads += u64::from(conn.phase == Phase::Head);
            if is_source(conn.source) {
                *sources.entry(conn.source).or_default() += 1;
            }
            let errs = self.erring.contains_key(&slot);
            assert_eq!(conn.errors > 0, errs, "time forgives the errors of whoever has any");
            assert!(!errs || conn.phase == Phase::Open, "only an open connection errs");
            let is_read = matches!(conn.phase, Phase::Open | Phase::Closing);
            assert!(is_read || conn.meter.is_none(), "only a connection whose frames are read is metered");
            assert!(conn.phase == Phase::Open || conn.rooms.len() == 0, "only an open connection is in rooms");
            assert!(conn.phase == Phase::Free || conn.stream == NONE, "streams last for one turn");
            assert!(
                conn.ending == Ending::None || conn.outbox.is_some(),
                "slot {slot} in {:?} has written everything, so it should have ended",
                conn.phase
            );
            for (position, membership) in conn.rooms.as_slice().iter().enumerate() {
                let group = self.rooms.get(membership.room).group_at(membership.place.group());
                assert_eq!(group.members()[membership.place.index() as usize], self.conns.id(slot));
                let seat = group.seat(membership.place.index());
                assert_eq!(seat.list_position(), position);
                assert_eq!(seat.is_waiting(), self.joins.contains(slot, membership.room));
                assert!(!(seat.is_waiting() && self.is_held(membership.room)), "nobody waits for what is held");
            }
        }
        assert_eq!(live, self.conns.live());
        assert!(self.wheel.len() <= live, "only connections that are alive have a timer");
        assert_eq!((open, heads), (self.metrics.connections_now, self.metrics.pending_upgrades_now));
        assert!(
            self.journal.tells_of().is_none_or(|told| told as u64 == open),
            "the end of whoever is open will be told"
        );
        assert!(self.heads.keys().all(|slot| self.conns.get(*slot).phase == Phase::Head));
        self.sources.check_invariants(|source| sources.get(&source).copied().unwrap_or(0));
        self.check_pending();
        self.check_meters();
        self.check_unfinished();
    }

    fn check_meters(&self) {
        let is_metered = |slot: &u32| self.conns.get(*slot).meter.is_some();
        let metered: Vec<u32> = self.conns.slots().filter(is_metered).collect();
        let mut queued: Vec<u32> =
            self.metered.iter().filter_map(|conn| self.conns.slot(*conn)).filter(is_metered).collect();
        queued.sort_unstable();
        assert_eq!(queued, metered, "a meter is looked at in its turn");
    }

    fn check_unfinished(&self) {
        let mut bytes = 0;
        for (slot, held) in self.unfinished.iter() {
            assert_eq!(self.conns.get(slot).decoder.held_bytes(), held, "what is held of slot {slot} is counted");
            bytes += held;
        }
        assert_eq!(self.unfinished.bytes(), bytes);
        assert!(bytes <= self.config.unfinished_total_bytes_max, "all together hold no more than allowed");
        for slot in self.conns.slots() {
            let held = self.conns.get(slot).decoder.held_bytes();
            assert!(
                held == 0 || self.unfinished.iter().any(|(other, _)| other == slot),
                "slot {slot} holds {held} bytes"
            );
        }
        let is_read = |slot: u32| matches!(self.conns.get(slot).phase, Phase::Open | Phase::Closing);
        assert!(self.unread.slots().all(is_read), "only frames are kept unread");
    }

    fn check_pending(&self) {
        let mut count = 0;
        for phase in [Phase::Head, Phase::Refused] {
            let is_pending = |slot: &u32| self.conns.get(*slot).phase == phase;
            let pending: Vec<u32> = self.conns.slots().filter(is_pending).collect();
            let ids = self.pending.ids(phase);
            let mut queued: Vec<u32> = ids.filter_map(|conn| self.conns.slot(conn)).filter(is_pending).collect();
            queued.sort_unstable();
            assert_eq!(queued, pending, "a pending connection stands in its queue once");
            count += pending.len();
        }
        assert_eq!(count, self.pending.count());
        assert!(count <= self.config.pending_upgrades_max.max(1));
    }

    fn check_runs(&self) {
        let waiting: Vec<u32> = self.runs.waiting().collect();
        let with_runs = self.rooms.iter().flat_map(|(_, room)| room.groups()).filter(|group| group.run != NONE).count();
        assert_eq!(with_runs, waiting.len(), "every run of a group waits, once");
        for key in &waiting {
            let run = self.runs.get(*key);
            let group = self.rooms.get(run.room).group_at(run.group);
            assert_eq!(group.run, *key, "a run is that of its group");
            assert_eq!(group.members().len(), group.full as usize + run.late.len(), "every member has its part of it");
            assert!(run.late.iter().all(|start| *start as usize <= self.runs.bytes(*key).len()));
        }
        self.runs.check_invariants();
    }

    fn check_rooms(&self) {
        let (mut memberships, mut populated, mut lingering, mut waiting) = (0, 0, 0, 0);
        for (key, room) in self.rooms.iter() {
            assert_eq!(self.rooms.find(&room.name), Some(key));
            assert_eq!(room.is_empty(), room.groups().all(|group| group.members().is_empty()));
            populated += u64::from(!room.is_empty());
            lingering += usize::from(room.lingering);
            for group in room.groups() {
                assert!(group.members().len() <= usize::from(self.config.group_members_max));
                memberships += group.members().len() as u64;
                for (index, conn) in group.members().iter().enumerate() {
                    let slot = self.conns.slot(*conn).expect("members are alive");
                    assert_eq!(self.conns.get(slot).form(), group.form);
                    let seat = group.seat(index as u32);
                    assert_eq!(self.conns.get(slot).rooms.as_slice()[seat.list_position()].room, key);
                    waiting += usize::from(seat.is_waiting());
                }
            }
        }
        assert_eq!((memberships, populated), (self.rooms.memberships(), self.rooms.populated()));
        assert_eq!(lingering, self.lingering.len(), "a room stands in the queue once");
        assert_eq!(waiting, self.joins.len(), "whoever waits has a seat");
        self.joins.check_invariants();
        assert!(self.joins.deferred() == 0 || !self.broker.is_down(), "nothing waits for a broker that is away");
    }
}
