//! Where event streams about several rooms stand in each of them: what the ids say that they are sent.

use crate::hash::{BySlot, Seeded};
use crate::history::Position;
use hashbrown::HashMap;

/// The positions of those streams, by slot. It is empty unless there are such streams of rooms with history.
#[derive(Debug)]
pub(super) struct Ids {
    positions: BySlot<Vec<(u32, Position)>>,
    /// Slots whose stream has not been told of a position; one may stand there twice.
    changed: Vec<u32>,
}

impl Ids {
    pub fn new(seed: u64) -> Ids {
        Ids { positions: HashMap::with_hasher(Seeded::new(seed)), changed: Vec::new() }
    }

    /// What the stream has been given of the room ends there.
    pub fn note(&mut self, slot: u32, room: u32, position: Position) {
        let positions = self.positions.entry(slot).or_default();
        match positions.iter_mut().find(|(other, _)| *other == room) {
            Some((_, known)) => *known = position,
            None => positions.push((room, position)),
        }
        if self.changed.last() != Some(&slot) {
            self.changed.push(slot);
        }
    }

    /// The stream is not about the room any more.
    pub fn forget(&mut self, slot: u32, room: u32) {
        if self.positions.is_empty() {
            return;
        }
        if let Some(positions) = self.positions.get_mut(&slot) {
            positions.retain(|(other, _)| *other != room);
            if positions.is_empty() {
                self.positions.remove(&slot);
            }
        }
    }

    /// Takes the slots whose streams have to be told where they stand, each once.
    pub fn take_changed(&mut self) -> Vec<u32> {
        let mut changed = std::mem::take(&mut self.changed);
        changed.sort_unstable();
        changed.dedup();
        changed.retain(|slot| self.positions.contains_key(slot));
        changed
    }

    /// Where a stream stands in each of its rooms that keep history.
    pub fn of(&self, slot: u32) -> impl Iterator<Item = (u32, Position)> {
        self.positions.get(&slot).into_iter().flatten().copied()
    }

    /// Whether nothing is kept for anybody.
    pub fn is_empty(&self) -> bool {
        self.positions.is_empty() && self.changed.is_empty()
    }
}
