//! This instance's own members of rooms with presence: how many connections of which user, and what the broker has been told of that.

use crate::hash::Seeded;
use crate::shared::Shared;
use crate::time::Time;
use hashbrown::HashTable;
use std::collections::VecDeque;
use std::hash::BuildHasher;
use std::time::Duration;

/// Nobody.
const NONE: u32 = u32::MAX;
/// Nobody knows what the broker knows.
const UNKNOWN: u32 = u32::MAX;
/// Users whose last connection has gone for long enough that are looked at in one turn; the next turns do the rest at once.
const LINGERING_BATCH: usize = 512;

/// A user in a room, both by number.
pub(super) type Key = (u32, u32);

#[derive(Debug)]
struct User {
    name: Box<str>,
    /// Of the credential that came last: a JSON value, or nothing.
    info: Box<str>,
    /// Counts changes of that.
    edition: u32,
}

/// A user who is in a room by this instance, or was a moment ago.
#[derive(Debug)]
struct Entry {
    key: Key,
    /// Connections that are members now.
    members: u32,
    /// What the broker has confirmed; [`UNKNOWN`] if nobody knows.
    told: u32,
    /// Of the user's info, as that was told.
    edition: u32,
    /// Until then it is not told that there are fewer.
    lingers_until: Time,
    /// It stands among those that are to be told, or that linger; or it has been told, and the answer has not come.
    is_queued: bool,
    is_lingering: bool,
    is_asked: bool,
}

/// What the broker is to be told next.
#[derive(Debug)]
pub(super) struct Tell<'a> {
    pub key: Key,
    pub room: &'a str,
    pub user: &'a str,
    pub info: &'a str,
    pub connections: u32,
    /// Of the info.
    pub edition: u32,
}

/// All of them.
#[derive(Debug)]
pub(super) struct Members {
    users: Shared<User>,
    rooms: Shared<Box<str>>,
    /// Whose connection it is, by slot; it ends with the last slot that has ever been known.
    of_slots: Vec<u32>,
    entries: HashTable<Entry>,
    hasher: Seeded,
    to_tell: VecDeque<Key>,
    /// In the order in which that was noticed, with the time until when. One that has had a member in between may stand there for longer.
    lingering: VecDeque<(Time, Key)>,
}

impl Members {
    pub fn new(seed: u64) -> Members {
        Members {
            users: Shared::new(seed),
            rooms: Shared::new(seed),
            of_slots: Vec::new(),
            entries: HashTable::new(),
            hasher: Seeded::new(seed),
            to_tell: VecDeque::new(),
            lingering: VecDeque::new(),
        }
    }

    /// It is known whose connection this is. Returns whether it was not before.
    pub fn identify(&mut self, slot: u32, name: &str, info: &str) -> bool {
        if let Some(user) = self.user_of(slot) {
            self.inform(user, info);
            return false;
        }
        let make = || User { name: name.into(), info: info.into(), edition: 0 };
        let user = self.users.take(name, |user| *user.name == *name, make);
        self.inform(user, info);
        if self.of_slots.len() <= slot as usize {
            self.of_slots.resize(slot as usize + 1, NONE);
        }
        self.of_slots[slot as usize] = user;
        true
    }

    fn inform(&mut self, user: u32, info: &str) {
        let user = self.users.get_mut(user);
        if *user.info != *info {
            user.info = info.into();
            user.edition = user.edition.wrapping_add(1);
        }
    }

    /// Nothing is known of the connection any more. It must be in no room.
    pub fn forget(&mut self, slot: u32) {
        if let Some(user) = self.user_of(slot) {
            self.of_slots[slot as usize] = NONE;
            self.users.give_back(user);
        }
    }

    fn user_of(&self, slot: u32) -> Option<u32> {
        self.of_slots.get(slot as usize).copied().filter(|user| *user != NONE)
    }

    /// The user's name, if it is known whose connection this is.
    pub fn name_of(&self, slot: u32) -> Option<&str> {
        self.user_of(slot).map(|user| &*self.users.get(user).name)
    }

    /// A connection has become a member of the room. Nothing where nobody knows whose it is.
    pub fn join(&mut self, slot: u32, room: &str, now: Time) -> Option<Key> {
        let user = self.user_of(slot)?;
        let room = self.rooms.take(room, |name| **name == *room, || room.into());
        let key = (room, user);
        match self.find(key) {
            Some(entry) => {
                entry.members += 1;
                self.rooms.give_back(room);
            }
            None => {
                self.users.share(user);
                let edition = self.users.get(user).edition;
                let entry = Entry {
                    key,
                    members: 1,
                    told: 0,
                    edition,
                    lingers_until: Time::ZERO,
                    is_queued: false,
                    is_lingering: false,
                    is_asked: false,
                };
                let Members { entries, hasher, .. } = self;
                entries.insert_unique(hasher.hash_one(key), entry, |entry| hasher.hash_one(entry.key));
            }
        }
        self.settle(key, now);
        Some(key)
    }

    /// A member has left the room; that is told when it has lingered for so long.
    pub fn leave(&mut self, slot: u32, room: &str, now: Time, linger: Duration) -> Option<Key> {
        let key = (self.rooms.find(room, |name| **name == *room)?, self.user_of(slot)?);
        let entry = self.find(key)?;
        entry.members -= 1;
        entry.lingers_until = now + linger;
        self.settle(key, now);
        Some(key)
    }

    /// The user's info may be another one now: the broker is told of it, if it is there.
    pub fn look_again(&mut self, slot: u32, room: &str, now: Time) {
        if let Some(user) = self.user_of(slot)
            && let Some(room) = self.rooms.find(room, |name| **name == *room)
        {
            self.settle((room, user), now);
        }
    }

    fn find(&mut self, key: Key) -> Option<&mut Entry> {
        let hash = self.hasher.hash_one(key);
        self.entries.find_mut(hash, |entry| entry.key == key)
    }

    /// Queues what is to be told of the entry, and forgets it if nothing is.
    fn settle(&mut self, key: Key, now: Time) {
        let edition = self.users.get(key.1).edition;
        let Some(entry) = self.find(key) else { return };
        // When the answer comes, it is looked at again.
        if entry.is_queued || entry.is_asked {
            return;
        }
        if entry.due(now) != entry.told || entry.has_news(edition) {
            entry.is_queued = true;
            self.to_tell.push_back(key);
        } else if entry.members < entry.told {
            let until = entry.lingers_until;
            if !std::mem::replace(&mut entry.is_lingering, true) {
                self.lingering.push_back((until, key));
            }
        } else if entry.members == 0 {
            self.remove(key);
        }
    }

    fn remove(&mut self, key: Key) {
        let hash = self.hasher.hash_one(key);
        if let Ok(entry) = self.entries.find_entry(hash, |entry| entry.key == key) {
            entry.remove();
            self.rooms.give_back(key.0);
            self.users.give_back(key.1);
        }
    }

    /// Time has passed.
    pub fn timeout(&mut self, now: Time) {
        for _ in 0..self.lingering.len().min(LINGERING_BATCH) {
            let Some((_, key)) = self.lingering.front().copied().filter(|(until, _)| *until <= now) else { return };
            self.lingering.pop_front();
            if let Some(entry) = self.find(key) {
                entry.is_lingering = false;
                self.settle(key, now);
            }
        }
    }

    /// When it has something to do at the latest, beside what is to be told.
    pub fn next_timeout(&self) -> Option<Time> {
        self.lingering.front().map(|(until, _)| *until)
    }

    /// Whether the broker has to be told anything.
    pub fn has_news(&self) -> bool {
        !self.to_tell.is_empty()
    }

    /// What the broker is told next. It is outstanding from now on.
    pub fn next(&mut self, now: Time) -> Option<Tell<'_>> {
        while let Some(key) = self.to_tell.pop_front() {
            let Some(entry) = self.find(key).filter(|entry| entry.is_queued) else { continue };
            entry.is_queued = false;
            let connections = entry.due(now);
            let edition = self.users.get(key.1).edition;
            let entry = self.find(key)?;
            if connections == entry.told && !entry.has_news(edition) {
                // It has come to what was told while it stood in line.
                self.settle(key, now);
                continue;
            }
            entry.is_asked = true;
            let User { name, info, edition } = self.users.get(key.1);
            return Some(Tell { key, room: self.rooms.get(key.0), user: name, info, connections, edition: *edition });
        }
        None
    }

    /// The broker has confirmed what it was told.
    pub fn kept(&mut self, key: Key, (connections, edition): (u32, u32), now: Time) {
        if let Some(entry) = self.find(key) {
            (entry.is_asked, entry.told, entry.edition) = (false, connections, edition);
            self.settle(key, now);
        }
    }

    /// Nobody knows whether the broker has taken what it was told.
    pub fn not_kept(&mut self, key: Key, now: Time) {
        if let Some(entry) = self.find(key) {
            (entry.is_asked, entry.told) = (false, UNKNOWN);
            self.settle(key, now);
        }
    }

    /// The broker knows nothing any more, and nothing is outstanding.
    pub fn lost(&mut self, now: Time) {
        let keys: Vec<Key> = self.entries.iter().map(|entry| entry.key).collect();
        for key in keys {
            let entry = self.find(key).expect("listed above");
            (entry.is_asked, entry.told) = (false, 0);
            self.settle(key, now);
        }
    }

    /// How many users there are in rooms, each as often as it is in one.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Panics unless its parts agree with each other. `members` tells how many members of a room are a user's.
    pub fn check_invariants(&self, members: impl Fn(&str, &dyn Fn(u32) -> bool) -> u32) {
        for entry in &self.entries {
            let (room, user) = entry.key;
            let counted = members(self.rooms.get(room), &|slot| self.user_of(slot) == Some(user));
            assert_eq!(entry.members, counted, "{} in {}", self.users.get(user).name, self.rooms.get(room));
            let is_settled = entry.members == entry.told && entry.members > 0;
            assert!(
                is_settled || entry.is_queued || entry.is_asked || entry.is_lingering,
                "{entry:?} is looked at again"
            );
        }
        let queued = self.entries.iter().filter(|entry| entry.is_queued).count();
        assert!(queued <= self.to_tell.len());
    }

    /// Panics if anything is left of a connection.
    pub fn check_idle(&self) {
        assert!(self.of_slots.iter().all(|user| *user == NONE), "somebody is known");
        assert!(self.entries.iter().all(|entry| entry.members == 0), "a member is left");
    }
}

impl Entry {
    /// How many connections the broker should know of now.
    fn due(&self, now: Time) -> u32 {
        // Whoever is there is told of at once where nobody knows what the broker knows.
        let is_known = self.told != UNKNOWN || self.members == 0;
        match self.members < self.told && now < self.lingers_until && is_known {
            true => self.told,
            false => self.members,
        }
    }

    /// Whether the broker knows another info than this edition of it.
    fn has_news(&self, edition: u32) -> bool {
        self.members > 0 && self.edition != edition
    }
}
