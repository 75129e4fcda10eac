//! Values that several connections, or others, have: kept once, by a number.

use crate::hash::Seeded;
use hashbrown::HashTable;
use slab::Slab;
use std::hash::{BuildHasher, Hash};

/// Values that several others have, each kept once and counted.
#[derive(Debug)]
pub(crate) struct Shared<T> {
    slab: Slab<Held<T>>,
    table: HashTable<u32>,
    hasher: Seeded,
}

#[derive(Debug)]
struct Held<T> {
    value: T,
    /// Of what tells it from the others.
    hash: u64,
    /// How many have it.
    count: u32,
}

impl<T> Shared<T> {
    /// None yet.
    pub fn new(seed: u64) -> Shared<T> {
        Shared { slab: Slab::new(), table: HashTable::new(), hasher: Seeded::new(seed) }
    }

    /// How many values there are.
    pub fn len(&self) -> usize {
        self.slab.len()
    }

    /// A value.
    pub fn get(&self, index: u32) -> &T {
        &self.slab[index as usize].value
    }

    /// The value that this key tells from the others, for one more.
    pub fn take(&mut self, key: &(impl Hash + ?Sized), is_it: impl Fn(&T) -> bool, make: impl FnOnce() -> T) -> u32 {
        let Shared { slab, table, hasher } = self;
        let hash = hasher.hash_one(key);
        if let Some(index) = table.find(hash, |index| is_it(&slab[*index as usize].value)) {
            slab[*index as usize].count += 1;
            return *index;
        }
        let index = slab.insert(Held { value: make(), hash, count: 1 }) as u32;
        table.insert_unique(hash, index, |index| slab[*index as usize].hash);
        index
    }

    /// The value of this key, if anybody has it.
    pub fn find(&self, key: &(impl Hash + ?Sized), is_it: impl Fn(&T) -> bool) -> Option<u32> {
        let found = self.table.find(self.hasher.hash_one(key), |index| is_it(&self.slab[*index as usize].value));
        found.copied()
    }

    /// Of what tells it from the others: the same whenever it is there.
    pub fn hash(&self, index: u32) -> u64 {
        self.slab[index as usize].hash
    }

    /// To change what does not tell it from the others.
    pub fn get_mut(&mut self, index: u32) -> &mut T {
        &mut self.slab[index as usize].value
    }

    /// One more has the value.
    pub fn share(&mut self, index: u32) {
        self.slab[index as usize].count += 1;
    }

    /// How many have the value that this key tells from the others.
    pub fn count(&self, key: &(impl Hash + ?Sized), is_it: impl Fn(&T) -> bool) -> u32 {
        self.find(key, is_it).map_or(0, |index| self.slab[index as usize].count)
    }

    /// One less has the value.
    pub fn give_back(&mut self, index: u32) {
        let held = &mut self.slab[index as usize];
        held.count -= 1;
        if held.count == 0 {
            let hash = held.hash;
            if let Ok(entry) = self.table.find_entry(hash, |other| *other == index) {
                entry.remove();
            }
            self.slab.remove(index as usize);
        }
    }
}
