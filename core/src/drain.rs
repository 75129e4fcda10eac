//! The end of a core that has been told to stop. A client that is owed an answer gets it first, within a time. All are closed with
//! 1012.

use crate::id::ConnId;
use crate::slots::{Phase, Slots};
use crate::time::Time;
use std::collections::BTreeSet;

/// What is left to be done before everybody has been told.
#[derive(Debug)]
pub(crate) struct Drain {
    /// Then everybody is told, whatever is owed.
    until: Time,
    /// WebSockets that have not been told.
    untold: Vec<ConnId>,
}

impl Drain {
    /// All that are open now are to be told.
    pub fn new(slots: &Slots, until: Time) -> Drain {
        let open = slots.slots().filter(|slot| slots.get(*slot).phase == Phase::Open);
        Drain { until, untold: open.map(|slot| slots.id(slot)).collect() }
    }

    /// Until when answers are waited for; `None` if none is waited for now.
    pub fn until(&self) -> Option<Time> {
        (!self.untold.is_empty()).then_some(self.until)
    }

    /// Takes those who are to be told now, because nothing is owed to them any more or the time is up. `owed` says to whom something is.
    pub fn take_settled(&mut self, slots: &Slots, now: Time, owed: impl FnOnce() -> BTreeSet<u32>) -> Vec<u32> {
        if self.untold.is_empty() {
            return Vec::new();
        }
        let owed = if self.until <= now { BTreeSet::new() } else { owed() };
        let mut settled = Vec::new();
        self.untold.retain(|conn| {
            let Some(slot) = slots.slot(*conn).filter(|slot| slots.get(*slot).phase == Phase::Open) else {
                return false;
            };
            let waits = owed.contains(&slot);
            if !waits {
                settled.push(slot);
            }
            waits
        });
        settled
    }

    /// Panics unless the end of the turn has left everybody told, or waiting to be.
    pub fn check_invariants(&self, slots: &Slots) {
        for slot in slots.slots().filter(|slot| slots.get(*slot).phase == Phase::Open) {
            assert!(self.untold.contains(&slots.id(slot)), "whoever is open while it ends waits for an answer");
        }
    }
}
