//! How rooms come back after an outage of the broker: how many have yet to, and how long it takes until all have.

use crate::metrics::Metrics;
use crate::time::Time;

/// From the end of an outage until the broker has confirmed all rooms again.
#[derive(Debug, Default)]
pub(crate) struct Recovery {
    /// Since when it goes on, if it does.
    since: Option<Time>,
    /// Rooms that have not been looked at, as far as that is known: one that has become new or empty meanwhile is counted all the same.
    unseen: usize,
    /// Rooms whose subscription has been asked for again, and not answered.
    asked: usize,
}

impl Recovery {
    /// The broker takes subscriptions again, and rooms with members are this many. What goes on already goes on.
    pub fn begin(&mut self, now: Time, rooms: u64) {
        if rooms > 0 {
            self.since.get_or_insert(now);
        }
        self.unseen = usize::try_from(rooms).unwrap_or(usize::MAX);
    }

    /// A room has been looked at.
    pub fn seen(&mut self) {
        self.unseen = self.unseen.saturating_sub(1);
    }

    /// There is no further room to look at.
    pub fn all_seen(&mut self) {
        self.unseen = 0;
    }

    /// A room that had been subscribed before is asked for again.
    pub fn asked(&mut self) {
        self.asked += 1;
    }

    /// That has been answered, or its answer is void.
    pub fn answered(&mut self) {
        self.asked = self.asked.saturating_sub(1);
    }

    /// The broker is away again.
    pub fn end(&mut self) {
        *self = Recovery::default();
    }

    /// Shows how it stands.
    pub fn tell(&mut self, now: Time, metrics: &mut Metrics) {
        let left = self.unseen + self.asked;
        metrics.rooms_returning_now = left as u64;
        if left == 0
            && let Some(since) = self.since.take()
        {
            metrics.observe_recovery(now.since(since));
        }
    }
}
