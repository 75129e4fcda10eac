//! Source addresses of connections: how many each has open, and how fast it opens them. An entry exists only while one of
//! both is worth remembering.

use super::rate::Rate;
use crate::hash::Seeded;
use crate::slots::NONE;
use crate::time::Time;
use core::net::{IpAddr, Ipv6Addr};
use hashbrown::HashMap;
use slab::Slab;

/// Entries looked at with every connection that comes or goes. Each makes at most one entry, so two keep up.
const SWEPT_PER_CHANGE: usize = 2;

/// The address is over one of its limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OverLimit {
    /// For people.
    pub reason: &'static str,
}

#[derive(Debug)]
struct Source {
    address: IpAddr,
    connections: usize,
    /// Of new connections; see [`Rate`].
    debt: u64,
    at: Time,
}

/// All sources that have a connection, or had one lately.
#[derive(Debug)]
pub(crate) struct Sources {
    /// Open connections of one source; 0 means that there is no limit.
    connections_max: usize,
    connects: Rate,
    /// Addresses are told to who verifies credentials.
    are_told: bool,
    entries: Slab<Source>,
    by_address: HashMap<IpAddr, u32, Seeded>,
    /// The next entry to look at.
    hand: usize,
}

/// What counts as one source: an IPv4 address, or an IPv6 network of 64 bits, of which one household has them all.
pub(crate) fn source_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
    }
}

impl Sources {
    pub fn new(connections_max: usize, connects: Rate, are_told: bool, seed: u64) -> Sources {
        let by_address = HashMap::with_hasher(Seeded::new(seed));
        Sources { connections_max, connects, are_told, entries: Slab::new(), by_address, hand: 0 }
    }

    /// Whether there is anything to keep, because addresses are limited or told.
    pub fn are_kept(&self) -> bool {
        self.connections_max > 0 || self.connects.is_limited() || self.are_told
    }

    /// The address of a source.
    pub fn address(&self, source: u32) -> IpAddr {
        self.entries[source as usize].address
    }

    /// Counts a new connection from this address. Returns its source, for [`Sources::leave`]; `NONE` where no address is kept.
    pub fn arrive(&mut self, address: IpAddr, now: Time) -> Result<u32, OverLimit> {
        if !self.are_kept() {
            return Ok(NONE);
        }
        self.sweep(now);
        let address = source_of(address);
        let source = match self.by_address.get(&address) {
            Some(source) => *source,
            None => {
                let source = self.entries.insert(Source { address, connections: 0, debt: 0, at: now }) as u32;
                self.by_address.insert(address, source);
                source
            }
        };
        let entry = &mut self.entries[source as usize];
        entry.drain(self.connects, now);
        if self.connections_max > 0 && entry.connections >= self.connections_max {
            return Err(OverLimit { reason: "too many connections from this address" });
        }
        if self.connects.is_limited() {
            entry.debt = self
                .connects
                .charged(entry.debt, 1)
                .ok_or(OverLimit { reason: "too many new connections from this address" })?;
        }
        entry.connections += 1;
        Ok(source)
    }

    /// A connection of this source has gone.
    pub fn leave(&mut self, source: u32, now: Time) {
        self.entries[source as usize].connections -= 1;
        self.free_if_settled(source as usize, now);
        self.sweep(now);
    }

    fn sweep(&mut self, now: Time) {
        for _ in 0..SWEPT_PER_CHANGE.min(self.entries.len()) {
            self.hand = (self.hand + 1) % self.entries.capacity();
            self.free_if_settled(self.hand, now);
        }
    }

    fn free_if_settled(&mut self, index: usize, now: Time) {
        let Some(entry) = self.entries.get_mut(index) else { return };
        entry.drain(self.connects, now);
        if entry.connections == 0 && entry.debt == 0 {
            self.by_address.remove(&entry.address);
            self.entries.remove(index);
        }
    }

    /// Checks that the table holds what it should, given how many connections name each source.
    pub fn check_invariants(&self, count: impl Fn(u32) -> usize) {
        assert_eq!(self.entries.len(), self.by_address.len());
        for (source, entry) in &self.entries {
            assert_eq!(self.by_address.get(&entry.address), Some(&(source as u32)));
            assert_eq!(entry.connections, count(source as u32), "connections of {}", entry.address);
            assert!(self.connections_max == 0 || entry.connections <= self.connections_max);
            assert!(entry.connections > 0 || self.connects.is_limited(), "an entry has a reason");
        }
    }
}

impl Source {
    fn drain(&mut self, connects: Rate, now: Time) {
        self.debt = connects.drained(self.debt, now.since(self.at).as_micros() as u64);
        self.at = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_ipv6_network_is_one_source_and_a_mapped_address_an_ipv4_one() {
        assert_eq!(source_of(ip("2001:db8:1:2:3:4:5:6")), source_of(ip("2001:db8:1:2::9")));
        assert_ne!(source_of(ip("2001:db8:1:2::9")), source_of(ip("2001:db8:1:3::9")));
        assert_eq!(source_of(ip("::ffff:10.0.0.1")), ip("10.0.0.1"));
        assert_ne!(source_of(ip("10.0.0.1")), source_of(ip("10.0.0.2")));
    }

    #[test]
    fn without_limits_nothing_is_kept() {
        let mut sources = Sources::new(0, Rate::NONE, false, 0);
        assert_eq!(sources.arrive(ip("10.0.0.1"), Time::ZERO), Ok(NONE));
        assert!(sources.entries.is_empty());
    }

    #[test]
    fn a_place_that_is_left_is_free() {
        let mut sources = Sources::new(2, Rate::NONE, false, 0);
        let first = sources.arrive(ip("10.0.0.1"), Time::ZERO).unwrap();
        sources.arrive(ip("10.0.0.1"), Time::ZERO).unwrap();
        assert!(sources.arrive(ip("10.0.0.1"), Time::ZERO).is_err());
        assert!(sources.arrive(ip("10.0.0.2"), Time::ZERO).is_ok());
        sources.leave(first, Time::ZERO);
        assert!(sources.arrive(ip("10.0.0.1"), Time::ZERO).is_ok());
    }

    #[test]
    fn new_connections_keep_their_rate_and_refused_ones_are_not_charged() {
        let mut sources = Sources::new(0, Rate { per_second: 10, burst: 3 }, false, 0);
        let mut allowed =
            |at| (0..20).filter_map(|_| sources.arrive(ip("10.0.0.1"), Time::from_millis(at)).ok()).count();
        assert_eq!(allowed(0), 3);
        assert_eq!(allowed(99), 0);
        assert_eq!(allowed(100), 1);
        assert_eq!(allowed(60_000), 3);
    }

    #[test]
    fn sources_that_came_once_do_not_stay() {
        let mut sources = Sources::new(0, Rate { per_second: 1, burst: 1 }, false, 0);
        for number in 0..100_000u32 {
            let now = Time::from_millis(u64::from(number));
            let source = sources.arrive(IpAddr::from(number.to_be_bytes()), now).unwrap();
            sources.leave(source, now);
        }
        // A debt lasts for a second, in which a thousand come.
        assert!(sources.entries.len() < 3_000, "{} entries", sources.entries.len());
    }

    proptest! {
        #[test]
        fn counts_are_those_of_a_plain_map(
            steps in prop::collection::vec((0..6u8, 0..400u64, any::<bool>()), 1..200), most in 0..4usize, limited: bool, are_told: bool
        ) {
            let connects = if limited { Rate { per_second: 5, burst: 4 } } else { Rate::NONE };
            let mut sources = Sources::new(most, connects, are_told, 7);
            let (mut now, mut open, mut model) = (Time::ZERO, Vec::new(), BTreeMap::<u8, usize>::new());
            for (address, pause, leaves) in steps {
                now = Time::from_millis(now.as_millis() + pause);
                if leaves && !open.is_empty() {
                    let (address, source) = open.swap_remove(pause as usize % open.len());
                    *model.get_mut(&address).unwrap() -= 1;
                    if source != NONE {
                        sources.leave(source, now);
                    }
                } else {
                    let count = model.entry(address).or_default();
                    match sources.arrive(IpAddr::from([10, 0, 0, address]), now) {
                        Ok(source) => {
                            *count += 1;
                            prop_assert!(most == 0 || *count <= most);
                            open.push((address, source));
                        }
                        Err(_) => prop_assert!(limited || most > 0 && *count == most),
                    }
                }
                if sources.are_kept() {
                    sources.check_invariants(|source| open.iter().filter(|entry| entry.1 == source).count());
                }
            }
        }
    }
}
