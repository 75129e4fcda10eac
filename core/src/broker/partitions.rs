//! Into which partition a room falls where a broker has several parts, and sets of partitions.

use crate::presence::room_of;

/// CRC16 by the polynomial 0x1021, from 0 on, nothing reflected (Redis Cluster specification, appendix A).
const CRC16: [u16; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = (byte as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x1021 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

pub(super) fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| crc << 8 ^ CRC16[usize::from((crc >> 8) as u8 ^ byte)])
}

/// The partition of a room, of so many: the CRC16 of its name modulo their number. What changes in its presence is in the same one.
///
/// ```
/// # use fanfare_core::broker::partition_of;
/// assert_eq!(partition_of("lobby", 256), partition_of("lobby", 512) % 256);
/// ```
///
/// # Panics
///
/// If there are none.
pub fn partition_of(room: &str, partitions: u16) -> u16 {
    crc16(room_of(room).unwrap_or(room).as_bytes()) % partitions
}

/// Some of a broker's partitions.
///
/// ```
/// # use fanfare_core::broker::{Partitions, partition_of};
/// let mut partitions = Partitions::none_of(256);
/// assert!(partitions.is_empty() && !partitions.has_room("lobby"));
/// partitions.insert(partition_of("lobby", 256));
/// assert!(partitions.has_room("lobby"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partitions {
    has: Box<[bool]>,
}

impl Partitions {
    /// None, of so many.
    pub fn none_of(partitions: u16) -> Partitions {
        Partitions { has: vec![false; usize::from(partitions)].into() }
    }

    /// Adds one.
    ///
    /// # Panics
    ///
    /// If it is none of them.
    pub fn insert(&mut self, partition: u16) {
        self.has[usize::from(partition)] = true;
    }

    /// Takes one out. Says whether it was in.
    pub fn remove(&mut self, partition: u16) -> bool {
        self.has.get_mut(usize::from(partition)).is_some_and(std::mem::take)
    }

    /// Whether this is one.
    pub fn contains(&self, partition: u16) -> bool {
        self.has.get(usize::from(partition)) == Some(&true)
    }

    /// Whether the room of this name is in one.
    pub fn has_room(&self, room: &str) -> bool {
        self.contains(partition_of(room, self.has.len() as u16))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        !self.has.contains(&true)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = u16> + '_ {
        self.has.iter().enumerate().filter(|(_, has)| **has).map(|(partition, _)| partition as u16)
    }
}
