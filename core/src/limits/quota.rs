//! What users use over all of their connections on this core. It is kept only where a limit for users is set, and told by the index that
//! [`Identities`](crate::session) gives to a user.

use super::rate::Rate;
use crate::hash::Seeded;
use crate::slots::{NONE, Slots};
use crate::time::Time;
use hashbrown::HashMap;
use std::collections::BTreeSet;
use std::time::Duration;

/// Users without a connection that are looked at with every one that gets its first or loses its last: each such change leaves at most one
/// behind, so two keep up.
const SWEPT_PER_CHANGE: usize = 2;

#[derive(Clone, Copy, Debug, Default)]
struct Usage {
    /// The hash of the user's name.
    name: u64,
    connections: u32,
    /// Rooms in which at least one of them is.
    rooms: u32,
    /// Of messages; see [`Rate`].
    debt: u64,
    at: Time,
}

/// Users without a connection that owe something still, by the hash of their name: until when. Else whoever comes back would begin anew.
#[derive(Debug)]
struct Gone {
    until: HashMap<u64, Time, Seeded>,
    order: BTreeSet<(Time, u64)>,
}

impl Gone {
    fn insert(&mut self, name: u64, until: Time) {
        self.until.insert(name, until);
        self.order.insert((until, name));
    }

    fn take(&mut self, name: u64) -> Option<Time> {
        let until = self.until.remove(&name)?;
        self.order.remove(&(until, name));
        Some(until)
    }

    fn sweep(&mut self, now: Time) {
        for _ in 0..SWEPT_PER_CHANGE {
            let Some((_, name)) = self.order.first().filter(|(until, _)| *until <= now) else { return };
            self.take(*name);
        }
    }
}

impl Usage {
    fn drain(&mut self, rate: Rate, now: Time) {
        self.debt = rate.drained(self.debt, now.since(self.at).as_micros() as u64);
        self.at = now;
    }
}

/// The users that have a connection, and those that have gone and owe something.
#[derive(Debug)]
pub(crate) struct Quotas {
    /// 0: no limit.
    rooms_max: u32,
    messages: Rate,
    /// By slot: whose connection it is, or [`NONE`].
    user_of: Vec<u32>,
    /// By user. It ends with the last user that there has ever been.
    users: Vec<Usage>,
    /// By user and room: how many of the user's connections are in the room.
    members: HashMap<(u32, u32), u32, Seeded>,
    gone: Gone,
    /// Messages that were too many.
    exceeded: u64,
}

impl Quotas {
    pub fn new(rooms_max: u32, messages: Rate, seed: u64) -> Quotas {
        let hasher = Seeded::new(seed);
        Quotas {
            rooms_max,
            messages,
            user_of: Vec::new(),
            users: Vec::new(),
            members: HashMap::with_hasher(hasher),
            gone: Gone { until: HashMap::with_hasher(hasher), order: BTreeSet::new() },
            exceeded: 0,
        }
    }

    /// Whether there is anything to keep.
    pub fn are_kept(&self) -> bool {
        self.rooms_max > 0 || self.messages.is_limited()
    }

    /// The connection, which is in these rooms, is this user's; or is so still. The user is told by its index and by the hash of its name.
    pub fn begin(&mut self, slot: u32, (user, name): (u32, u64), rooms: impl Iterator<Item = u32>, now: Time) {
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
        if self.users[user as usize].connections == 0 {
            let left_us = self.gone.take(name).map_or(0, |until| until.since(now).as_micros() as u64);
            let debt = self.messages.per_second.saturating_mul(left_us);
            self.users[user as usize] = Usage { name, connections: 0, rooms: 0, debt, at: now };
            self.gone.sweep(now);
        }
        self.users[user as usize].connections += 1;
        for room in rooms {
            self.join(slot, room);
        }
    }

    /// The connection, which has left its rooms, is nobody's any more.
    pub fn end(&mut self, slot: u32, now: Time) {
        let Some(user) = self.user(slot) else { return };
        self.user_of[slot as usize] = NONE;
        let usage = &mut self.users[user as usize];
        usage.connections -= 1;
        if usage.connections == 0 {
            usage.drain(self.messages, now);
            let Usage { name, debt, .. } = *usage;
            if debt > 0 {
                self.gone.insert(name, now + Duration::from_micros(debt.div_ceil(self.messages.per_second)));
            }
            self.gone.sweep(now);
        }
    }

    /// Whether the connection's user may send one message more.
    pub fn admits_message(&mut self, slot: u32, now: Time) -> bool {
        if !self.messages.is_limited() {
            return true;
        }
        let Some(user) = self.user(slot) else { return true };
        let usage = &mut self.users[user as usize];
        usage.drain(self.messages, now);
        let is_admitted = self.messages.charged(usage.debt, 1).is_some();
        self.exceeded += u64::from(!is_admitted);
        is_admitted
    }

    /// The connection has sent a message, which [`Quotas::admits_message`] has admitted.
    pub fn charge_message(&mut self, slot: u32) {
        if self.messages.is_limited()
            && let Some(user) = self.user(slot)
        {
            let usage = &mut self.users[user as usize];
            usage.debt = self.messages.charged(usage.debt, 1).unwrap_or(usage.debt);
        }
    }

    /// How many messages were not admitted.
    pub fn exceeded(&self) -> u64 {
        self.exceeded
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
        let mut found = Quotas::new(self.rooms_max, self.messages, 0);
        for slot in slots.slots() {
            let user = user_of(slot).filter(|_| self.are_kept());
            assert_eq!(self.user(slot), user, "whose slot {slot} is");
            if let Some(user) = user {
                found.begin(slot, (user, 0), rooms_of(slot).into_iter(), Time::ZERO);
            }
        }
        assert_eq!(self.members, found.members, "the rooms of users");
        assert_eq!(self.gone.until.len(), self.gone.order.len(), "who has gone is forgotten in time");
        for (user, usage) in self.users.iter().enumerate() {
            let found = found.users.get(user).copied().unwrap_or_default();
            assert_eq!((usage.connections, usage.rooms), (found.connections, found.rooms), "what user {user} has");
        }
    }

    /// Panics if anything is left of a connection.
    pub fn check_idle(&self) {
        assert!(self.members.is_empty(), "a user is in a room");
        assert!(self.users.iter().all(|usage| (usage.connections, usage.rooms) == (0, 0)), "a user is left");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_room_counts_once_however_many_connections_of_the_user_are_in_it() {
        let mut quotas = Quotas::new(2, Rate::NONE, 0);
        quotas.begin(0, (7, 7), [1].into_iter(), Time::ZERO);
        quotas.begin(3, (7, 7), [].into_iter(), Time::ZERO);
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
        let mut quotas = Quotas::new(1, Rate::NONE, 0);
        quotas.begin(0, (0, 0), [5].into_iter(), Time::ZERO);
        quotas.begin(0, (0, 0), [5].into_iter(), Time::ZERO);
        quotas.leave(0, 5);
        quotas.end(0, Time::ZERO);
        quotas.end(0, Time::ZERO);
        quotas.check_idle();
    }

    #[test]
    fn without_a_limit_nothing_is_kept() {
        let mut quotas = Quotas::new(0, Rate::NONE, 0);
        assert!(!quotas.are_kept() && quotas.has_place(0, 0));
        quotas.join(0, 1);
        quotas.leave(0, 1);
        quotas.end(0, Time::ZERO);
        quotas.check_idle();
    }

    const RATE: Rate = Rate { per_second: 10, burst: 3 };

    fn send(quotas: &mut Quotas, slot: u32, now: Time) -> bool {
        let is_admitted = quotas.admits_message(slot, now);
        if is_admitted {
            quotas.charge_message(slot);
        }
        is_admitted
    }

    /// How many of twenty messages at once are admitted.
    fn burst(quotas: &mut Quotas, slot: u32, now: Time) -> usize {
        (0..20).filter(|_| send(quotas, slot, now)).count()
    }

    fn come(quotas: &mut Quotas, slot: u32, user: u32, now: Time) {
        quotas.begin(slot, (user, u64::from(user)), [].into_iter(), now);
    }

    #[test]
    fn the_connections_of_a_user_share_its_burst_and_its_rate() {
        let (mut quotas, at) = (Quotas::new(0, RATE, 0), Time::from_millis);
        for (slot, user) in [(0, 0), (1, 0), (2, 1)] {
            come(&mut quotas, slot, user, at(0));
        }
        assert_eq!([0, 1, 2, 3].map(|slot| burst(&mut quotas, slot, at(0))), [3, 0, 3, 20]);
        assert_eq!((burst(&mut quotas, 1, at(99)), burst(&mut quotas, 1, at(100))), (0, 1));
        assert_eq!((burst(&mut quotas, 0, at(60_000)), quotas.exceeded()), (3, 17 + 20 + 17 + 20 + 19 + 17));
        // What is admitted and not sent is not charged.
        assert!(quotas.admits_message(2, at(60_000)) && burst(&mut quotas, 2, at(60_000)) == 3);
    }

    #[test]
    fn whoever_comes_back_owes_what_it_owed() {
        let (mut quotas, at) = (Quotas::new(0, RATE, 0), Time::from_millis);
        come(&mut quotas, 0, 0, at(0));
        assert_eq!(burst(&mut quotas, 0, at(0)), 3);
        quotas.end(0, at(50));
        // Another user may have its index meanwhile, and it another.
        quotas.begin(0, (0, 9), [].into_iter(), at(50));
        assert_eq!(burst(&mut quotas, 0, at(50)), 3);
        quotas.begin(1, (1, 0), [].into_iter(), at(60));
        assert_eq!([(1, 99), (1, 101), (1, 299)].map(|(slot, ms)| burst(&mut quotas, slot, at(ms))), [0, 1, 1]);
        quotas.end(1, at(300));
        quotas.begin(1, (1, 0), [].into_iter(), at(60_000));
        assert_eq!(burst(&mut quotas, 1, at(60_000)), 3);
    }

    #[test]
    fn users_that_came_once_do_not_stay() {
        let mut quotas = Quotas::new(0, RATE, 0);
        for name in 0..10_000 {
            let now = Time::from_millis(name);
            quotas.begin(0, (0, name), [].into_iter(), now);
            assert_eq!(burst(&mut quotas, 0, now), 3);
            quotas.end(0, now);
        }
        // They owe for 300 ms, in which 300 come.
        assert!(quotas.gone.until.len() <= 301, "{} are kept", quotas.gone.until.len());
    }

    proptest! {
        #[test]
        fn messages_are_admitted_as_by_the_textbook(steps in prop::collection::vec((0..3u32, 0..150_000u64), 1..200)) {
            let mut quotas = Quotas::new(0, RATE, 0);
            (0..3).for_each(|slot| come(&mut quotas, slot, 0, Time::ZERO));
            // The bucket, in millionths.
            let (full, mut now, mut tokens) = (RATE.burst * 1_000_000, 0, RATE.burst * 1_000_000);
            for (slot, pause) in steps {
                now += pause;
                tokens = (tokens + pause * RATE.per_second).min(full);
                let expected = tokens >= 1_000_000;
                tokens -= if expected { 1_000_000 } else { 0 };
                prop_assert_eq!(send(&mut quotas, slot, Time::from_micros(now)), expected);
            }
        }

        #[test]
        fn counts_are_those_of_plain_sets(steps in prop::collection::vec((0..4u32, 0..3u32, 0..5u32), 1..100)) {
            let mut quotas = Quotas::new(2, Rate::NONE, 7);
            let mut conns: [Option<(u32, BTreeSet<u32>)>; 4] = Default::default();
            for (slot, user, room) in steps {
                match &mut conns[slot as usize] {
                    None => {
                        quotas.begin(slot, (user, u64::from(user)), [room].into_iter(), Time::ZERO);
                        conns[slot as usize] = Some((user, [room].into()));
                    }
                    Some((_, rooms)) if room == 0 => {
                        rooms.iter().for_each(|room| quotas.leave(slot, *room));
                        quotas.end(slot, Time::ZERO);
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
