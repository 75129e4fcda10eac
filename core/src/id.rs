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

    /// A name that no other connection of any core has: 16 hexadecimal digits of [`Config::node`](crate::Config::node), which is drawn for
    /// each core, slot and generation, `-` between them.
    pub fn public(self, node: u64) -> String {
        format!("{node:016x}-{:x}-{:x}", self.slot(), self.generation())
    }

    /// The inverse of [`ConnId::public`]: the node, and the connection there. `None` where that is no such name.
    pub fn parse_public(name: &str) -> Option<(u64, ConnId)> {
        let mut parts = name.split('-');
        let node = parts.next().filter(|digits| digits.len() == 16)?;
        let (slot, generation) = (parts.next()?, parts.next()?);
        let hex = |digits: &str| u32::from_str_radix(digits, 16).ok().filter(|_| !digits.starts_with('+'));
        let node = u64::from_str_radix(node, 16).ok().filter(|_| !node.starts_with('+'))?;
        parts.next().is_none().then_some((node, ConnId::new(hex(slot)?, hex(generation)?)))
    }
}

impl fmt::Debug for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.slot(), self.generation())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_name_is_read_as_it_was_written() {
        let conn = ConnId::new(0x1f, 3);
        assert_eq!(conn.public(0xab), "00000000000000ab-1f-3");
        assert_eq!(ConnId::parse_public(&conn.public(u64::MAX)), Some((u64::MAX, conn)));
        for wrong in [
            "",
            "ab-1f-3",
            "00000000000000ab-1f",
            "00000000000000ab-1f-3-4",
            "00000000000000ab-+1-3",
            "00000000000000ab-g-3",
        ] {
            assert_eq!(ConnId::parse_public(wrong), None, "{wrong}");
        }
    }
}
