//! The rooms with history of this core, and what is kept of them.

use super::keeper::{Behind, Held, Keeper};
use super::reads::Reads;
use super::tail::Tail;
use crate::config::Config;
use crate::hash::Seeded;
use crate::history::{Page, Retention, Stored};
use crate::id::ConnId;
use crate::protocol::CommandId;
use crate::protocol::command::Start;
use crate::slots::Slots;
use crate::time::Time;
use hashbrown::HashMap;
use std::borrow::Cow;
use std::collections::{BTreeSet, VecDeque};

/// The rooms with history that have members, or had some a moment ago.
#[derive(Debug)]
pub(in crate::hub) struct Histories {
    pub(super) keepers: HashMap<u32, Keeper, Seeded>,
    next_serial: u64,
    pub(super) reads: Reads,
    /// Who is being given what it has missed, by room and slot, in the order of their turns.
    pub(super) replays: VecDeque<(u32, u32)>,
    /// Rooms with messages in memory that can be read again, and from which on the next has to give some back.
    cached: BTreeSet<u32>,
    cursor: u32,
    /// Of all messages in memory.
    bytes: usize,
    bytes_max: usize,
    /// How many members are behind.
    behind: usize,
    /// Members that have missed something, and whose dialect has no word for that: they have to come back.
    pub(super) missed: BTreeSet<u32>,
}

impl Histories {
    pub fn new(config: &Config) -> Histories {
        Histories {
            keepers: HashMap::with_hasher(Seeded::new(config.seed)),
            next_serial: 0,
            reads: Reads::new(config.history.reads_in_flight_max),
            replays: VecDeque::new(),
            cached: BTreeSet::new(),
            cursor: 0,
            bytes: 0,
            bytes_max: config.history.memory_bytes_max,
            behind: 0,
            missed: BTreeSet::new(),
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
            self.bytes -= keeper.bytes();
            self.behind -= keeper.behind.len();
            self.cached.remove(&room);
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
        if !self.keepers.is_empty() {
            self.change(room, |keeper| keeper.behind.remove(&slot));
        }
    }

    /// Changes what is in memory of a room, or who is behind there. Whatever does so goes through here, because both are counted.
    pub(super) fn change<T>(&mut self, room: u32, change: impl FnOnce(&mut Keeper) -> T) -> Option<T> {
        let keeper = self.keepers.get_mut(&room)?;
        let (bytes, behind, was_cached) = (keeper.bytes(), keeper.behind.len(), keeper.is_cached());
        let outcome = change(keeper);
        if keeper.behind.is_empty() && keeper.has_page() {
            keeper.drop_page();
        }
        self.bytes = self.bytes + keeper.bytes() - bytes;
        self.behind = self.behind + keeper.behind.len() - behind;
        match (was_cached, keeper.is_cached()) {
            (false, true) => drop(self.cached.insert(room)),
            (true, false) => drop(self.cached.remove(&room)),
            _ => {}
        }
        Some(outcome)
    }

    /// Keeps a message until it is known what came before it. One that is too many is read again then.
    pub(super) fn hold(&mut self, room: u32, held: Held) {
        let can_hold = self.keepers.get(&room).is_some_and(|keeper| keeper.can_hold(&held.text));
        self.change(room, |keeper| keeper.hold(held));
        self.keep_within(None);
        if !can_hold || self.bytes > self.bytes_max {
            self.change(room, Keeper::let_go);
        }
    }

    /// Keeps a page, which begins with this offset, for those who come back.
    pub(super) fn set_page(&mut self, room: u32, from: u64, page: &[Stored]) {
        self.change(room, |keeper| keeper.set_page(from, page));
        // Not at once at its own cost: somebody waits for it.
        self.keep_within(Some(room));
    }

    /// Lets go of what can be read again while all together is too much, each room in its turn, but for this one.
    fn keep_within(&mut self, spared: Option<u32>) {
        while self.bytes > self.bytes_max {
            let mut later = self.cached.range(self.cursor..).chain(self.cached.range(..self.cursor));
            let Some(room) = later.find(|room| Some(**room) != spared).copied() else { return };
            self.cursor = room.wrapping_add(1);
            self.change(room, |keeper| {
                if keeper.has_page() {
                    return keeper.drop_page();
                }
                let half = keeper.tail.bytes() / 2;
                while keeper.tail.bytes() > half {
                    keeper.tail.pop();
                }
            });
        }
    }

    /// The SUBSCRIBE of a member of whom nobody knows yet where it begins.
    pub fn asking(&self, slot: u32, room: u32) -> Option<&Option<CommandId>> {
        match self.keepers.get(&room)?.behind.get(&slot)? {
            Behind::Asking { id, .. } => Some(id),
            Behind::Replaying { .. } => None,
        }
    }

    /// Whether the member has yet to be given something that was said before, because it has asked for that.
    pub fn waits_for_earlier(&self, slot: u32, room: u32) -> bool {
        match self.keepers.get(&room).and_then(|keeper| keeper.behind.get(&slot)) {
            Some(Behind::Asking { start, .. }) => *start != Start::Live,
            Some(Behind::Replaying { next, asked_to }) => next <= asked_to,
            None => false,
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

    /// Whether this is one of the members that have to come back. They are given nothing more.
    pub fn has_to_come_back(&self, slot: u32) -> bool {
        self.missed.contains(&slot)
    }

    /// Takes the members that have to come back, because they have missed something and cannot be told.
    pub fn take_missed(&mut self) -> BTreeSet<u32> {
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
        self.change(room, |Keeper { tail, .. }| {
            tail.push(text);
            let is_over = |tail: &Tail| {
                let messages = tail.end() - tail.first();
                let is_large = tail.bytes() as u64 > retention.bytes_max;
                messages > 1 && (messages > u64::from(retention.messages_max) || is_large)
            };
            while is_over(tail) {
                tail.pop();
            }
        });
        self.keep_within(None);
    }

    /// Keeps in mind that nothing is there any more between the newest message of the room's tail and this offset.
    pub(super) fn pass_over(&mut self, room: u32, retention: &Retention, to: u64) {
        let Some(end) = self.keepers.get(&room).map(|keeper| keeper.tail.end()) else { return };
        if to.saturating_sub(end) > u64::from(retention.messages_max) {
            self.change(room, |keeper| keeper.tail = Tail::beginning_at(to));
        } else {
            (end..to).for_each(|_| self.remember(room, retention, b""));
        }
    }

    /// What is left of a page, when what has been removed since it was read is taken out. Nothing where that is not known any more.
    pub(super) fn amended<'p>(&self, room: u32, page: &'p Page) -> Option<Cow<'p, Page>> {
        let keeper = self.keepers.get(&room).filter(|keeper| {
            keeper.removed_to > page.last.offset && keeper.last.is_some_and(|last| last.epoch == page.last.epoch)
        });
        let Some(keeper) = keeper else { return Some(Cow::Borrowed(page)) };
        let removals = keeper.removals_behind(page.last.offset)?;
        let mut page = page.clone();
        page.entries.retain(|entry| !removals.iter().any(|(removal, at)| removal.covers(*at, entry.offset)));
        Some(Cow::Owned(page))
    }

    /// Keeps messages before the oldest of the room's tail, the newest first, as far as there is memory for them: whoever comes back next is
    /// given them without a question.
    pub(super) fn recall<'a>(&mut self, room: u32, retention: &Retention, texts: impl Iterator<Item = &'a [u8]>) {
        let bytes_left = self.bytes_max.saturating_sub(self.bytes);
        self.change(room, |Keeper { tail, .. }| {
            let bytes_max =
                bytes_left.saturating_add(tail.bytes()).min(retention.bytes_max.try_into().unwrap_or(usize::MAX));
            for text in texts {
                let is_full = tail.end() - tail.first() >= u64::from(retention.messages_max);
                if is_full || tail.bytes() + Tail::entry_bytes(text) > bytes_max {
                    return;
                }
                tail.push_front(text);
            }
        });
    }

    /// Bytes of all messages in memory.
    pub fn memory_bytes(&self) -> usize {
        self.bytes
    }

    /// How many members are behind.
    pub fn behind(&self) -> usize {
        self.behind
    }

    /// Panics unless its parts agree with each other.
    pub fn check_invariants(&self) {
        assert_eq!(self.bytes, self.keepers.values().map(Keeper::bytes).sum::<usize>());
        assert_eq!(self.behind, self.keepers.values().map(|keeper| keeper.behind.len()).sum::<usize>());
        for keeper in self.keepers.values() {
            assert!(!keeper.is_live || !keeper.holds_any(), "what is live holds nothing back");
            assert!(!keeper.is_live || keeper.last.is_some_and(|last| last.offset + 1 == keeper.tail.end()));
        }
    }

    /// Panics if anything is left.
    pub fn check_idle(&self) {
        assert!(self.keepers.is_empty() && self.reads.in_flight() == 0, "a room with history is left");
    }
}
