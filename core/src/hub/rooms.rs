//! The rooms: their names, their groups of members, and how each stands with the broker.

use super::group::{Group, Seat};
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
    /// Nearly every room has members of one form only: its group costs nothing on top.
    first: Group,
    others: Vec<Group>,
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

    pub fn groups_mut(&mut self) -> impl Iterator<Item = &mut Group> {
        std::iter::once(&mut self.first).chain(&mut self.others)
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

    /// The group of this form, if it has had a member.
    pub fn group(&self, form: Form) -> Option<&Group> {
        self.groups().find(|group| group.form == form)
    }

    /// The group of a form that has a member.
    pub fn group_mut(&mut self, form: Form) -> &mut Group {
        self.groups_mut().find(|group| group.form == form).expect("a member's group is there")
    }

    pub fn is_empty(&self) -> bool {
        self.first.members().is_empty() && self.others.iter().all(|group| group.members().is_empty())
    }

    /// Whether it has something to say in this turn.
    pub fn has_run(&self) -> bool {
        self.groups().any(|group| group.run != NONE)
    }

    fn group_or_insert(&mut self, form: Form) -> &mut Group {
        if self.group(form).is_none() {
            if self.first.members().is_empty() && self.first.run == NONE {
                self.first = Group::new(form);
            } else {
                self.others.push(Group::new(form));
            }
        }
        self.group_mut(form)
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
            first: Group::new(Form::default()),
            others: Vec::new(),
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
    pub fn join(&mut self, room: u32, form: Form, conn: ConnId, seat: Seat, runs: &mut Runs) -> u32 {
        let room = &mut self.slab[room as usize];
        self.memberships += 1;
        self.populated += u64::from(room.is_empty());
        let group = room.group_or_insert(form);
        group.join(conn, seat, runs.get_mut(group.run))
    }

    /// See [`Group::leave`].
    pub fn leave(
        &mut self,
        room: u32,
        form: Form,
        index: u32,
        runs: &mut Runs,
        moved: impl FnMut(ConnId, Seat, u32),
    ) -> Range<usize> {
        let room = &mut self.slab[room as usize];
        let group = room.group_mut(form);
        let part = group.leave(index, runs.get_mut(group.run), moved);
        self.memberships -= 1;
        self.populated -= u64::from(room.is_empty());
        part
    }
}
