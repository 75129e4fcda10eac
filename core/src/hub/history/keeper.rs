//! How one room with history stands: up to where its messages have been said, what waits until those before it are known, and who has yet
//! to be given what was said before.

use super::tail::Tail;
use crate::broker::envelope::Except;
use crate::history::{Continuity, Epoch, Page, Position, Removal, Stored};
use crate::protocol::CommandId;
use crate::protocol::command::Start;
use std::collections::{BTreeMap, VecDeque};

/// Bytes of a room's messages that wait until those before them are known; what is more is asked for afterwards.
const HELD_BYTES_MAX: usize = 1024 * 1024;

/// A member that has yet to be given what was said before.
#[derive(Clone, Debug)]
pub(super) enum Behind {
    /// Nobody knows yet where it begins. Its SUBSCRIBE, and whether a question was asked since that came.
    Asking { start: Start, id: Option<CommandId>, is_asked: bool },
    /// It is given what is there, from this offset on. Up to `asked_to` it has asked for that; 0 where it has only fallen behind.
    Replaying { next: u64, asked_to: u64 },
}

/// A message that waits.
#[derive(Debug)]
pub(super) struct Held {
    pub position: Option<Position>,
    pub except: Option<Except>,
    pub text: Box<[u8]>,
    /// How often had been asked what the room has missed when it came.
    pub asked: u64,
}

#[derive(Debug)]
pub(super) struct Keeper {
    /// Tells it from others that have had the room's key.
    pub serial: u64,
    /// The room's last message that has been said, or that was the last when the room was joined; `None` before that is known.
    pub last: Option<Position>,
    /// Epochs that have ended while it had members, the latest first. The ordinal alone does not tell: where all data are lost, the first
    /// epoch of the new ones has the smallest.
    pub ended: Vec<Epoch>,
    /// Each message is said when it comes. Else messages are held until it is known what came before them.
    pub is_live: bool,
    /// How often has been asked what the room has missed. Only the last answer counts.
    pub asked: u64,
    /// That answer has yet to come.
    pub is_learning: bool,
    held: VecDeque<Held>,
    held_bytes: usize,
    /// The last that is stored of those that were not held, because they were too many.
    pub let_go: Option<Position>,
    pub tail: Tail,
    /// Where the last removal stands that has been said: a page that was read before may have what it removes.
    pub removed_to: u64,
    /// Messages older than the tail, as they were read last; for those who come back. It begins with this offset, and what it lacks is removed.
    page_from: u64,
    page: Vec<Stored>,
    page_bytes: usize,
    /// A question for those who come back is on its way.
    pub is_asking: bool,
    /// By slot.
    pub behind: BTreeMap<u32, Behind>,
}

impl Keeper {
    pub fn new(serial: u64) -> Keeper {
        Keeper {
            serial,
            last: None,
            ended: Vec::new(),
            is_live: false,
            asked: 0,
            is_learning: false,
            held: VecDeque::new(),
            held_bytes: 0,
            let_go: None,
            tail: Tail::default(),
            removed_to: 0,
            page_from: 0,
            page: Vec::new(),
            page_bytes: 0,
            is_asking: false,
            behind: BTreeMap::new(),
        }
    }

    /// The memory of all messages that are here.
    pub fn bytes(&self) -> usize {
        self.tail.bytes() + self.page_bytes + self.held_bytes
    }

    /// Whether one more message may be held.
    pub fn can_hold(&self, text: &[u8]) -> bool {
        self.held_bytes + text.len() <= HELD_BYTES_MAX
    }

    /// Keeps a message until what came before it is known.
    pub fn hold(&mut self, held: Held) {
        self.held_bytes += held.text.len();
        self.held.push_back(held);
    }

    /// One too many: it is read when what came before it is known, if it is stored and that was not read with it.
    pub fn let_go(&mut self) {
        if let Some(held) = self.held.pop_back() {
            self.held_bytes -= held.text.len();
            self.let_go = match (held.position, self.let_go) {
                (Some(position), Some(before)) if position.epoch == before.epoch => Some(position.max(before)),
                (position, before) => position.or(before),
            };
        }
    }

    /// Whether a message waits.
    pub fn holds_any(&self) -> bool {
        !self.held.is_empty()
    }

    /// These are in memory as well, from this offset on, instead of those that were read before.
    pub fn set_page(&mut self, from: u64, page: &[Stored]) {
        (self.page_from, self.page) = (from, page.to_vec());
        self.count_page();
    }

    fn count_page(&mut self) {
        self.page_bytes = self.page.iter().map(|stored| stored.payload.len() + size_of::<Stored>()).sum();
    }

    /// What the removal that stands at `at` removes is in memory no more.
    pub fn remove(&mut self, removal: Removal, at: u64) {
        self.tail.remove(removal, at);
        self.page.retain(|stored| !removal.covers(at, stored.offset));
        self.count_page();
        self.removed_to = at;
    }

    /// The removals that have been said behind this offset, with their own. Nothing where they are in memory no more.
    pub fn removals_behind(&self, offset: u64) -> Option<Vec<(Removal, u64)>> {
        if self.removed_to <= offset {
            return Some(Vec::new());
        }
        if self.tail.first() > offset + 1 {
            return None;
        }
        let removal = |at| Some((Removal::of_payload(self.tail.get(at)?)?, at));
        Some((offset + 1..=self.removed_to).filter_map(removal).collect())
    }

    /// Nobody needs them any more.
    pub fn drop_page(&mut self) {
        (self.page, self.page_bytes) = (Vec::new(), 0);
    }

    /// Whether messages are here that can be read again.
    pub fn is_cached(&self) -> bool {
        self.has_page() || self.tail.bytes() > 0
    }

    /// Whether there is a page.
    pub fn has_page(&self) -> bool {
        !self.page.is_empty()
    }

    /// The message that has waited for longest.
    pub fn next_held(&self) -> Option<&Held> {
        self.held.front()
    }

    /// Whether it is of an epoch that is known to have ended.
    pub fn is_of_an_ended_epoch(&self, held: &Held) -> bool {
        held.position.is_some_and(|position| self.ended.contains(&position.epoch))
    }

    /// It has to wait on.
    pub fn put_back(&mut self, held: Held) {
        self.held_bytes += held.text.len();
        self.held.push_front(held);
    }

    pub fn take_held(&mut self) -> Option<Held> {
        let held = self.held.pop_front()?;
        self.held_bytes -= held.text.len();
        Some(held)
    }

    /// The text of a message that somebody has yet to be given, without its offset, or the payload of a removal. `open` finds it in what was stored.
    pub fn text<'a>(&'a self, offset: u64, open: impl FnOnce(&'a [u8]) -> Option<&'a [u8]>) -> Option<&'a [u8]> {
        self.tail.get(offset).or_else(|| open(&self.stored(offset)?.payload))
    }

    /// The same as it was read from the broker.
    pub fn stored(&self, offset: u64) -> Option<&Stored> {
        let index = self.page.binary_search_by_key(&offset, |stored| stored.offset).ok()?;
        self.page.get(index)
    }

    /// Whether the page has the message, or tells that it is removed.
    pub fn is_in_page(&self, offset: u64) -> bool {
        self.page.last().is_some_and(|last| (self.page_from..=last.offset).contains(&offset))
    }

    /// Whether it is known in memory what stands there.
    pub fn has(&self, offset: u64) -> bool {
        self.tail.get(offset).is_some() || self.is_in_page(offset)
    }

    /// Whether this member of those who are behind can be given something, or has been given all.
    pub fn can_go_on(&self, slot: u32) -> bool {
        match self.behind.get(&slot) {
            Some(Behind::Replaying { next, .. }) => {
                self.has(*next) || self.last.is_some_and(|last| last.offset < *next) || !self.is_asking
            }
            _ => false,
        }
    }
}

/// Whether a page that was read after `asked` says how another place is continued: one of the same epoch, and if that has ended, one of
/// which it is known whether it is before the fence.
pub(super) fn tells_of(page: &Page, asked: Position, place: Position) -> bool {
    let is_fence_known = matches!(page.continuity, Continuity::Fenced(_) | Continuity::Unknown);
    place.epoch == asked.epoch
        && match asked.epoch == page.last.epoch {
            true => place >= asked,
            false => place <= asked || is_fence_known,
        }
}

/// Whether nothing of the place's epoch had come so far when the page was read.
pub(super) fn is_beyond(page: &Page, place: Position) -> bool {
    place.epoch == page.last.epoch && place.offset > page.last.offset
}

/// What it says of that place, which somebody knew when it was asked for.
pub(super) fn continuity_at(page: &Page, place: Position) -> Continuity {
    let kept = match place.offset.saturating_add(1) < page.first {
        true => Continuity::Trimmed,
        false => Continuity::Exact,
    };
    match page.continuity {
        Continuity::Exact | Continuity::Trimmed if is_beyond(page, place) => Continuity::Unknown,
        Continuity::Exact | Continuity::Trimmed => kept,
        Continuity::Fenced(fence) if place.offset <= fence => kept,
        other => other,
    }
}
