//! What a room with history remembers, and how places in it are named. Nothing here knows a broker, a connection or a member.

mod keys;
mod log;
mod position;
mod removal;

pub use keys::IdempotencyKey;
pub use log::{Moment, NotStored, RoomLog, StoredAt};
pub use position::{Epoch, ParsePositionError, Position};
pub use removal::{Removal, Remove};

use std::time::Duration;

/// How much of what is said in a room is kept: whatever is beyond one of these bounds is forgotten, oldest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Messages; at least 1.
    pub messages_max: u32,
    /// Bytes of their payloads together. The newest message is kept however long it is.
    pub bytes_max: u64,
    /// From when a message was stored, by the broker's clock.
    pub age_max: Duration,
}

/// Which part of a room's history is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Query {
    /// Where the part lies.
    pub part: Part,
    /// Messages at most. 0 asks for the position alone.
    pub messages_max: u32,
    /// Bytes of payloads at most; one message may always be had.
    pub bytes_max: u64,
}

/// A part of a room's history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// What was stored after this place, the oldest first.
    After(Position),
    /// What was stored before the message with this offset: the newest of that.
    Before(u64),
    /// The newest.
    Newest,
}

/// What is found there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The room's last message at the moment of the answer; offset 0 where there has been none.
    pub last: Position,
    /// The offset with which what is kept begins; that of the next message where nothing is. What stands there may be removed.
    pub first: u64,
    /// Whether the place that was asked for is one that the room's history knows.
    pub continuity: Continuity,
    /// The messages, the oldest first. Where an offset is missing between them, or before the first ([`Page::begins_behind`]), the message
    /// is removed.
    pub entries: Vec<Stored>,
}

impl Page {
    /// The offset with which the entries begin that were read after this place, whether it is there or removed.
    pub fn begins_behind(&self, place: Position) -> u64 {
        match self.continuity {
            Continuity::Exact => place.offset.saturating_add(1),
            Continuity::Trimmed | Continuity::Unknown => self.first,
            Continuity::Fenced(fence) => self.first.max(fence + 1),
        }
    }
}

/// How what is kept continues what somebody has seen up to a place ([`Part::After`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Continuity {
    /// All that was stored after the place is kept, and nothing that was seen has been lost. [`Page::entries`] begin right after it. Also
    /// for the parts that name no epoch.
    Exact,
    /// Messages after the place are kept no more: those between it and [`Page::first`].
    Trimmed,
    /// The place's epoch ended here, before the place: what was seen after this offset is lost, and others have those offsets now.
    /// [`Page::entries`] begin right after it, or at [`Page::first`].
    Fenced(u64),
    /// Nothing is known of the place's epoch, or it names a message of the future: [`Page::entries`] begin with the oldest.
    Unknown,
}

/// A message that is kept, or a [`Removal`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its number in the room.
    pub offset: u64,
    /// Unix milliseconds of the broker when it was stored.
    pub time_ms: u64,
    /// What was published, without its position.
    pub payload: Box<[u8]>,
}

/// As whole milliseconds; what is too long for them is as long as can be.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
