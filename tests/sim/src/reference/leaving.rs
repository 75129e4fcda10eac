//! What a connection that is let go must have got before it is closed: what had been published before its instance was told to let it go,
//! and was sent to that.

use super::{Incarnation, Reference};
use crate::network::{Network, WireId};
use std::rc::Rc;

/// An instance was told to let connections go.
#[derive(Clone, Debug)]
pub struct Leave {
    /// When.
    pub at: u64,
    /// How far it had read what the client says.
    pub read: u64,
    /// How many messages each room had had by then; none, if the instance was told later to close it at once.
    pub lens: Option<Rc<[usize]>>,
}

impl Reference {
    /// The instance of these wires is told to let them go, or some of them.
    pub fn lets_go(&mut self, wires: impl Iterator<Item = WireId>, network: &Network, at: u64) {
        let lens: Rc<[usize]> = self.rooms.iter().map(Vec::len).collect();
        for wire in wires {
            let read = self.looked_at(wire, network);
            self.leaves.entry(wire).or_insert_with(|| Leave { at, read, lens: Some(Rc::clone(&lens)) });
        }
    }

    /// The instance of these wires closes them at once: nothing but answers is waited for any more.
    pub fn cuts_off(&mut self, wires: impl Iterator<Item = WireId>) {
        for wire in wires {
            if let Some(leave) = self.leaves.get_mut(&wire) {
                leave.lens = None;
            }
        }
    }

    /// When that was for the first time.
    pub fn leave_of(&self, wire: WireId) -> Option<&Leave> {
        self.leaves.get(&wire)
    }

    /// Whether a message is on its way to an instance still, on a connection to which nothing has happened.
    pub fn is_on_its_way(&self, (room, index): (usize, usize), incarnation: Incarnation, network: &Network) -> bool {
        let Some(fate) = self.rooms[room][index].fates.get(&incarnation) else { return false };
        fate.sent.iter().any(|(wire, behind)| {
            let link = &self.links[wire];
            link.at_redis && link.ended_at_instance.is_none() && network.read_at(*wire, *behind).is_none()
        })
    }
}
