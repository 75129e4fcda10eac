//! The virtual clock and what is to happen, in order of time; at equal times, in the order in which it was planned.

use crate::network::{Side, WireId};
use crate::options::Fault;
use std::collections::BTreeMap;

/// One thing to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happening {
    /// Bytes, an end or a reset may be there to be read at this side.
    Readable(WireId, Side),
    /// This side's writes, of which one was short, are taken again.
    Writable(WireId, Side),
    /// A connection that was opened reaches the one who accepts it.
    Arrives(WireId),
    /// The one who opened a connection learns that it is established.
    Settled(WireId),
    /// The one who opened a connection learns that it is refused.
    Refused(WireId),
    /// The instance at this place has a turn.
    Turn(usize),
    /// This server has a turn.
    Redis(usize),
    /// This Sentinel has a turn.
    Sentinel(usize),
    /// This Sentinel learns what has changed.
    Learns(usize),
    /// Nodes of a Cluster look for each other.
    Looks,
    /// This node of a Cluster learns what has changed.
    NodeLearns(usize),
    /// One more key of a slot moves.
    Moves,
    /// A client does something of its own accord.
    Client(usize),
    /// A publisher that is no instance has something to say.
    Foreign,
    /// A credential has been looked at, for the instance at this place.
    Verdict(usize),
    /// Credentials count no more.
    Ban,
    /// The instance at this place hears of that.
    BansReach(usize),
    /// An instance lets a share of its connections go.
    Shed,
    /// A fault strikes.
    Fault(Fault),
    /// What a fault did ends.
    Relief(Fault, u64),
}

/// When something is to happen: the time, and the order among equals.
pub type Moment = (u64, u64);

/// Everything that is to happen.
#[derive(Debug, Default)]
pub struct Timeline {
    /// Microseconds since the beginning.
    pub now: u64,
    planned: u64,
    queue: BTreeMap<Moment, Happening>,
}

impl Timeline {
    /// Plans something for `delay` microseconds from now.
    pub fn after(&mut self, delay: u64, happening: Happening) -> Moment {
        self.at(self.now + delay, happening)
    }

    /// Plans something for this time, which may not be over.
    pub fn at(&mut self, time: u64, happening: Happening) -> Moment {
        self.planned += 1;
        let moment = (time.max(self.now), self.planned);
        self.queue.insert(moment, happening);
        moment
    }

    /// Takes back what was planned.
    pub fn cancel(&mut self, moment: Moment) {
        self.queue.remove(&moment);
    }

    /// What is next, unless that is after `until`; the clock then shows its time.
    pub fn next(&mut self, until: u64) -> Option<Happening> {
        let entry = self.queue.first_entry().filter(|entry| entry.key().0 <= until)?;
        let ((time, _), happening) = entry.remove_entry();
        self.now = time;
        Some(happening)
    }
}
