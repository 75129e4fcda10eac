//! What users use over all of their connections on this core. It is kept only where a limit for users is set, and told by the index that
//! [`Identities`](crate::session) gives to a user.

use crate::hash::Seeded;
use crate::slots::{NONE, Slots};
use hashbrown::HashMap;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Usage {
    connections: u32,
    /// Rooms in which at least one of them is.
    rooms: u32,
}

/// The users that have a connection.
#[derive(Debug)]
pub(crate) struct Quotas {
    /// 0: no limit.
    rooms_max: u32,
    /// By slot: whose connection it is, or [`NONE`].
    user_of: Vec<u32>,
    /// By user. It ends with the last user that there has ever been.
    users: Vec<Usage>,
    /// By user and room: how many of the user's connections are in the room.
    members: HashMap<(u32, u32), u32, Seeded>,
}

impl Quotas {
    pub fn new(rooms_max: u32, seed: u64) -> Quotas {
        let members = HashMap::with_hasher(Seeded::new(seed));
        Quotas { rooms_max, user_of: Vec::new(), users: Vec::new(), members }
    }

    /// Whether there is anything to keep.
    pub fn are_kept(&self) -> bool {
        self.rooms_max > 0
    }

    /// The connection, which is in these rooms, is this user's; or is so still.
    pub fn begin(&mut self, slot: u32, user: u32, rooms: impl Iterator<Item = u32>) {
        if self.user_of.len() <= slot as usize {
            self.user_of.resize(slot as usize + 1, NONE);
        }
        if self.user_of[slot as usize] == user {
            return;
        }
        self.user_of[slot as usize] = user;
        if self.users.len() <= user as usize {
            self.users.resize(user as usize + 1, Usage::default());
        }
        self.users[user as usize].connections += 1;
        for room in rooms {
            self.join(slot, room);
        }
    }

    /// The connection, which has left its rooms, is nobody's any more.
    pub fn end(&mut self, slot: u32) {
        if let Some(user) = self.user(slot) {
            self.user_of[slot as usize] = NONE;
            self.users[user as usize].connections -= 1;
        }
    }

    /// Whose connection it is, if anything is kept of users.
    fn user(&self, slot: u32) -> Option<u32> {
        self.user_of.get(slot as usize).copied().filter(|user| *user != NONE)
    }

    /// The connection has joined a room.
    pub fn join(&mut self, slot: u32, room: u32) {
        if let Some(user) = self.user(slot).filter(|_| self.rooms_max > 0) {
            let members = self.members.entry((user, room)).or_default();
            *members += 1;
            self.users[user as usize].rooms += u32::from(*members == 1);
        }
    }

    /// The connection has left a room.
    pub fn leave(&mut self, slot: u32, room: u32) {
        let Some(user) = self.user(slot).filter(|_| self.rooms_max > 0) else { return };
        let members = self.members.get_mut(&(user, room)).expect("who leaves a room has joined it");
        *members -= 1;
        if *members == 0 {
            self.members.remove(&(user, room));
            self.users[user as usize].rooms -= 1;
        }
    }

    /// Whether the connection's user has a place for one room more, or `beside` it so many as it has already.
    pub fn has_place(&self, slot: u32, beside: u32) -> bool {
        let rooms = self.user(slot).map_or(0, |user| self.users[user as usize].rooms);
        self.rooms_max == 0 || rooms < self.rooms_max.saturating_add(beside)
    }

    /// Whether any connection of this one's user is in the room.
    pub fn is_in(&self, slot: u32, room: u32) -> bool {
        self.user(slot).is_some_and(|user| self.members.contains_key(&(user, room)))
    }

    /// Panics unless it agrees with the connections, of which these tell whose they are, and in which rooms.
    pub fn check_invariants(
        &self,
        slots: &Slots,
        user_of: impl Fn(u32) -> Option<u32>,
        rooms_of: impl Fn(u32) -> Vec<u32>,
    ) {
        let mut found = Quotas::new(self.rooms_max, 0);
        for slot in slots.slots() {
            let user = user_of(slot).filter(|_| self.are_kept());
            assert_eq!(self.user(slot), user, "whose slot {slot} is");
            if let Some(user) = user {
                found.begin(slot, user, rooms_of(slot).into_iter());
            }
        }
        assert_eq!(self.members, found.members, "the rooms of users");
        for (user, usage) in self.users.iter().enumerate() {
            assert_eq!(*usage, found.users.get(user).copied().unwrap_or_default(), "what user {user} has");
        }
    }

    /// Panics if anything is left of a connection.
    pub fn check_idle(&self) {
        assert!(self.members.is_empty(), "a user is in a room");
        assert!(self.users.iter().all(|usage| *usage == Usage::default()), "a user is left");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_room_counts_once_however_many_connections_of_the_user_are_in_it() {
        let mut quotas = Quotas::new(2, 0);
        quotas.begin(0, 7, [1].into_iter());
        quotas.begin(3, 7, [].into_iter());
        quotas.join(3, 1);
        assert!(quotas.has_place(3, 0) && quotas.is_in(3, 1) && !quotas.is_in(3, 2));
        quotas.join(3, 2);
        assert!(!quotas.has_place(0, 0) && quotas.has_place(0, 1));
        quotas.leave(0, 1);
        assert!(!quotas.has_place(0, 0), "another connection is in it still");
        quotas.leave(3, 1);
        assert!(quotas.has_place(0, 0));
        // Nobody's connection has no limit.
        assert!(quotas.has_place(1, 0) && !quotas.is_in(1, 2));
    }

    #[test]
    fn a_connection_whose_user_is_told_again_counts_once() {
        let mut quotas = Quotas::new(1, 0);
        quotas.begin(0, 0, [5].into_iter());
        quotas.begin(0, 0, [5].into_iter());
        quotas.leave(0, 5);
        quotas.end(0);
        quotas.end(0);
        quotas.check_idle();
    }

    #[test]
    fn without_a_limit_nothing_is_kept() {
        let mut quotas = Quotas::new(0, 0);
        assert!(!quotas.are_kept() && quotas.has_place(0, 0));
        quotas.join(0, 1);
        quotas.leave(0, 1);
        quotas.end(0);
        quotas.check_idle();
    }

    proptest! {
        #[test]
        fn counts_are_those_of_plain_sets(steps in prop::collection::vec((0..4u32, 0..3u32, 0..5u32), 1..100)) {
            let mut quotas = Quotas::new(2, 7);
            let mut conns: [Option<(u32, BTreeSet<u32>)>; 4] = Default::default();
            for (slot, user, room) in steps {
                match &mut conns[slot as usize] {
                    None => {
                        quotas.begin(slot, user, [room].into_iter());
                        conns[slot as usize] = Some((user, [room].into()));
                    }
                    Some((_, rooms)) if room == 0 => {
                        rooms.iter().for_each(|room| quotas.leave(slot, *room));
                        quotas.end(slot);
                        conns[slot as usize] = None;
                    }
                    Some((_, rooms)) if rooms.contains(&room) => {
                        rooms.remove(&room);
                        quotas.leave(slot, room);
                    }
                    Some((_, rooms)) => {
                        rooms.insert(room);
                        quotas.join(slot, room);
                    }
                }
                for (slot, conn) in (0..).zip(&conns) {
                    let Some((user, _)) = conn else { continue };
                    let of_user = conns.iter().flatten().filter(|(other, _)| other == user);
                    let rooms: BTreeSet<u32> = of_user.flat_map(|(_, rooms)| rooms.iter().copied()).collect();
                    for beside in 0..3 {
                        prop_assert_eq!(quotas.has_place(slot, beside), rooms.len() < 2 + beside as usize);
                    }
                    prop_assert!((0..5).all(|room| quotas.is_in(slot, room) == rooms.contains(&room)));
                }
            }
        }
    }
}
