//! Messages that have begun and are not whole yet: how many bytes of each are held, and since when. It says which has to go if one
//! takes too long, or all together too much; not how.

use crate::hash::{BySlot, Seeded, take_of};
use crate::id::ConnId;
use crate::time::Time;
use hashbrown::HashMap;
use std::collections::VecDeque;
use std::time::Duration;

/// Stale entries that stand in the queue before it is looked through, beside as many as there are unfinished messages.
const STALE_MAX: usize = 64;

#[derive(Clone, Copy, Debug)]
struct Held {
    since: Time,
    bytes: usize,
}

/// All unfinished messages, each connection's at most once.
#[derive(Debug)]
pub(crate) struct Unfinished {
    held: BySlot<Held>,
    /// In the order in which they began; some of them have ended since.
    queue: VecDeque<(Time, ConnId)>,
    bytes: usize,
}

impl Unfinished {
    pub fn new(seed: u64) -> Unfinished {
        Unfinished { held: HashMap::with_hasher(Seeded::new(seed)), queue: VecDeque::new(), bytes: 0 }
    }

    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Bytes held of all of them.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// This many bytes are held of the connection's message, which began now if none was held before.
    pub fn hold(&mut self, conn: ConnId, bytes: usize, now: Time) {
        let held = self.held.entry(conn.slot() as u32).or_insert_with(|| {
            self.queue.push_back((now, conn));
            Held { since: now, bytes: 0 }
        });
        self.bytes = self.bytes - held.bytes + bytes;
        held.bytes = bytes;
        if self.queue.len() > 2 * self.held.len() + STALE_MAX {
            let held = &self.held;
            self.queue.retain(|(since, conn)| is_held(held, *since, *conn));
        }
    }

    /// The connection's message is whole, or nobody waits for its end any more.
    pub fn forget(&mut self, slot: u32) {
        if let Some(held) = take_of(&mut self.held, slot) {
            self.bytes -= held.bytes;
        }
    }

    /// The connection whose message began first. Its entry is taken off the queue.
    pub fn pop(&mut self) -> Option<ConnId> {
        self.skip_stale();
        self.queue.pop_front().map(|(_, conn)| conn)
    }

    /// The same, if that was so long ago.
    pub fn pop_older(&mut self, age: Duration, now: Time) -> Option<ConnId> {
        self.skip_stale();
        let (since, _) = self.queue.front()?;
        if *since + age > now {
            return None;
        }
        self.queue.pop_front().map(|(_, conn)| conn)
    }

    /// Counts the time of this connection's message, which was taken off the queue, from now.
    pub fn begin_again(&mut self, conn: ConnId, now: Time) {
        if let Some(held) = self.held.get_mut(&(conn.slot() as u32)) {
            held.since = now;
            self.queue.push_back((now, conn));
        }
    }

    /// When the first of them is so old, at the earliest.
    pub fn next(&self, age: Duration) -> Option<Time> {
        self.queue.front().map(|(since, _)| *since + age)
    }

    fn skip_stale(&mut self) {
        while let Some((since, conn)) = self.queue.front()
            && !is_held(&self.held, *since, *conn)
        {
            self.queue.pop_front();
        }
    }

    /// For checks: the slots, and the bytes held of each.
    pub fn iter(&self) -> impl Iterator<Item = (u32, usize)> {
        self.held.iter().map(|(slot, held)| (*slot, held.bytes))
    }
}

/// A message that began in the same moment in the same slot is taken for this one: then it is as old.
fn is_held(held: &BySlot<Held>, since: Time, conn: ConnId) -> bool {
    held.get(&(conn.slot() as u32)).is_some_and(|held| held.since == since)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conn(slot: u32) -> ConnId {
        ConnId::new(slot, 1)
    }

    #[test]
    fn the_oldest_that_is_still_held_comes_first() {
        let mut unfinished = Unfinished::new(0);
        for slot in 0..4 {
            unfinished.hold(conn(slot), 10, Time::from_millis(slot.into()));
        }
        unfinished.forget(0);
        unfinished.hold(conn(1), 30, Time::from_millis(9));
        assert_eq!(unfinished.bytes(), 50);
        let age = Duration::from_millis(5);
        assert_eq!(unfinished.next(age), Some(Time::from_millis(5)), "it may be too early");
        assert_eq!(unfinished.pop_older(age, Time::from_millis(5)), None);
        assert_eq!(unfinished.pop_older(age, Time::from_millis(6)), Some(conn(1)));
        unfinished.begin_again(conn(1), Time::from_millis(6));
        assert_eq!([unfinished.pop(), unfinished.pop(), unfinished.pop()], [2, 3, 1].map(|slot| Some(conn(slot))));
        (0..4).for_each(|slot| unfinished.forget(slot));
        assert!(unfinished.is_empty() && unfinished.pop().is_none() && unfinished.bytes() == 0);
        assert_eq!(unfinished.next(age), None);
    }

    #[test]
    fn what_has_ended_does_not_pile_up() {
        let mut unfinished = Unfinished::new(0);
        unfinished.hold(conn(9), 1, Time::ZERO);
        for at in 0..10_000 {
            unfinished.hold(conn(1), 1, Time::from_millis(at));
            unfinished.forget(1);
        }
        assert!(unfinished.queue.len() <= 2 * 2 + STALE_MAX + 1, "{}", unfinished.queue.len());
        assert_eq!(unfinished.pop(), Some(conn(9)));
    }
}
