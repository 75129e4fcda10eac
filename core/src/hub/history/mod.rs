//! Rooms with history: no message of theirs is lost, or said twice, or out of its place, without a word to the members.
//!
//! Every stored message comes with its position. While they come one after the other, each is said as it comes. Where one is missing, and
//! after every subscription, the broker is asked once for what came after the last that was said, and what comes meanwhile is held
//! ([`learning`]). Whoever comes back is given what it has missed out of its room's tail in memory, or where that does not reach back so
//! far from pages that are read for all who need them ([`resuming`]). Until then it is *behind*: a member that the fan-out passes over.

mod asking;
mod keeper;
mod learning;
mod reads;
mod resuming;
mod tail;

use super::Hub;
use crate::config::Config;
use crate::context::Context;
use crate::hash::Seeded;
use crate::history::{Position, Retention};
use crate::id::ConnId;
use crate::protocol::CommandId;
use crate::slots::Slots;
use crate::time::Time;
use hashbrown::HashMap;
use keeper::Keeper;
use reads::Reads;
use std::collections::VecDeque;
use tail::Tail;

/// The rooms with history that have members, or had some a moment ago.
#[derive(Debug)]
pub(super) struct Histories {
    keepers: HashMap<u32, Keeper, Seeded>,
    next_serial: u64,
    reads: Reads,
    /// Who is being given what it has missed, by room and slot, in the order of their turns.
    replays: VecDeque<(u32, u32)>,
    /// Rooms with a tail, in the order in which they give memory back.
    tails: VecDeque<u32>,
    tail_bytes: usize,
    tail_bytes_max: usize,
    /// Members that have missed something, and whose dialect has no word for that: they have to come back.
    missed: Vec<u32>,
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
            keeper::Behind::Asking { id, .. } => Some(id),
            keeper::Behind::Replaying { .. } => None,
        }
    }

    /// Takes the members that have to come back, because they have missed something and cannot be told.
    pub fn take_missed(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.missed)
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
    fn remember(&mut self, room: u32, retention: &Retention, text: &[u8]) {
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

impl Hub {
    /// What the room keeps, if it keeps anything.
    pub(super) fn retention(&self, cx: &Context, room: u32) -> Option<Retention> {
        let rule = self.rooms.get(room).rule?;
        cx.config.rules.get(rule)?.history
    }

    /// By what its messages are stored, if they are.
    pub(super) fn stores(&self, cx: &Context, room: u32) -> Option<Retention> {
        cx.config.rules.get(self.rooms.get(room).rule?)?.stores()
    }

    /// The place of a room with history up to which this member has been given everything.
    pub(super) fn place_of(&self, slot: u32, room: u32) -> Option<Position> {
        let keeper = self.histories.keepers.get(&room)?;
        let last = keeper.last?;
        Some(match keeper.behind.get(&slot) {
            Some(keeper::Behind::Replaying { next }) => Position { offset: next - 1, ..last },
            _ => last,
        })
    }
}
