//! Members of one room that are sent the same bytes, in dense vectors, and which of them gets which part of a turn's run.

use super::place::Seat;
use super::run::Run;
use crate::form::Form;
use crate::id::ConnId;
use crate::slots::NONE;
use smallvec::SmallVec;
use std::ops::Range;

/// A room of two is the most common. Its members stand where a pointer to more would be, and need no memory of their own.
const INLINE_MEMBERS: usize = 2;
const INLINE_SEATS: usize = 8;
/// A room that was larger gives memory back when three quarters of its places are empty.
const KEPT_MEMBERS: usize = 16;

/// Members of one room and one form, at most [`GROUP_MEMBERS_MAX`](super::place::GROUP_MEMBERS_MAX).
#[derive(Debug)]
pub(crate) struct Group {
    pub form: Form,
    /// 8 bytes per member: all that a fan-out reads of this room.
    members: SmallVec<[ConnId; INLINE_MEMBERS]>,
    seats: SmallVec<[Seat; INLINE_SEATS]>,
    /// This turn's run, or `NONE`; then `full` means nothing.
    pub run: u32,
    /// Members before this index get the whole run.
    pub full: u32,
}

impl Group {
    pub fn new(form: Form) -> Group {
        Group { form, members: SmallVec::new(), seats: SmallVec::new(), run: NONE, full: 0 }
    }

    pub fn members(&self) -> &[ConnId] {
        &self.members
    }

    pub fn seat(&self, index: u32) -> Seat {
        self.seats[index as usize]
    }

    pub fn set_seat(&mut self, index: u32, seat: Seat) {
        self.seats[index as usize] = seat;
    }

    /// Adds a member and returns its index. Of a run, which comes with its length, it gets what follows.
    pub fn join(&mut self, conn: ConnId, seat: Seat, run: Option<(&mut Run, usize)>) -> u32 {
        if let Some((run, bytes)) = run {
            run.late.push_back(bytes as u32);
        }
        self.members.push(conn);
        self.seats.push(seat);
        self.members.len() as u32 - 1
    }

    /// Removes a member and returns its part of the run so far. `moved` is told of each other member that changed its place.
    pub fn leave(
        &mut self,
        index: u32,
        run: Option<(&mut Run, usize)>,
        mut moved: impl FnMut(ConnId, Seat, u32),
    ) -> Range<usize> {
        let mut hole = index as usize;
        let mut part = 0..0;
        if let Some((run, bytes)) = run {
            part.end = bytes;
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
            // Room for this many, and no more.
            self.members.grow(self.members.len() * 2);
            self.seats.grow(self.members.len() * 2);
        }
        part
    }

    /// Where in the run the member's part of it begins.
    pub fn start(&self, index: u32, run: &Run) -> usize {
        match index.checked_sub(self.full) {
            None => 0,
            Some(late) => run.late[late as usize] as usize,
        }
    }

    /// The member's part of the run begins at `start` from now on. `moved` is told of each member that changed its place.
    pub fn set_start(&mut self, index: u32, run: &mut Run, start: usize, mut moved: impl FnMut(ConnId, Seat, u32)) {
        if let Some(late) = index.checked_sub(self.full) {
            run.late[late as usize] = start as u32;
            return;
        }
        self.full -= 1;
        let (index, boundary) = (index as usize, self.full as usize);
        self.swap(index, boundary);
        run.late.push_front(start as u32);
        if index != boundary {
            moved(self.members[index], self.seats[index], index as u32);
            moved(self.members[boundary], self.seats[boundary], boundary as u32);
        }
    }

    fn swap(&mut self, a: usize, b: usize) {
        self.members.swap(a, b);
        self.seats.swap(a, b);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_members_need_no_memory_of_their_own() {
        assert_eq!(size_of::<Group>(), 64);
        let mut group = Group::new(Form::default());
        for slot in 0..INLINE_MEMBERS as u32 {
            group.join(ConnId::new(slot, 0), Seat::new(0, false), None);
        }
        assert!(!group.members.spilled() && !group.seats.spilled());
    }

    #[test]
    fn a_room_that_empties_gives_memory_back() {
        let mut group = Group::new(Form::default());
        for slot in 0..1_000 {
            group.join(ConnId::new(slot, 0), Seat::new(0, false), None);
        }
        for left in (0..1_000).rev() {
            group.leave(left / 2, None, |_, _, _| {});
            let places = group.members.capacity().max(group.seats.capacity());
            assert!(places <= KEPT_MEMBERS.max(4 * (left as usize + 1)), "{places} for {left}");
        }
    }
}
