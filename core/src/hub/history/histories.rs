//! The rooms with history of this core, and what is kept of them.

use super::keeper::{Behind, Keeper};
use super::reads::Reads;
use super::tail::Tail;
use crate::config::Config;
use crate::hash::Seeded;
use crate::history::Retention;
use crate::id::ConnId;
use crate::protocol::CommandId;
use crate::slots::Slots;
use crate::time::Time;
use hashbrown::HashMap;
use std::collections::VecDeque;

/// The rooms with history that have members, or had some a moment ago.
#[derive(Debug)]
pub(in crate::hub) struct Histories {
    pub(super) keepers: HashMap<u32, Keeper, Seeded>,
    next_serial: u64,
    pub(super) reads: Reads,
    /// Who is being given what it has missed, by room and slot, in the order of their turns.
    pub(super) replays: VecDeque<(u32, u32)>,
    /// Rooms with a tail, in the order in which they give memory back.
    tails: VecDeque<u32>,
    pub(super) tail_bytes: usize,
    tail_bytes_max: usize,
    /// Members that have missed something, and whose dialect has no word for that: they have to come back.
    pub(super) missed: Vec<u32>,
}

impl Histories {
    pub fn new(config: &Config) -> Histories {
        Histories {
            keepers: HashMap::with_hasher(Seeded::new(config.seed)),
            next_serial: 0,
            reads: Reads::new(config.history.reads_in_flight_max),
            replays: VecDeque::new(),
            tails: VecDeque::new(),
            tail_bytes: 0,
            tail_bytes_max: config.history.memory_bytes_max,
            missed: Vec::new(),
        }
    }

    /// The room keeps history, and has a member now.
    pub fn keep(&mut self, room: u32) {
        if !self.keepers.contains_key(&room) {
            self.keepers.insert(room, Keeper::new(self.next_serial));
            self.next_serial += 1;
        }
    }

    /// The room is no more.
    pub fn forget(&mut self, room: u32) {
        if let Some(keeper) = self.keepers.remove(&room) {
            self.tail_bytes -= keeper.tail.bytes();
        }
    }

    /// Whether this is a room with history.
    pub fn has(&self, room: u32) -> bool {
        !self.keepers.is_empty() && self.keepers.contains_key(&room)
    }

    /// Whether each message of the room is said as it comes. So it is in rooms without history.
    pub fn is_live(&self, room: u32) -> bool {
        self.keepers.is_empty() || self.keepers.get(&room).is_none_or(|keeper| keeper.is_live)
    }

    /// The connection is no member of the room any more.
    pub fn leave(&mut self, slot: u32, room: u32) {
        if let Some(keeper) = self.keepers.get_mut(&room) {
            keeper.behind.remove(&slot);
        }
    }

    /// The SUBSCRIBE of a member of whom nobody knows yet where it begins.
    pub fn asking(&self, slot: u32, room: u32) -> Option<&Option<CommandId>> {
        match self.keepers.get(&room)?.behind.get(&slot)? {
            Behind::Asking { id, .. } => Some(id),
            Behind::Replaying { .. } => None,
        }
    }

    /// Whether there is nothing to be asked, and nobody to be given what it has missed.
    pub fn is_idle(&self) -> bool {
        self.replays.is_empty() && self.reads.is_idle()
    }

    /// Whether members have to come back.
    pub fn has_missed(&self) -> bool {
        !self.missed.is_empty()
    }

    /// Takes the members that have to come back, because they have missed something and cannot be told.
    pub fn take_missed(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.missed)
    }

    /// Who waits to be told where it begins.
    pub fn who_is_asking(&self) -> impl Iterator<Item = u32> + '_ {
        let behind = self.keepers.values().flat_map(|keeper| &keeper.behind);
        behind.filter(|(_, behind)| matches!(behind, Behind::Asking { .. })).map(|(slot, _)| *slot)
    }

    /// Who waits for an answer to a `HISTORY`.
    pub fn askers(&self) -> impl Iterator<Item = ConnId> + '_ {
        self.reads.askers()
    }

    /// When it has something to do at the latest.
    pub fn next_timeout(&self, slots: &Slots) -> Option<Time> {
        if self.can_go_on(slots) {
            return Some(Time::ZERO);
        }
        self.reads.next_timeout()
    }

    /// Adds the newest message to the room's tail, and lets go of others where that is too much memory.
    pub(super) fn remember(&mut self, room: u32, retention: &Retention, text: &[u8]) {
        let Some(keeper) = self.keepers.get_mut(&room) else { return };
        let tail = &mut keeper.tail;
        let before = tail.bytes();
        if before == 0 {
            self.tails.push_back(room);
        }
        tail.push(text);
        let is_over = |tail: &Tail| {
            let messages = tail.end() - tail.first();
            messages > 1 && (messages > u64::from(retention.messages_max) || tail.bytes() as u64 > retention.bytes_max)
        };
        while is_over(tail) {
            tail.pop();
        }
        self.tail_bytes = self.tail_bytes + tail.bytes() - before;
        while self.tail_bytes > self.tail_bytes_max {
            let Some(room) = self.tails.pop_front() else { return };
            let Some(keeper) = self.keepers.get_mut(&room) else { continue };
            let before = keeper.tail.bytes();
            while keeper.tail.bytes() > before / 2 {
                keeper.tail.pop();
            }
            self.tail_bytes -= before - keeper.tail.bytes();
            if keeper.tail.bytes() > 0 {
                self.tails.push_back(room);
            }
        }
    }

    /// Bytes of all tails.
    pub fn memory_bytes(&self) -> usize {
        self.tail_bytes
    }

    /// How many members are behind.
    pub fn behind(&self) -> usize {
        self.keepers.values().map(|keeper| keeper.behind.len()).sum()
    }

    /// Panics unless its parts agree with each other.
    pub fn check_invariants(&self) {
        assert_eq!(self.tail_bytes, self.keepers.values().map(|keeper| keeper.tail.bytes()).sum::<usize>());
        for keeper in self.keepers.values() {
            assert!(!keeper.is_live || keeper.next_held().is_none(), "what is live holds nothing back");
            assert!(!keeper.is_live || keeper.last.is_some_and(|last| last.offset + 1 == keeper.tail.end()));
        }
    }

    /// Panics if anything is left.
    pub fn check_idle(&self) {
        assert!(self.keepers.is_empty() && self.reads.in_flight() == 0, "a room with history is left");
    }
}
