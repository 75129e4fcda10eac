//! A fence in a Cluster: it is there when each node that sends messages has answered behind all that it had to send. One whose connection
//! is lost sends nothing more. Nodes are places here.

use crate::broker::FenceId;
use std::collections::BTreeSet;

/// The newest fence. Nobody waits for those before it.
#[derive(Debug, Default)]
pub(super) struct Fencing {
    id: Option<FenceId>,
    /// The places of the nodes that have not answered.
    waits_for: BTreeSet<usize>,
}

impl Fencing {
    /// These have been asked.
    pub(super) fn begin(&mut self, id: FenceId, places: BTreeSet<usize>) {
        (self.id, self.waits_for) = (Some(id), places);
    }

    /// The node at this place has answered this fence, or was lost.
    pub(super) fn hear(&mut self, place: usize, fenced: Option<FenceId>, was_lost: bool) {
        if was_lost || fenced.is_some() && fenced == self.id {
            self.waits_for.remove(&place);
        }
    }

    /// The fence, once it is there.
    pub(super) fn take(&mut self) -> Option<FenceId> {
        self.id.take_if(|_| self.waits_for.is_empty())
    }
}
