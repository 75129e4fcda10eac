//! A fence in a Cluster: it is there when each node that sends messages has answered behind all that it had to send. One whose connection
//! is lost sends nothing more.

use super::Cluster;
use crate::broker::FenceId;
use std::collections::BTreeSet;

/// The newest one. Nobody waits for those before it.
#[derive(Debug)]
pub(super) struct Fencing {
    id: FenceId,
    /// The places of the nodes that have not answered.
    waits_for: BTreeSet<usize>,
}

impl Cluster {
    /// Takes [`Ask::Fence`](crate::broker::Ask::Fence).
    pub(super) fn fence(&mut self, id: FenceId) {
        if !self.is_up {
            return;
        }
        let mut waits_for = BTreeSet::new();
        for (place, node) in self.nodes.iter_mut().enumerate().filter_map(|(place, node)| Some((place, node.as_mut()?)))
        {
            if node.is_subscriber_up {
                node.session.fence(id);
                waits_for.insert(place);
            }
        }
        self.fencing = Some(Fencing { id, waits_for });
        self.end_fence();
    }

    /// The node at this place has answered this fence, or was lost.
    pub(super) fn hear_of_fence(&mut self, place: usize, fenced: Option<FenceId>, was_lost: bool) {
        if let Some(Fencing { id, waits_for }) = &mut self.fencing
            && (was_lost || fenced == Some(*id))
        {
            waits_for.remove(&place);
            self.end_fence();
        }
    }

    fn end_fence(&mut self) {
        if let Some(Fencing { id, .. }) = self.fencing.take_if(|fencing| fencing.waits_for.is_empty()) {
            self.events.fenced(id);
        }
    }
}
