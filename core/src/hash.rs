//! Hashing, and tables of what few connections have.

use hashbrown::HashMap;
use siphasher::sip::SipHasher13;
use std::hash::BuildHasher;

/// Keyed hashing without the operating system's randomness.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seeded(u64);

impl Seeded {
    pub fn new(seed: u64) -> Seeded {
        Seeded(seed)
    }
}

impl BuildHasher for Seeded {
    type Hasher = SipHasher13;

    fn build_hasher(&self) -> SipHasher13 {
        SipHasher13::new_with_keys(self.0, !self.0)
    }
}

/// Something of the connections that have it, by slot.
pub(crate) type BySlot<T> = HashMap<u32, T, Seeded>;

/// Takes it from a connection. If no connection has it, which is the rule, nothing is hashed.
pub(crate) fn take_of<T>(of: &mut BySlot<T>, slot: u32) -> Option<T> {
    if of.is_empty() { None } else { of.remove(&slot) }
}
