//! Bans: when there are some, and when instances hear of them.

use super::{Cluster, Mood};
use crate::timeline::Happening;
use crate::trace;

/// Microseconds until an instance hears of a ban, at most.
const REACHES: u64 = 1_000_000;

impl Cluster<'_> {
    pub(super) fn plan_ban(&mut self) {
        let Some(guard) = self.around.guard.as_mut().filter(|_| self.mood == Mood::Active) else { return };
        if let Some(mean) = guard.identities.ban_pause {
            let delay = guard.issuer.rng().u64(1..=mean * 2);
            self.around.timeline.after(delay, Happening::Ban);
        }
    }

    pub(super) fn ban(&mut self) {
        let around = &mut self.around;
        let Some(guard) = &mut around.guard else { return };
        guard.issuer.ban(around.timeline.now);
        guard.count("bans");
        trace!(around.trace, around.timeline, "BAN {:?}", guard.issuer.bans().last());
        self.tell_of_bans();
    }

    /// Has every instance hear of what bans there are, each in its own time.
    fn tell_of_bans(&mut self) {
        let Some(guard) = &mut self.around.guard else { return };
        for place in 0..self.instances.len() {
            let delay = guard.issuer.rng().u64(0..REACHES);
            self.around.timeline.after(delay, Happening::BansReach(place));
        }
    }

    /// Who verifies is willing from now on, and most bans are over.
    pub(super) fn heal_credentials(&mut self) {
        let Some(guard) = &mut self.around.guard else { return };
        guard.heal(self.around.timeline.now);
        self.tell_of_bans();
    }

    pub(super) fn wake_instance(&mut self, place: usize) {
        if let Some(instance) = &mut self.instances[place] {
            instance.wake(&mut self.around);
        }
    }
}
