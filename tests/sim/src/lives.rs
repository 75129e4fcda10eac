//! What Redis has stored of the rooms with history: which message stands at which place, how epochs follow each other, and what may be
//! trimmed. The rules are the documentation's, in other words than the code under test has for them.

use crate::reference::Key;
use fanfare_core::history::{Epoch, Position, Removal, Retention};
use std::collections::{BTreeMap, BTreeSet};

/// How many ended epochs of a room are known, at most. Who comes back from an earlier one has lost everything.
const ENDED_KNOWN: usize = 16;

/// A message that was stored, or a removal.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Which message; none if it is a removal.
    pub key: Option<Key>,
    /// What it removes.
    pub removes: Option<Removal>,
    /// Of its payload.
    pub bytes: u64,
    /// When, by Redis's clock.
    pub time_ms: u64,
}

/// How an epoch began, and how far it came.
#[derive(Clone, Copy, Debug)]
struct Life {
    /// The place at which the one before ended, if it went on from one.
    parent: Option<Position>,
    last: u64,
}

#[derive(Debug)]
struct Room {
    retention: Retention,
    /// What is stored is acknowledged when the replica has it.
    waits: bool,
    entries: BTreeMap<Position, Entry>,
    lives: BTreeMap<Epoch, Life>,
    places: BTreeMap<Key, Position>,
    /// Offsets at which a removal stands in any epoch.
    removals: BTreeSet<u64>,
    /// As of the last script that ran.
    epoch: Option<Epoch>,
    /// The same on each server.
    epochs: BTreeMap<usize, Epoch>,
    /// How many messages of each epoch its replica has had.
    replicated: BTreeMap<Epoch, u64>,
}

/// All rooms.
#[derive(Debug)]
pub struct Lives {
    rooms: Vec<Option<Room>>,
    /// Redis's clock when the last script ran.
    now_ms: u64,
}

impl Lives {
    /// Nothing is stored. Where a room has no retention, nothing ever is.
    pub fn new(kept: &[Option<Retention>], waits: &[bool]) -> Lives {
        let room = |(retention, waits): (&Option<Retention>, &bool)| {
            retention.map(|retention| Room {
                retention,
                waits: *waits,
                entries: BTreeMap::new(),
                lives: BTreeMap::new(),
                places: BTreeMap::new(),
                removals: BTreeSet::new(),
                epoch: None,
                epochs: BTreeMap::new(),
                replicated: BTreeMap::new(),
            })
        };
        Lives { rooms: kept.iter().zip(waits).map(room).collect(), now_ms: 0 }
    }

    /// Whether the room has a history.
    pub fn keeps(&self, room: usize) -> bool {
        self.rooms[room].is_some()
    }

    /// Whether what is stored in the room is acknowledged when the replica has it.
    pub fn waits(&self, room: usize) -> bool {
        self.rooms[room].as_ref().is_some_and(|room| room.waits)
    }

    /// How much it keeps.
    pub fn retention(&self, room: usize) -> Option<Retention> {
        Some(self.rooms[room].as_ref()?.retention)
    }

    fn room(&self, room: usize) -> &Room {
        self.rooms[room].as_ref().expect("asked of rooms with history")
    }

    /// A script has run, before which the room was at one place, and behind which at another.
    ///
    /// # Errors
    /// If the room has none.
    pub fn ran(
        &mut self,
        room: usize,
        (server, before): (usize, Option<Position>),
        after: Position,
        now_ms: u64,
    ) -> Result<(), String> {
        let room = self.rooms[room].as_mut().ok_or("a script runs for a room without history")?;
        let life = Life { parent: before, last: before.map_or(0, |before| before.offset) };
        room.lives.entry(after.epoch).or_insert(life);
        room.epochs.insert(server, after.epoch);
        (room.epoch, self.now_ms) = (Some(after.epoch), now_ms);
        Ok(())
    }

    /// A message is stored.
    pub fn stored(&mut self, room: usize, place: Position, entry: Entry) {
        let room = self.rooms[room].as_mut().expect("its script has run");
        assert!(room.entries.insert(place, entry).is_none(), "a place is taken once");
        match entry.key {
            Some(key) => drop(room.places.insert(key, place)),
            None => drop(room.removals.insert(place.offset)),
        }
        room.lives.get_mut(&place.epoch).expect("its epoch has begun").last = place.offset;
    }

    /// The replica of a server has all rooms up to these places.
    pub fn replicated(&mut self, places: impl Iterator<Item = (usize, Position)>) {
        for (room, place) in places {
            let Some(room) = &mut self.rooms[room] else { continue };
            // Also what epochs before this one have left to it.
            let mut next = Some((place.epoch, place.offset));
            while let Some((epoch, last)) = next {
                let most = room.replicated.entry(epoch).or_default();
                *most = last.max(*most);
                next = room.lives[&epoch].parent.map(|parent| (parent.epoch, parent.offset.min(last)));
            }
        }
    }

    /// Whether the replica has had the message at this place.
    pub fn is_replicated(&self, room: usize, place: Position) -> bool {
        self.room(room).replicated.get(&place.epoch).is_some_and(|last| *last >= place.offset)
    }

    /// Where a message is stored.
    pub fn place(&self, room: usize, key: Key) -> Option<Position> {
        self.room(room).places.get(&key).copied()
    }

    /// What stands at this place: stored in this epoch, or in one that it went on from.
    pub fn entry(&self, room: usize, mut place: Position) -> Option<&Entry> {
        let room = self.room(room);
        loop {
            if let Some(entry) = room.entries.get(&place) {
                return Some(entry);
            }
            let parent = room.lives.get(&place.epoch)?.parent?;
            if place.offset > parent.offset {
                return None;
            }
            place.epoch = parent.epoch;
        }
    }

    /// Whether what stands at this place is removed by what stands behind it in its epoch, up to an offset.
    pub fn is_removed(&self, room: usize, place: Position, until: u64) -> bool {
        let mut behind = self.room(room).removals.range(place.offset + 1..).take_while(|at| **at <= until);
        behind.any(|at| self.is_removed_at(room, place, *at))
    }

    /// Whether it is removed by what stands at this offset of its epoch.
    pub fn is_removed_at(&self, room: usize, place: Position, at: u64) -> bool {
        let removal = self.entry(room, Position { offset: at, ..place }).and_then(|entry| entry.removes);
        removal.is_some_and(|removal| removal.covers(at, place.offset))
    }

    /// The last message of an epoch up to this offset that is not removed; 0 if there is none.
    pub fn unremoved(&self, room: usize, epoch: Epoch, mut offset: u64) -> u64 {
        while offset > 0 && self.is_removed(room, Position { epoch, offset }, u64::MAX) {
            offset -= 1;
        }
        offset
    }

    /// Up to where the epoch `to` goes on from `from`, as servers know it; `None` where nothing is known of that.
    pub fn fence(&self, room: usize, from: Epoch, to: Epoch) -> Option<u64> {
        self.common(room, (from, to), ENDED_KNOWN)
    }

    /// Up to where the epoch `to` goes on from `from`, through at most so many others.
    pub fn common(&self, room: usize, (from, to): (Epoch, Epoch), epochs_max: usize) -> Option<u64> {
        let (mut epoch, mut fence, mut epochs) = (to, u64::MAX, 0);
        while epoch != from && epochs < epochs_max {
            let parent = self.room(room).lives.get(&epoch)?.parent?;
            (epoch, fence, epochs) = (parent.epoch, fence.min(parent.offset), epochs + 1);
        }
        (epoch == from).then_some(fence)
    }

    /// The last offset of an epoch so far.
    pub fn last_of(&self, room: usize, epoch: Epoch) -> Option<u64> {
        Some(self.room(room).lives.get(&epoch)?.last)
    }

    /// The room's last message; `None` before anybody has asked for it.
    pub fn last(&self, room: usize) -> Option<Position> {
        let epoch = self.room(room).epoch?;
        Some(Position { epoch, offset: self.last_of(room, epoch)? })
    }

    /// Whether the room is in another epoch than this, on a server on which a script has run.
    pub fn is_elsewhere(&self, room: usize, epoch: Epoch) -> bool {
        self.room(room).epochs.values().any(|of| *of != epoch)
    }

    /// How many epochs the room has had.
    pub fn epochs(&self, room: usize) -> usize {
        self.room(room).lives.len()
    }

    /// Whether the message at this place, and so all before it, is kept no more.
    pub fn is_trimmed(&self, room: usize, place: Position) -> bool {
        let Some(last) = self.last_of(room, place.epoch) else { return false };
        let Some(entry) = self.entry(room, place) else { return false };
        let Room { retention, .. } = self.room(room);
        let newer = || (place.offset..=last).filter_map(|offset| self.entry(room, Position { offset, ..place }));
        let is_too_much = last - place.offset >= u64::from(retention.messages_max)
            || place.offset < last && newer().map(|entry| entry.bytes).sum::<u64>() > retention.bytes_max;
        is_too_much || entry.time_ms + retention.age_max.as_millis() as u64 <= self.now_ms
    }

    /// The offset of the oldest message of an epoch that is kept; of the next one where none is.
    pub fn first(&self, room: usize, epoch: Epoch) -> u64 {
        let last = self.last_of(room, epoch).unwrap_or(0);
        let (mut low, mut high) = (1, last + 1);
        while low < high {
            let offset = low + (high - low) / 2;
            match self.is_trimmed(room, Position { epoch, offset }) {
                true => low = offset + 1,
                false => high = offset,
            }
        }
        low
    }
}
