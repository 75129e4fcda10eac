//! The members of rooms, in groups that are sent the same bytes.

use super::group::Group;
use super::place::{Place, Seat};
use super::run::Runs;
use crate::form::Form;
use crate::id::ConnId;
use crate::rules::Slow;
use crate::slots::NONE;
use std::ops::Range;

/// The members of one room.
#[derive(Debug)]
pub(crate) struct Audience {
    /// Nearly every room has one group only, which costs nothing on top.
    first: Group,
    others: Vec<Group>,
    /// A group that may have a place: the last that a member joined or left.
    roomy: u32,
    members: u32,
    /// What becomes of members that do not keep up.
    pub slow: Slow,
}

impl Audience {
    fn new() -> Audience {
        Audience { first: Group::new(Form::default()), others: Vec::new(), roomy: 0, members: 0, slow: Slow::Close }
    }

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

    /// What a group of this form has yet to be given, if any has.
    pub fn run_of(&self, form: Form) -> Option<u32> {
        self.groups().find(|group| group.run != NONE && group.form == form).map(|group| group.run)
    }

    /// The index of a group of this form with a place for one more.
    fn group_with_place(&mut self, form: Form, members_max: usize) -> usize {
        let has_place = |at: &usize| {
            let group = self.group_at(*at);
            group.form == form && group.members().len() < members_max
        };
        let roomy = Some(self.roomy as usize).filter(has_place);
        // Runs at most once per `group_members_max` joins. Backwards, because the newest group is the likeliest to have a place.
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

/// Those of all rooms, by the room's key.
#[derive(Debug)]
pub(crate) struct Audiences {
    list: Vec<Audience>,
    group_members_max: usize,
    memberships: u64,
    /// Rooms with at least one member.
    populated: u64,
}

impl Audiences {
    pub fn new(group_members_max: u16) -> Audiences {
        Audiences { list: Vec::new(), group_members_max: group_members_max.into(), memberships: 0, populated: 0 }
    }

    pub fn memberships(&self) -> u64 {
        self.memberships
    }

    pub fn populated(&self) -> u64 {
        self.populated
    }

    /// There is a room with this key from now on.
    pub fn add(&mut self, room: u32, slow: Slow) {
        if self.list.len() <= room as usize {
            self.list.resize_with(room as usize + 1, Audience::new);
        }
        self.list[room as usize].slow = slow;
    }

    /// The room is no more. It must have no member.
    pub fn remove(&mut self, room: u32) {
        let audience = std::mem::replace(self.get_mut(room), Audience::new());
        debug_assert!(audience.is_empty() && !audience.has_run());
    }

    pub fn get(&self, room: u32) -> &Audience {
        &self.list[room as usize]
    }

    pub fn get_mut(&mut self, room: u32) -> &mut Audience {
        &mut self.list[room as usize]
    }

    /// For checks: all of them, also those of keys that no room has.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &Audience)> {
        (0..).zip(&self.list)
    }

    /// See [`Group::join`].
    pub fn join(&mut self, room: u32, form: Form, conn: ConnId, seat: Seat, runs: &mut Runs) -> Place {
        let room = &mut self.list[room as usize];
        self.memberships += 1;
        self.populated += u64::from(room.is_empty());
        let at = room.group_with_place(form, self.group_members_max);
        (room.roomy, room.members) = (at as u32, room.members + 1);
        let group = room.group_at_mut(at);
        Place::new(at, group.join(conn, seat, runs.with_length(group.run)))
    }

    /// See [`Group::leave`].
    pub fn leave(
        &mut self,
        room: u32,
        place: Place,
        runs: &mut Runs,
        mut moved: impl FnMut(ConnId, Seat, Place),
    ) -> Range<usize> {
        let (room, at) = (&mut self.list[room as usize], place.group());
        let group = room.group_at_mut(at);
        let run = runs.with_length(group.run);
        let part = group.leave(place.index(), run, |conn, seat, index| moved(conn, seat, Place::new(at, index)));
        room.roomy = at as u32;
        room.members -= 1;
        self.memberships -= 1;
        self.populated -= u64::from(room.is_empty());
        part
    }
}
