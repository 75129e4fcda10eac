//! Connections that are no WebSocket, in the order in which they came: request heads coming in, and answered ones whose client
//! has not hung up. Which of them has to go when there are too many; not how.

use crate::conn::Phase;
use crate::event::ConnId;
use std::collections::VecDeque;

/// Stale ids that stand in the queue before it is looked through, beside as many as there are pending ones.
const STALE_MAX: usize = 64;

/// The queue of pending connections. Whoever leaves it stays in until its turn comes, or too many have left.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    queue: VecDeque<ConnId>,
    count: usize,
}

impl Pending {
    /// Whether a connection in this phase is pending.
    pub fn includes(phase: Phase) -> bool {
        matches!(phase, Phase::Head | Phase::Refused)
    }

    /// How many are pending.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Takes a new connection; `is_pending` says of any id whether it still is.
    pub fn push(&mut self, conn: ConnId, is_pending: impl Fn(ConnId) -> bool) {
        self.count += 1;
        if self.queue.len() > 2 * self.count + STALE_MAX {
            self.queue.retain(|conn| is_pending(*conn));
        }
        self.queue.push_back(conn);
    }

    /// One connection is pending no more.
    pub fn leave(&mut self) {
        self.count -= 1;
    }

    /// Takes the oldest id out of the queue. It may be stale.
    pub fn pop(&mut self) -> Option<ConnId> {
        self.queue.pop_front()
    }

    /// For checks: all ids, stale ones too.
    pub fn ids(&self) -> impl Iterator<Item = ConnId> + '_ {
        self.queue.iter().copied()
    }
}
