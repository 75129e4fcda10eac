//! What must hold between turns, checked from the outside by tests, fuzzers and simulations. Each machine checks itself.

use super::Core;

impl Core {
    /// Checks every invariant of the core's parts, and those that tie them together. Costs a walk over all that it holds.
    ///
    /// # Panics
    /// If one does not hold: that is a bug in this crate.
    pub fn check_invariants(&self) {
        let cx = &self.cx;
        cx.fanout.check_invariants(&cx.slots, cx.config.limits.group_members_max.into());
        let (user_of, rooms_of) = (|slot| self.session.user_of(slot), |slot| self.hub.rooms_joined(cx, slot).collect());
        cx.limits.check_invariants(&cx.slots, user_of, rooms_of);
        self.transport.check_invariants(cx);
        self.hub.check_invariants(cx);
        self.session.check_invariants(&self.hub, cx);
        self.departures.check_invariants(&cx.slots, cx.metrics.departing_now);
    }

    /// Checks that nothing is left once every connection has ended, every room has lingered, and the broker has answered
    /// everything.
    ///
    /// # Panics
    /// If something is: that is a leak, and a bug in this crate.
    pub fn check_idle(&self) {
        self.check_invariants();
        assert_eq!(self.connections(), 0, "connections are left");
        self.hub.check_idle();
        self.session.check_idle();
        self.transport.check_idle();
        self.cx.limits.check_idle();
        self.cx.fanout.check_idle();
    }
}
