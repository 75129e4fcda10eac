//! The rooms: their names, their groups of members, and how each stands with the broker.

use super::group::{Group, Place, Seat};
use super::run::Runs;
use crate::conn::NONE;
use crate::dialect::Form;
use crate::event::ConnId;
use crate::time::Time;
use hashbrown::HashTable;
use siphasher::sip::SipHasher13;
use slab::Slab;
use std::hash::Hasher;
use std::ops::Range;

/// The one outstanding request to the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Subscribe,
    Unsubscribe,
}

#[derive(Debug)]
pub(crate) struct Room {
    pub name: Box<str>,
    /// Nearly every room has one group only, which costs nothing on top.
    first: Group,
    others: Vec<Group>,
    /// A group that may have a place: the last that a member joined or left.
    roomy: u32,
    members: u32,
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
    /// Its groups; one without members may be among them.
    pub fn groups(&self) -> impl Iterator<Item = &Group> {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// How many groups there are. None is taken away while the room is there.
    pub fn group_count(&self) -> usize {
        1 + self.others.len()
    }

    /// The group at this index below [`Room::group_count`].
    pub fn group_at(&self, index: usize) -> &Group {
        match index.checked_sub(1) {
            None => &self.first,
            Some(index) => &self.others[index],
        }
    }

    /// The same, to be changed.
    pub fn group_at_mut(&mut self, index: usize) -> &mut Group {
        match index.checked_sub(1) {
            None => &mut self.first,
            Some(index) => &mut self.others[index],
        }
    }

    pub fn is_empty(&self) -> bool {
        self.members == 0
    }

    pub fn members(&self) -> usize {
        self.members as usize
    }

    /// Whether something has yet to be said in it.
    pub fn has_run(&self) -> bool {
        self.groups().any(|group| group.run != NONE)
    }

    /// The index of a group of this form with a place for one more.
    fn group_with_place(&mut self, form: Form, members_max: usize) -> usize {
        let has_place = |at: &usize| {
            let group = self.group_at(*at);
            group.form == form && group.members().len() < members_max
        };
        let roomy = Some(self.roomy as usize).filter(has_place);
        // Runs at most once per `group_members_max` joins. Backwards, because the newest group is the likeliest to have room.
        if let Some(at) = roomy.or_else(|| (0..self.group_count()).rev().find(has_place)) {
            return at;
        }
        if self.first.members().is_empty() && self.first.run == NONE {
            self.first = Group::new(form);
            return 0;
        }
        self.others.push(Group::new(form));
        self.others.len()
    }
}

/// All rooms, by key and by name.
#[derive(Debug)]
pub(crate) struct Rooms {
    slab: Slab<Room>,
    names: HashTable<u32>,
    /// Keyed, for names come from clients.
    hasher: SipHasher13,
    group_members_max: usize,
    memberships: u64,
    /// Rooms with at least one member.
    populated: u64,
}

impl Rooms {
    pub fn new(seed: u64, group_members_max: usize) -> Rooms {
        Rooms {
            slab: Slab::new(),
            names: HashTable::new(),
            hasher: SipHasher13::new_with_keys(seed, !seed),
            group_members_max,
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
            first: Group::new(Form::default()),
            others: Vec::new(),
            roomy: 0,
            members: 0,
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
        debug_assert!(room.is_empty() && !room.has_run());
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

    /// See [`Group::join`].
    pub fn join(&mut self, room: u32, form: Form, conn: ConnId, seat: Seat, runs: &mut Runs) -> Place {
        let room = &mut self.slab[room as usize];
        self.memberships += 1;
        self.populated += u64::from(room.is_empty());
        let at = room.group_with_place(form, self.group_members_max);
        (room.roomy, room.members) = (at as u32, room.members + 1);
        let group = room.group_at_mut(at);
        Place::new(at, group.join(conn, seat, runs.get_mut(group.run)))
    }

    /// See [`Group::leave`].
    pub fn leave(
        &mut self,
        room: u32,
        place: Place,
        runs: &mut Runs,
        mut moved: impl FnMut(ConnId, Seat, Place),
    ) -> Range<usize> {
        let (room, at) = (&mut self.slab[room as usize], place.group());
        let group = room.group_at_mut(at);
        let run = runs.get_mut(group.run);
        let part = group.leave(place.index(), run, |conn, seat, index| moved(conn, seat, Place::new(at, index)));
        room.roomy = at as u32;
        room.members -= 1;
        self.memberships -= 1;
        self.populated -= u64::from(room.is_empty());
        part
    }
}
