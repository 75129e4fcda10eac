//! How many connections a user has on all instances, where that is limited: each instance tells the broker of its own as if they were
//! members of a room of the user's alone. The answer says how many there are by then. If they are too many, those that came by this
//! instance and that the broker has just heard of have to go.

use super::members::Key;
use crate::hash::Seeded;
use crate::slots::Slots;
use hashbrown::HashMap;

/// A connection of which the broker has yet to say that it is not one too many.
#[derive(Clone, Copy, Debug)]
struct Newcomer {
    slot: u32,
    /// What has been told and not been answered counts it.
    is_told: bool,
}

/// Those who have come, and those who have to go.
#[derive(Debug)]
pub(super) struct Crowds {
    connections_max: u32,
    newcomers: HashMap<Key, Vec<Newcomer>, Seeded>,
    excess: Vec<u32>,
}

impl Crowds {
    pub fn new(connections_max: u32, seed: u64) -> Crowds {
        Crowds { connections_max, newcomers: HashMap::with_hasher(Seeded::new(seed)), excess: Vec::new() }
    }

    /// Whether there is a limit.
    pub fn are_limited(&self) -> bool {
        self.connections_max > 0
    }

    /// A connection has come.
    pub fn come(&mut self, key: Key, slot: u32) {
        self.newcomers.entry(key).or_default().push(Newcomer { slot, is_told: false });
    }

    /// One has gone.
    pub fn go(&mut self, key: Key, slot: u32) {
        if let Some(newcomers) = self.newcomers.get_mut(&key) {
            newcomers.retain(|newcomer| newcomer.slot != slot);
            if newcomers.is_empty() {
                self.newcomers.remove(&key);
            }
        }
        self.excess.retain(|one| *one != slot);
    }

    /// The broker is told of all there are.
    pub fn told(&mut self, key: Key) {
        for newcomer in self.newcomers.get_mut(&key).into_iter().flatten() {
            newcomer.is_told = true;
        }
    }

    /// So many there are on all instances.
    pub fn counted(&mut self, key: Key, connections: u32) {
        let Some(newcomers) = self.newcomers.get_mut(&key) else { return };
        let mut excess = connections.saturating_sub(self.connections_max);
        // The last that came is the first to go.
        for newcomer in newcomers.iter().rev().filter(|newcomer| newcomer.is_told) {
            if excess > 0 {
                self.excess.push(newcomer.slot);
                excess -= 1;
            }
        }
        newcomers.retain(|newcomer| !newcomer.is_told);
        if newcomers.is_empty() {
            self.newcomers.remove(&key);
        }
    }

    /// Whether any has to go.
    pub fn has_excess(&self) -> bool {
        !self.excess.is_empty()
    }

    /// Takes those who have to go.
    pub fn take_excess(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.excess)
    }

    /// Panics unless each is a connection.
    pub fn check_invariants(&self, slots: &Slots) {
        assert!(self.excess.is_empty(), "who has to go goes at once");
        for newcomer in self.newcomers.values().flatten() {
            slots.get(newcomer.slot);
        }
    }

    /// Panics if anybody is left.
    pub fn check_idle(&self) {
        assert!(self.newcomers.is_empty() && self.excess.is_empty(), "somebody has come and not gone");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_came_last_have_to_go_and_no_others() {
        let (mut crowds, key) = (Crowds::new(2, 0), (0, 0));
        crowds.come(key, 1);
        crowds.told(key);
        crowds.come(key, 2);
        crowds.come(key, 3);
        crowds.counted(key, 1);
        assert!(!crowds.has_excess(), "the two have yet to be counted");
        crowds.told(key);
        crowds.counted(key, 3);
        assert_eq!(crowds.take_excess(), [3]);
        // Others have come elsewhere: it is they who are too many.
        crowds.counted(key, 9);
        assert!(!crowds.has_excess());
        crowds.come(key, 4);
        crowds.go(key, 4);
        crowds.counted(key, 9);
        crowds.check_idle();
    }
}
