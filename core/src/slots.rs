//! The connection slab: one small record per connection, found by slot, checked by generation. What a connection is in the
//! middle of lives elsewhere and only while it lasts, so that an idle one costs this record and no buffer.

use crate::dialect::Dialect;
use crate::fanout::place::Place;
use crate::fanout::queue::Outbox;
use crate::form::Form;
use crate::framing::Framing;
use crate::id::ConnId;
use crate::limits::meter::Meter;
use crate::time::Time;
use crate::ws::decoder::Decoder;

/// No stream, no next free slot, no source.
pub(crate) const NONE: u32 = u32::MAX;

/// Where a connection is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The slot has no connection.
    Free,
    /// The request head is coming in.
    Head,
    /// It never was a WebSocket: the last response is being written, nothing that the peer sends matters any more.
    Refused,
    /// A WebSocket or an event stream.
    Open,
    /// The program that the server is a part of. It has commands and replies, no socket, and no limits.
    Backend,
    /// We sent a close frame and wait for the peer's.
    Closing,
    /// The last bytes are being written; nothing that the peer sends matters any more.
    Discarding,
    /// The adapter is being told to close the socket; nothing matters any more.
    Ended,
}

/// What follows when everything queued for the connection has been written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    None,
    /// Send a FIN and go on reading until the peer's: a peer that is still sending would otherwise be reset, and might
    /// never see what it was told.
    Shutdown,
    Close,
}

#[derive(Debug)]
pub(crate) struct Conn {
    generation: u32,
    /// The last sign of life, in [`coarse`] units.
    pub last_seen: u32,
    /// This turn's private stream, or the next free slot.
    pub stream: u32,
    /// Of [`Sources`](crate::limits::sources::Sources), or how it will be found out.
    pub source: u32,
    /// Malformed commands not yet forgiven.
    pub errors: u16,
    pub phase: Phase,
    pub ending: Ending,
    pub dialect: Dialect,
    /// A ping was sent and nothing has come since.
    pub pinged: bool,
    /// Somebody else reads and writes its frames: it sends messages, and takes whole ones.
    pub by_message: bool,
    pub framing: Framing,
    pub decoder: Decoder,
    /// Exists only while the connection lags.
    pub outbox: Option<Box<Outbox>>,
    /// Exists only while the client owes something.
    pub meter: Option<Box<Meter>>,
    pub rooms: RoomList,
}

/// Time in units of 2^15 µs, of which four bytes hold four years.
pub(crate) fn coarse(time: Time) -> u32 {
    (time.as_micros() >> 15) as u32
}

/// The last time at or before `now` that [`coarse`] makes this of.
pub(crate) fn fine(coarse: u32, now: Time) -> Time {
    let now = now.as_micros() >> 15;
    let ago = (now as u32).wrapping_sub(coarse);
    Time::from_micros((now - u64::from(ago)) << 15)
}

/// Marks of [`Slots::marks`]: why a room's fan-out may not simply name a member; and that it has to go, which there is no other place for.
pub(crate) mod mark {
    /// It has an outbox; what is new is queued after what is in it.
    pub const LAGGING: u8 = 1;
    /// Its outbox is over the limit; it will be closed at the end of the turn.
    pub const DOOMED: u8 = 2;
    /// Its socket failed; it will be removed at the end of the turn.
    pub const GONE: u8 = 4;
    /// It is doomed in the midst of a frame whose rest is not kept, so that nothing can follow.
    pub const TORN: u8 = 8;
    /// It is in several rooms; if more than one of them has something to say, it is written to once.
    pub const ROAMING: u8 = 16;
    /// What goes to it alone waits for what its rooms have to say.
    pub const JOINED: u8 = 32;
    /// An open WebSocket that the server wants to let go, at a time that it has been given.
    pub const HAS_SLOT: u8 = 64;
    /// One whose time for that has come: it is closed as soon as all has been said to it that it has to hear.
    pub const DUE: u8 = 128;
    /// It has to go.
    pub const DEPARTS: u8 = HAS_SLOT | DUE;
    /// A connection with one of these is not simply written to.
    pub const HELD_UP: u8 = LAGGING | DOOMED | GONE | TORN;
}

#[derive(Debug)]
pub(crate) struct Slots {
    records: Vec<Conn>,
    /// One byte per slot, apart from the records: a fan-out reads nothing else of a member, and all of them stay in cache.
    marks: Vec<u8>,
    free: u32,
    live: usize,
}

impl Slots {
    pub fn new() -> Slots {
        Slots { records: Vec::new(), marks: Vec::new(), free: NONE, live: 0 }
    }

    pub fn live(&self) -> usize {
        self.live
    }

    pub fn insert(&mut self, phase: Phase, now: Time) -> ConnId {
        self.live += 1;
        let slot = if self.free == NONE {
            self.records.push(Conn::vacant());
            self.marks.push(0);
            self.records.len() - 1
        } else {
            self.free as usize
        };
        let conn = &mut self.records[slot];
        if self.free != NONE {
            self.free = conn.stream;
        }
        conn.stream = NONE;
        conn.phase = phase;
        conn.last_seen = coarse(now);
        ConnId::new(slot as u32, conn.generation)
    }

    /// A slot for the program that the server is a part of. It is no connection, and stays.
    pub fn insert_backend(&mut self, now: Time) -> u32 {
        let id = self.insert(Phase::Backend, now);
        self.live -= 1;
        id.slot() as u32
    }

    /// The slot of whoever this names, if it can still be answered.
    pub fn listener(&self, id: ConnId) -> Option<u32> {
        self.slot(id).filter(|slot| matches!(self.get(*slot).phase, Phase::Open | Phase::Backend))
    }

    /// Frees the slot. Its rooms and its outbox must have been given up before.
    pub fn remove(&mut self, slot: u32) {
        let conn = &mut self.records[slot as usize];
        debug_assert!(conn.phase != Phase::Free && conn.rooms.len() == 0 && conn.outbox.is_none());
        *conn = Conn { generation: conn.generation.wrapping_add(1), stream: self.free, ..Conn::vacant() };
        self.marks[slot as usize] = 0;
        self.free = slot;
        self.live -= 1;
    }

    /// The slot that the id names, unless its connection is gone.
    pub fn slot(&self, id: ConnId) -> Option<u32> {
        let conn = self.records.get(id.slot())?;
        (conn.generation == id.generation() && conn.phase != Phase::Free).then_some(id.slot() as u32)
    }

    pub fn id(&self, slot: u32) -> ConnId {
        ConnId::new(slot, self.records[slot as usize].generation)
    }

    pub fn get(&self, slot: u32) -> &Conn {
        &self.records[slot as usize]
    }

    pub fn get_mut(&mut self, slot: u32) -> &mut Conn {
        &mut self.records[slot as usize]
    }

    /// For checks: panics if a connection has written everything and should have ended, or is not free of what lasts for one turn.
    pub fn check_written(&self, slot: u32) {
        let conn = self.get(slot);
        assert!(conn.phase == Phase::Free || conn.stream == NONE, "streams last for one turn");
        assert!(
            conn.ending == Ending::None || conn.outbox.is_some(),
            "slot {slot} in {:?} has written everything, so it should have ended",
            conn.phase
        );
    }

    /// All slots, free ones too.
    pub fn slots(&self) -> std::ops::Range<u32> {
        0..self.records.len() as u32
    }

    #[inline]
    pub fn marks(&self, conn: ConnId) -> u8 {
        self.marks[conn.slot()]
    }

    pub fn mark(&mut self, slot: u32, mark: u8) {
        self.marks[slot as usize] |= mark;
    }

    pub fn unmark(&mut self, slot: u32, mark: u8) {
        self.marks[slot as usize] &= !mark;
    }

    pub fn is_marked(&self, slot: u32, mark: u8) -> bool {
        self.marks[slot as usize] & mark != 0
    }

    /// Notes that the connection is in a room, at the end of its list.
    pub fn enter_room(&mut self, slot: u32, membership: Membership) {
        self.records[slot as usize].rooms.push(membership);
        self.mark_roaming(slot);
    }

    /// Takes the room at this place off the connection's list; the last one takes its place.
    pub fn leave_room(&mut self, slot: u32, position: usize) -> Membership {
        let left = self.records[slot as usize].rooms.swap_remove(position);
        self.mark_roaming(slot);
        left
    }

    fn mark_roaming(&mut self, slot: u32) {
        match self.records[slot as usize].rooms.len() {
            0 | 1 => self.unmark(slot, mark::ROAMING),
            _ => self.mark(slot, mark::ROAMING),
        }
    }
}

impl Conn {
    pub fn form(&self) -> Form {
        Form { shape: self.dialect.shape(), framing: self.framing, is_behind: false }
    }

    fn vacant() -> Conn {
        Conn {
            generation: 0,
            last_seen: 0,
            stream: NONE,
            source: NONE,
            errors: 0,
            phase: Phase::Free,
            ending: Ending::None,
            dialect: Dialect::default(),
            pinged: false,
            by_message: false,
            framing: Framing::default(),
            decoder: Decoder::default(),
            outbox: None,
            meter: None,
            rooms: RoomList::Few(None),
        }
    }
}

/// A room that the connection is in, and where it stands there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Membership {
    pub room: u32,
    pub place: Place,
}

/// The rooms of one connection. One costs nothing beyond the record; more are on the heap.
#[derive(Debug)]
pub(crate) enum RoomList {
    Few(Option<Membership>),
    Many(Box<Listed>),
}

#[derive(Debug, Default)]
pub(crate) struct Listed {
    rooms: Vec<Membership>,
}

impl RoomList {
    pub fn as_slice(&self) -> &[Membership] {
        match self {
            RoomList::Few(one) => one.as_slice(),
            RoomList::Many(listed) => &listed.rooms,
        }
    }

    pub fn len(&self) -> usize {
        self.as_slice().len()
    }

    /// Where the room stands in this list.
    pub fn position(&self, room: u32) -> Option<usize> {
        self.as_slice().iter().position(|membership| membership.room == room)
    }

    pub fn push(&mut self, membership: Membership) {
        match self {
            RoomList::Few(one @ None) => *one = Some(membership),
            RoomList::Few(Some(first)) => {
                *self = RoomList::Many(Box::new(Listed { rooms: vec![*first, membership] }));
            }
            RoomList::Many(listed) => listed.rooms.push(membership),
        }
    }

    /// Removes the entry at `position`; the last one takes its place.
    pub fn swap_remove(&mut self, position: usize) -> Membership {
        match self {
            RoomList::Few(one) => one.take().expect("a position comes from this list"),
            RoomList::Many(listed) => {
                let removed = listed.rooms.swap_remove(position);
                if let [last] = listed.rooms[..] {
                    *self = RoomList::Few(Some(last));
                }
                removed
            }
        }
    }

    pub fn set_place(&mut self, position: usize, place: Place) {
        match self {
            RoomList::Few(one) => one.as_mut().expect("a position comes from this list").place = place,
            RoomList::Many(listed) => listed.rooms[position].place = place,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_record_stays_within_one_cache_line() {
        assert!(size_of::<Conn>() <= 64, "{} bytes", size_of::<Conn>());
    }

    #[test]
    fn a_stale_id_is_recognised() {
        let mut slots = Slots::new();
        let first = slots.insert(Phase::Head, Time::ZERO);
        slots.remove(first.slot() as u32);
        assert_eq!(slots.slot(first), None);
        let second = slots.insert(Phase::Head, Time::ZERO);
        assert_eq!(second.slot(), first.slot());
        assert_ne!(second, first);
        assert_eq!(slots.slot(first), None);
        assert_eq!(slots.slot(second), Some(0));
    }

    #[test]
    fn a_room_list_grows_and_shrinks_in_place() {
        let mut rooms = RoomList::Few(None);
        for room in 0..3 {
            rooms.push(Membership { room, place: Place::new(0, room) });
        }
        assert_eq!(rooms.swap_remove(0).room, 0);
        assert_eq!(rooms.position(2), Some(0));
        assert_eq!(rooms.swap_remove(0).room, 2);
        assert!(matches!(rooms, RoomList::Few(Some(Membership { room: 1, .. }))));
        assert_eq!(rooms.swap_remove(0).room, 1);
        assert_eq!(rooms.len(), 0);
    }
}
