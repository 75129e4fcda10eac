//! Connections that are not a WebSocket: request heads coming in, and answered ones whose client has not hung up. It says which has
//! to go when there are too many, not how.

use crate::id::ConnId;
use crate::slots::Phase;
use std::collections::VecDeque;

/// Stale ids that stand in a queue before it is looked through, beside as many as there are pending ones.
const STALE_MAX: usize = 64;

/// The queues of pending connections.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    heads: Queue,
    refused: Queue,
}

/// Connections in one phase, in the order in which they came to it. A connection that leaves stays in it until its turn comes, or
/// too many have left.
#[derive(Debug, Default)]
struct Queue {
    ids: VecDeque<ConnId>,
    count: usize,
}

impl Pending {
    /// Whether a connection in this phase is pending.
    pub fn includes(phase: Phase) -> bool {
        matches!(phase, Phase::Head | Phase::Refused)
    }

    /// How many are pending.
    pub fn count(&self) -> usize {
        self.heads.count + self.refused.count
    }

    /// A connection comes to this phase; `phase_of` says where any other is now.
    pub fn enter(&mut self, conn: ConnId, phase: Phase, phase_of: impl Fn(ConnId) -> Option<Phase>) {
        let Some(queue) = self.queue(phase) else { return };
        queue.count += 1;
        if queue.ids.len() > 2 * queue.count + STALE_MAX {
            queue.ids.retain(|conn| phase_of(*conn) == Some(phase));
        }
        queue.ids.push_back(conn);
    }

    /// A connection leaves this phase.
    pub fn leave(&mut self, phase: Phase) {
        if let Some(queue) = self.queue(phase) {
            queue.count -= 1;
        }
    }

    /// Takes the id of the next to go out of its queue: the oldest of those that have their answer, for they lose nothing, or
    /// else the oldest. It may be stale.
    pub fn pop(&mut self) -> Option<ConnId> {
        let queue = if self.refused.count > 0 { &mut self.refused } else { &mut self.heads };
        queue.ids.pop_front()
    }

    /// For checks: the ids in the queue of this phase, stale ones too.
    pub fn ids(&self, phase: Phase) -> impl Iterator<Item = ConnId> + '_ {
        let queue = if phase == Phase::Head { &self.heads } else { &self.refused };
        queue.ids.iter().copied()
    }

    fn queue(&mut self, phase: Phase) -> Option<&mut Queue> {
        match phase {
            Phase::Head => Some(&mut self.heads),
            Phase::Refused => Some(&mut self.refused),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conn(slot: u32) -> ConnId {
        ConnId::new(slot, 1)
    }

    #[test]
    fn whoever_has_its_answer_goes_first_and_then_the_oldest() {
        let mut pending = Pending::default();
        for (slot, phase) in
            [(1, Phase::Head), (2, Phase::Head), (3, Phase::Refused), (4, Phase::Refused), (5, Phase::Open)]
        {
            pending.enter(conn(slot), phase, |_| Some(phase));
            assert_eq!(Pending::includes(phase), slot != 5);
        }
        assert_eq!(pending.count(), 4);
        for (slot, phase) in [(3, Phase::Refused), (4, Phase::Refused), (1, Phase::Head), (2, Phase::Head)] {
            assert_eq!(pending.pop(), Some(conn(slot)));
            pending.leave(phase);
        }
        pending.leave(Phase::Open);
        assert_eq!((pending.count(), pending.pop()), (0, None));
    }

    #[test]
    fn those_who_have_left_do_not_pile_up_and_nobody_else_is_lost() {
        let mut pending = Pending::default();
        let phase_of = |conn: ConnId| (conn.slot() < 3).then_some(Phase::Head);
        for slot in 0..200 {
            pending.enter(conn(slot), Phase::Head, |_| Some(Phase::Head));
        }
        for _ in 3..200 {
            pending.leave(Phase::Head);
        }
        for slot in 200..1_000 {
            pending.enter(conn(slot), Phase::Head, phase_of);
            assert!(pending.ids(Phase::Head).count() <= 2 * 4 + STALE_MAX + 1);
            pending.leave(Phase::Head);
        }
        assert_eq!(pending.count(), 3);
        assert_eq!([pending.pop(), pending.pop(), pending.pop()], [0, 1, 2].map(|slot| Some(conn(slot))));
    }
}
