//! The rooms: their names, and how each stands with the broker. Their members are the fan-out's audiences, under the same keys.

use crate::hidden::is_hidden;
use crate::rules::Rules;
use crate::time::Time;
use hashbrown::HashTable;
use siphasher::sip::SipHasher13;
use slab::Slab;
use std::hash::Hasher;

/// The one outstanding request to the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outstanding {
    Subscribe,
    Unsubscribe,
}

/// In place of the epoch in which a room was held: that of no outage, because it was another one.
pub(crate) const LOST: u32 = 1;

#[derive(Debug)]
pub(crate) struct Room {
    pub name: Box<str>,
    /// The broker epoch in which the broker confirmed the subscription; it is held while that epoch lasts.
    pub held_in: u32,
    /// What was asked, and in which epoch; an ask of an earlier epoch is void.
    pub asked: Option<(Outstanding, u32)>,
    /// Without members, the room is kept until then.
    pub linger_until: Time,
    /// It stands in the queue of lingering rooms.
    pub lingering: bool,
    /// The rule that its name has, if it has one. A hidden room has none.
    pub rule: Option<u16>,
}

impl Room {
    /// Whether it was subscribed, is not any more, and has been asked for again in this epoch.
    pub fn is_asked_again(&self, epoch: u32) -> bool {
        self.asked == Some((Outstanding::Subscribe, epoch)) && self.held_in != 0
    }
}

/// All rooms, by key and by name.
#[derive(Debug)]
pub(crate) struct Rooms {
    slab: Slab<Room>,
    names: HashTable<u32>,
    /// Keyed, for names come from clients.
    hasher: SipHasher13,
}

impl Rooms {
    pub fn new(seed: u64) -> Rooms {
        Rooms { slab: Slab::new(), names: HashTable::new(), hasher: SipHasher13::new_with_keys(seed, !seed) }
    }

    fn hash(&self, name: &str) -> u64 {
        let mut hasher = self.hasher;
        hasher.write(name.as_bytes());
        hasher.finish()
    }

    pub fn find(&self, name: &str) -> Option<u32> {
        self.names.find(self.hash(name), |room| *self.slab[*room as usize].name == *name).copied()
    }

    pub fn find_or_insert(&mut self, name: &str, rules: &Rules) -> u32 {
        if let Some(room) = self.find(name) {
            return room;
        }
        let room = self.slab.insert(Room {
            name: name.into(),
            held_in: 0,
            asked: None,
            linger_until: Time::ZERO,
            lingering: false,
            rule: if is_hidden(name) { None } else { rules.find(name) },
        }) as u32;
        let (slab, hasher) = (&self.slab, self.hasher);
        self.names.insert_unique(self.hash(name), room, |room| {
            let mut hasher = hasher;
            hasher.write(slab[*room as usize].name.as_bytes());
            hasher.finish()
        });
        room
    }

    /// Removes a room, which must have no member.
    pub fn remove(&mut self, room: u32) {
        let hash = self.hash(&self.slab[room as usize].name);
        if let Ok(entry) = self.names.find_entry(hash, |key| *key == room) {
            entry.remove();
        }
        self.slab.remove(room as usize);
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

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Room> {
        self.slab.iter_mut().map(|(_, room)| room)
    }

    pub fn iter(&self) -> impl Iterator<Item = (u32, &Room)> {
        self.slab.iter().map(|(key, room)| (key as u32, room))
    }
}
