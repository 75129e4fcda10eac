//! What rooms are called in Redis: their channels and keys, and where these are in a Cluster.
//!
//! A Cluster puts each key, and each channel of sharded Pub/Sub, into one of 16,384 slots, by what stands between its first braces. All that
//! belongs to a room has to be in one slot, and a command names channels of one slot only. So rooms are parted into
//! [`Topology::Cluster`]'s number of *partitions*, and the number of a room's partition stands in braces behind the prefix:
//!
//! | | off a Cluster | in one | in one, with classic Pub/Sub |
//! |---|---|---|---|
//! | channel | `<prefix><room>` | `<prefix>{<partition>}<room>` | `<prefix><room>` |
//! | key | `<prefix>U+0001<kind>:<room>` | `<prefix>{<partition>}U+0001<kind>:<room>` | the same |
//!
//! The partition is the CRC16 of the room's name, as the Redis Cluster specification has it for slots, modulo their number.

use super::{RedisConfig, Topology};
use crate::broker::partitions::{crc16, partition_of};

/// How many slots a Cluster has (Redis Cluster specification, "Key distribution model").
pub(super) const SLOTS: u16 = 16_384;

/// The slot of a Cluster in which a partition's keys and channels are.
///
/// ```
/// # use fanfare_core::broker::redis::slot_of_partition;
/// // As `CLUSTER KEYSLOT {17}` says.
/// assert_eq!(slot_of_partition(17), 12304);
/// ```
pub fn slot_of_partition(partition: u16) -> u16 {
    let mut digits = [0; 5];
    crc16(decimal(partition, &mut digits)) % SLOTS
}

fn decimal(mut number: u16, digits: &mut [u8; 5]) -> &[u8] {
    let mut start = digits.len();
    loop {
        start -= 1;
        // A remainder of ten fits a byte.
        digits[start] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return &digits[start..];
        }
    }
}

/// How messages of rooms are published in a Cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ClusterPubSub {
    /// By `SPUBLISH`, to the master that has the room's slot, and its subscribers alone. Redis 7 and Valkey have it.
    #[default]
    Sharded,
    /// By `PUBLISH`, which each node passes on to all others. Publishers that know nothing of Fanfare use it, and Redis before version 7.
    Classic,
}

/// How rooms are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Names<'a> {
    prefix: &'a str,
    /// In a Cluster: how many there are, and whether channels belong to one as well.
    partitions: Option<(u16, ClusterPubSub)>,
}

impl RedisConfig {
    /// What rooms are called in this Redis.
    pub fn names(&self) -> Names<'_> {
        let partitions = match &self.topology {
            Topology::Cluster { partitions, pubsub, .. } => Some((*partitions, *pubsub)),
            Topology::Single(_) | Topology::Sentinel { .. } => None,
        };
        Names { prefix: &self.prefix, partitions }
    }
}

impl<'a> Names<'a> {
    /// Those off a Cluster.
    pub const fn plain(prefix: &'a str) -> Names<'a> {
        Names { prefix, partitions: None }
    }

    /// Those in a Cluster.
    pub const fn in_cluster(prefix: &'a str, partitions: u16, pubsub: ClusterPubSub) -> Names<'a> {
        Names { prefix, partitions: Some((partitions, pubsub)) }
    }

    /// Whether rooms have partitions.
    pub fn is_of_cluster(&self) -> bool {
        self.partitions.is_some()
    }

    /// Whether channels belong to slots.
    pub fn is_sharded(&self) -> bool {
        matches!(self.partitions, Some((_, ClusterPubSub::Sharded)))
    }

    /// Whether the answer to a publish says how many have it: by classic Pub/Sub a node of a Cluster counts its own subscribers alone.
    pub fn counts_receivers(&self) -> bool {
        !matches!(self.partitions, Some((_, ClusterPubSub::Classic)))
    }

    /// The partition of a room, in a Cluster.
    pub fn partition(&self, room: &str) -> Option<u16> {
        self.partitions.map(|(partitions, _)| partition_of(room, partitions))
    }

    /// The channel of a room.
    pub fn channel(&self, room: &str) -> String {
        let mut out = Vec::new();
        self.write_channel(room, &mut |bytes| out.extend_from_slice(bytes));
        String::from_utf8(out).expect("made of texts")
    }

    /// A key of a room.
    pub fn key(&self, kind: &str, room: &str) -> String {
        let mut out = Vec::new();
        self.write_key(kind, room, &mut |bytes| out.extend_from_slice(bytes));
        String::from_utf8(out).expect("made of texts")
    }

    /// A key of something else than a room, in this partition; off a Cluster there is one for all.
    pub fn key_in(&self, partition: u16, kind: &str, name: &str) -> String {
        self.kept_in(partition, format_args!("{kind}:{name}"))
    }

    /// A key of all instances.
    pub fn key_of_all(&self, kind: &str) -> String {
        self.kept_in(0, format_args!("{kind}"))
    }

    /// A key of everything in this partition; off a Cluster there is one for all.
    pub fn key_of_part(&self, partition: u16, kind: &str) -> String {
        self.kept_in(partition, format_args!("{kind}"))
    }

    fn kept_in(&self, partition: u16, what: std::fmt::Arguments<'_>) -> String {
        match self.partitions {
            Some(_) => format!("{}{{{partition}}}\u{1}{what}", self.prefix),
            None => format!("{}\u{1}{what}", self.prefix),
        }
    }

    /// How many partitions there are: one off a Cluster.
    pub fn partitions(&self) -> u16 {
        self.partitions.map_or(1, |(partitions, _)| partitions)
    }

    /// The key under which the instances of a Cluster say what they agree on.
    pub(super) fn layout_key(&self) -> String {
        format!("{}{{0}}\u{1}layout", self.prefix)
    }

    /// What they have to agree on.
    pub(super) fn layout(&self) -> String {
        match self.partitions {
            Some((partitions, ClusterPubSub::Sharded)) => format!("{partitions} sharded"),
            Some((partitions, ClusterPubSub::Classic)) => format!("{partitions} classic"),
            None => String::new(),
        }
    }

    /// Hands out the parts of a room's channel.
    pub(super) fn write_channel(&self, room: &str, write: &mut impl FnMut(&[u8])) {
        write(self.prefix.as_bytes());
        if let Some((partitions, ClusterPubSub::Sharded)) = self.partitions {
            write_tag(partition_of(room, partitions), write);
        }
        write(room.as_bytes());
    }

    /// Hands out the parts of a room's key. No room's name holds the control character, so that no channel and no key of another room is
    /// called so, whatever the prefix.
    pub(super) fn write_key(&self, kind: &str, room: &str, write: &mut impl FnMut(&[u8])) {
        write(self.prefix.as_bytes());
        if let Some((partitions, _)) = self.partitions {
            write_tag(partition_of(room, partitions), write);
        }
        for part in ["\u{1}", kind, ":", room] {
            write(part.as_bytes());
        }
    }

    /// The room of a channel.
    pub(super) fn room_of<'b>(&self, channel: &'b [u8]) -> Option<&'b [u8]> {
        let rest = channel.strip_prefix(self.prefix.as_bytes())?;
        if !self.is_sharded() {
            return Some(rest);
        }
        let end = rest.iter().position(|byte| *byte == b'}')?;
        rest.starts_with(b"{").then_some(&rest[end + 1..])
    }

    /// No name of a room is so many bytes longer than the room's.
    pub(super) fn more_bytes_max(&self) -> usize {
        self.prefix.len() + if self.partitions.is_some() { "{16383}".len() } else { 0 }
    }
}

fn write_tag(partition: u16, write: &mut impl FnMut(&[u8])) {
    let mut digits = [0; 5];
    write(b"{");
    write(decimal(partition, &mut digits));
    write(b"}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_specification() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        // `CLUSTER KEYSLOT` of Redis 7.0.
        for (partition, slot) in [(0, 13_907), (1, 9_842), (17, 12_304), (255, 14_163), (16_383, 15_158)] {
            assert_eq!(slot_of_partition(partition), slot, "{partition}");
        }
    }

    #[test]
    fn a_channel_leads_back_to_its_room() {
        for names in [
            Names::plain("p:"),
            Names::in_cluster("p:", 256, ClusterPubSub::Sharded),
            Names::in_cluster("", 1, ClusterPubSub::Sharded),
            Names::in_cluster("p:", 256, ClusterPubSub::Classic),
        ] {
            for room in ["lobby", "{1}", "}", "a{b}c", "ü"] {
                let channel = names.channel(room);
                assert_eq!(names.room_of(channel.as_bytes()), Some(room.as_bytes()), "{channel}");
                assert!(channel.len() <= room.len() + names.more_bytes_max());
            }
        }
        let sharded = Names::in_cluster("p:", 256, ClusterPubSub::Sharded);
        for stray in ["", "p", "p:", "p:lobby", "p:{1", "x{1}lobby"] {
            assert_eq!(sharded.room_of(stray.as_bytes()), None, "{stray}");
        }
    }

    #[test]
    fn what_belongs_to_a_room_is_in_one_slot() {
        let between_braces = |name: &str| {
            let (_, rest) = name.split_once('{').unwrap();
            rest.split_once('}').unwrap().0.to_owned()
        };
        let names = Names::in_cluster("p:", 256, ClusterPubSub::Sharded);
        for room in ["lobby", "{1}", "}x{", "ü"] {
            let partition = partition_of(room, 256).to_string();
            for name in [names.channel(room), names.key("meta", room), names.key("log", room)] {
                assert_eq!(between_braces(&name), partition);
            }
        }
        assert_eq!(Names::plain("p:").key("log", "x"), "p:\u{1}log:x");
        assert_eq!(
            (names.key_in(17, "rooms", "a"), names.key_of_all("dead")),
            ("p:{17}\u{1}rooms:a".into(), "p:{0}\u{1}dead".into())
        );
        let plain = Names::plain("p:");
        assert_eq!(
            (plain.key_in(0, "rooms", "a"), plain.key_of_all("dead")),
            ("p:\u{1}rooms:a".into(), "p:\u{1}dead".into())
        );
    }
}
