//! Bytes that were read and have not been looked at, because the bytes before them made more work than a turn has for one
//! connection. They wait here, and one connection after the other has its turn.

use crate::hash::{BySlot, Seeded, take_of};
use crate::id::ConnId;
use hashbrown::HashMap;
use std::collections::VecDeque;

/// All such bytes.
#[derive(Debug)]
pub(crate) struct Unread {
    bytes: BySlot<Vec<u8>>,
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
        take_of(&mut self.bytes, slot)
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
}
