//! The name of a connection.

use std::fmt;

/// A connection: its slot and the slot's generation. An id outlives its connection harmlessly: a later connection in the
/// same slot has another generation, so a stale id is recognised and never taken for someone else.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(u64);

impl ConnId {
    /// An id from its parts.
    pub const fn new(slot: u32, generation: u32) -> ConnId {
        ConnId((generation as u64) << 32 | slot as u64)
    }

    /// The id as one number, for a poll token or a map.
    pub const fn to_bits(self) -> u64 {
        self.0
    }

    /// The inverse of [`ConnId::to_bits`].
    pub const fn from_bits(bits: u64) -> ConnId {
        ConnId(bits)
    }

    /// A dense index: below the highest number of connections that were ever open at once.
    pub const fn slot(self) -> usize {
        (self.0 & 0xffff_ffff) as usize
    }

    /// How many connections had this slot before.
    pub const fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

impl fmt::Debug for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.slot(), self.generation())
    }
}
