//! The rooms: their names, their members in dense vectors, and how each stands with the broker.

use super::run::Run;
use crate::conn::NONE;
use crate::event::ConnId;
use crate::time::Time;
use hashbrown::HashTable;
use siphasher::sip::SipHasher13;
use slab::Slab;
use std::hash::Hasher;
use std::ops::Range;

/// A member's place in its connection's room list, and whether its SUBSCRIBE still waits for the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seat(u16);

const WAITING: u16 = 1 << 15;
/// A room that was larger gives memory back when three quarters of its places are empty.
const KEPT_MEMBERS: usize = 64;

impl Seat {
    pub fn new(list_position: usize, waiting: bool) -> Seat {
        debug_assert!(list_position < usize::from(WAITING));
        Seat(list_position as u16 | if waiting { WAITING } else { 0 })
    }

    pub fn list_position(self) -> usize {
        usize::from(self.0 & !WAITING)
    }

    pub fn is_waiting(self) -> bool {
        self.0 & WAITING != 0
    }
}

/// The one outstanding request to the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Subscribe,
    Unsubscribe,
}

#[derive(Debug)]
pub(crate) struct Room {
    pub name: Box<str>,
    /// 8 bytes per member: all that a fan-out reads of this room.
    members: Vec<ConnId>,
    seats: Vec<Seat>,
    /// This turn's run, or `NONE`; then `full` means nothing.
    pub run: u32,
    /// Members before this index get the whole run.
    pub full: u32,
    /// The broker epoch in which the broker confirmed the subscription; it is held while that epoch lasts.
    pub held_in: u32,
    /// What was asked, and in which epoch; an ask of an earlier epoch is void.
    pub asked: Option<(Asked, u32)>,
    /// Without members, the room is kept until then.
    pub linger_until: Time,
    /// It stands in the queue of lingering rooms.
    pub lingering: bool,
}

impl Room {
    pub fn members(&self) -> &[ConnId] {
        &self.members
    }

    pub fn seat(&self, index: u32) -> Seat {
        self.seats[index as usize]
    }

    pub fn set_seat(&mut self, index: u32, seat: Seat) {
        self.seats[index as usize] = seat;
    }

    /// Adds a member and returns its index. While a run is being built, it gets what follows.
    fn join(&mut self, conn: ConnId, seat: Seat, run: Option<&mut Run>) -> u32 {
        if let Some(run) = run {
            run.late.push_back(run.bytes.len() as u32);
        }
        self.members.push(conn);
        self.seats.push(seat);
        self.members.len() as u32 - 1
    }

    /// Removes a member and returns its part of the run so far. `moved` is told of each other member that changed its place.
    fn leave(&mut self, index: u32, run: Option<&mut Run>, mut moved: impl FnMut(ConnId, Seat, u32)) -> Range<usize> {
        let mut hole = index as usize;
        let mut part = 0..0;
        if let Some(run) = run {
            part.end = run.bytes.len();
            if index < self.full {
                // Keep the whole-run members together: the hole moves to their end, and the last late member into it.
                self.full -= 1;
                hole = self.full as usize;
                self.swap(index as usize, hole);
                if index as usize != hole {
                    moved(self.members[index as usize], self.seats[index as usize], index);
                }
                if let Some(start) = run.late.pop_back() {
                    run.late.push_front(start);
                }
            } else {
                let start = run.late.swap_remove_back((index - self.full) as usize);
                part.start = start.expect("every late member has a start") as usize;
            }
        }
        self.members.swap_remove(hole);
        self.seats.swap_remove(hole);
        if let Some(conn) = self.members.get(hole) {
            moved(*conn, self.seats[hole], hole as u32);
        }
        if self.members.capacity() > KEPT_MEMBERS && self.members.len() < self.members.capacity() / 4 {
            self.members.shrink_to(self.members.len() * 2);
            self.seats.shrink_to(self.members.len() * 2);
        }
        part
    }

    /// Spares a member what the run holds from `until` on: returns the part before it that the member has not been given
    /// yet, and lets it join again at the run's present end.
    fn spare(
        &mut self,
        index: u32,
        run: &mut Run,
        until: usize,
        mut moved: impl FnMut(ConnId, Seat, u32),
    ) -> Range<usize> {
        let behind = run.bytes.len() as u32;
        if index >= self.full {
            let start = &mut run.late[(index - self.full) as usize];
            let part = *start as usize..until;
            *start = behind;
            return part;
        }
        self.full -= 1;
        let (index, boundary) = (index as usize, self.full as usize);
        self.swap(index, boundary);
        run.late.push_front(behind);
        if index != boundary {
            moved(self.members[index], self.seats[index], index as u32);
            moved(self.members[boundary], self.seats[boundary], boundary as u32);
        }
        0..until
    }

    fn swap(&mut self, a: usize, b: usize) {
        self.members.swap(a, b);
        self.seats.swap(a, b);
    }
}

/// All rooms, by key and by name.
#[derive(Debug)]
pub(crate) struct Rooms {
    slab: Slab<Room>,
    names: HashTable<u32>,
    /// Keyed, for names come from clients.
    hasher: SipHasher13,
    memberships: u64,
    /// Rooms with at least one member.
    populated: u64,
}

impl Rooms {
    pub fn new(seed: u64) -> Rooms {
        Rooms {
            slab: Slab::new(),
            names: HashTable::new(),
            hasher: SipHasher13::new_with_keys(seed, !seed),
            memberships: 0,
            populated: 0,
        }
    }

    pub fn memberships(&self) -> u64 {
        self.memberships
    }

    pub fn populated(&self) -> u64 {
        self.populated
    }

    fn hash(&self, name: &str) -> u64 {
        let mut hasher = self.hasher;
        hasher.write(name.as_bytes());
        hasher.finish()
    }

    pub fn find(&self, name: &str) -> Option<u32> {
        self.names.find(self.hash(name), |room| *self.slab[*room as usize].name == *name).copied()
    }

    pub fn find_or_insert(&mut self, name: &str) -> u32 {
        if let Some(room) = self.find(name) {
            return room;
        }
        let room = self.slab.insert(Room {
            name: name.into(),
            members: Vec::new(),
            seats: Vec::new(),
            run: NONE,
            full: 0,
            held_in: 0,
            asked: None,
            linger_until: Time::ZERO,
            lingering: false,
        }) as u32;
        let (slab, hasher) = (&self.slab, self.hasher);
        self.names.insert_unique(self.hash(name), room, |room| {
            let mut hasher = hasher;
            hasher.write(slab[*room as usize].name.as_bytes());
            hasher.finish()
        });
        room
    }

    /// Removes a room that has no member.
    pub fn remove(&mut self, room: u32) {
        let hash = self.hash(&self.slab[room as usize].name);
        if let Ok(entry) = self.names.find_entry(hash, |key| *key == room) {
            entry.remove();
        }
        let room = self.slab.remove(room as usize);
        debug_assert!(room.members.is_empty() && room.run == NONE);
    }

    pub fn get(&self, room: u32) -> &Room {
        &self.slab[room as usize]
    }

    pub fn get_mut(&mut self, room: u32) -> &mut Room {
        &mut self.slab[room as usize]
    }

    /// The key of the first room at or after `from`.
    pub fn next_key(&self, from: u32) -> Option<u32> {
        (from..self.slab.capacity() as u32).find(|key| self.slab.contains(*key as usize))
    }

    pub fn iter(&self) -> impl Iterator<Item = (u32, &Room)> {
        self.slab.iter().map(|(key, room)| (key as u32, room))
    }

    /// See [`Room::join`].
    pub fn join(&mut self, room: u32, conn: ConnId, seat: Seat, run: Option<&mut Run>) -> u32 {
        let room = &mut self.slab[room as usize];
        self.memberships += 1;
        self.populated += u64::from(room.members.is_empty());
        room.join(conn, seat, run)
    }

    /// See [`Room::leave`].
    pub fn leave(
        &mut self,
        room: u32,
        index: u32,
        run: Option<&mut Run>,
        moved: impl FnMut(ConnId, Seat, u32),
    ) -> Range<usize> {
        let room = &mut self.slab[room as usize];
        let part = room.leave(index, run, moved);
        self.memberships -= 1;
        self.populated -= u64::from(room.members.is_empty());
        part
    }

    /// See [`Room::spare`].
    pub fn spare(
        &mut self,
        room: u32,
        index: u32,
        run: &mut Run,
        until: usize,
        moved: impl FnMut(ConnId, Seat, u32),
    ) -> Range<usize> {
        self.slab[room as usize].spare(index, run, until, moved)
    }
}
