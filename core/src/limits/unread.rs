//! Bytes that were read of a connection and have not been looked at, because those before them made more work than a turn has for one
//! connection. They wait here, and have their turn one connection after the other.

use super::rate::Rate;
use crate::core::Seeded;
use crate::event::ConnId;
use crate::time::Time;
use hashbrown::HashMap;
use std::collections::VecDeque;
use std::time::Duration;

/// A connection's bytes are looked at until they have made so many bytes of work beyond themselves: one message of the largest
/// kind by default, which is less than half a millisecond's work.
pub(crate) const SURPLUS_BYTES_PER_STEP: usize = 32 * 1024;

/// How much such work the messages of all connections have made lately. Each may make as much as its own rate allows, and whoever is
/// thrown out and comes back begins anew: so there is a rate for all, too.
#[derive(Debug)]
pub(crate) struct Strain {
    rate: Rate,
    debt: u64,
    at: Time,
}

impl Strain {
    pub fn new(rate: Rate) -> Strain {
        Strain { rate, debt: 0, at: Time::ZERO }
    }

    /// Bytes of work have been made beyond those that were read.
    pub fn add(&mut self, bytes: usize, now: Time) {
        if self.rate.is_limited() {
            self.debt = self.left(now).saturating_add((bytes as u64).saturating_mul(1_000_000));
            self.at = now;
        }
    }

    /// Whether that is too much for now.
    pub fn is_over(&self, now: Time) -> bool {
        self.rate.is_limited() && self.left(now) > self.bearable()
    }

    /// When it will not be too much any more; now where it is not.
    pub fn over_until(&self, now: Time) -> Time {
        match self.is_over(now) {
            true => now + Duration::from_micros((self.left(now) - self.bearable()).div_ceil(self.rate.per_second)),
            false => now,
        }
    }

    fn bearable(&self) -> u64 {
        self.rate.burst.saturating_mul(1_000_000)
    }

    fn left(&self, now: Time) -> u64 {
        self.rate.drained(self.debt, now.since(self.at).as_micros() as u64)
    }
}

/// All such bytes.
#[derive(Debug)]
pub(crate) struct Unread {
    bytes: HashMap<u32, Vec<u8>, Seeded>,
    /// Whose turn is next; some of them have gone.
    queue: VecDeque<ConnId>,
}

impl Unread {
    pub fn new(seed: u64) -> Unread {
        Unread { bytes: HashMap::with_hasher(Seeded::new(seed)), queue: VecDeque::new() }
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Whether bytes of this slot's connection wait.
    pub fn has(&self, slot: u32) -> bool {
        !self.bytes.is_empty() && self.bytes.contains_key(&slot)
    }

    /// Keeps more bytes, behind those that wait already.
    pub fn keep(&mut self, conn: ConnId, more: &[u8]) {
        let slot = conn.slot() as u32;
        self.bytes
            .entry(slot)
            .or_insert_with(|| {
                self.queue.push_back(conn);
                Vec::new()
            })
            .extend_from_slice(more);
    }

    /// Takes what waits of this slot's connection. Its place in the queue goes when it comes up.
    pub fn take(&mut self, slot: u32) -> Option<Vec<u8>> {
        self.bytes.remove(&slot)
    }

    /// The connection whose turn it is.
    pub fn next(&mut self, is_here: impl Fn(ConnId) -> bool) -> Option<ConnId> {
        while let Some(conn) = self.queue.pop_front() {
            if self.has(conn.slot() as u32) && is_here(conn) {
                return Some(conn);
            }
        }
        None
    }

    /// For checks: the slots.
    pub fn slots(&self) -> impl Iterator<Item = u32> {
        self.bytes.keys().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_wait_for_whom_they_came_and_have_their_turns_in_order() {
        let conn = |slot| ConnId::new(slot, 1);
        let mut unread = Unread::new(0);
        for (slot, bytes) in [(1, "a"), (2, "b"), (3, "c"), (1, "d")] {
            unread.keep(conn(slot), bytes.as_bytes());
        }
        assert_eq!([0, 1, 2, 3, 4].map(|slot| unread.has(slot)), [false, true, true, true, false]);
        assert_eq!(unread.next(|_| true), Some(conn(1)));
        assert_eq!(unread.take(1), Some(b"ad".to_vec()));
        assert!(!unread.has(1) && unread.take(1).is_none());
        assert_eq!(unread.next(|here| here != conn(2)), Some(conn(3)), "one that has gone has no turn");
        assert_eq!(unread.next(|_| true), None);
    }

    #[test]
    fn strain_passes_at_its_rate_and_tells_when() {
        let mut strain = Strain::new(Rate { per_second: 1_000, burst: 100 });
        let at = Time::from_millis;
        strain.add(100, at(10));
        assert!(!strain.is_over(at(10)));
        strain.add(50, at(10));
        assert!(strain.is_over(at(10)) && strain.is_over(at(59)) && !strain.is_over(at(60)));
        assert_eq!((strain.over_until(at(10)), strain.over_until(at(70))), (at(60), at(70)));
        let mut unlimited = Strain::new(Rate::NONE);
        unlimited.add(usize::MAX, at(1));
        assert!(!unlimited.is_over(at(1)));
    }
}
