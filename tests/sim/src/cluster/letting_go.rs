//! Instances that stop in time, and are replaced when all have gone; and instances that let a share of their connections go.

use super::{Cluster, Mood};
use crate::options::chance;
use crate::timeline::Happening;
use crate::trace;

impl Cluster<'_> {
    /// An instance is to stop. Whether it does so in time.
    pub(super) fn drains(&mut self) -> bool {
        let drains = self.options.draining.as_ref().map_or(0, |draining| draining.drains);
        chance(&mut self.letting_go, drains)
    }

    pub(super) fn plan_shed(&mut self) {
        let mean = self.options.draining.as_ref().and_then(|draining| draining.shed_pause);
        if let Some(mean) = mean.filter(|_| self.mood == Mood::Active) {
            let delay = self.letting_go.u64(1..=mean * 2);
            self.around.timeline.after(delay, Happening::Shed);
        }
    }

    pub(super) fn shed(&mut self) {
        let place = self.letting_go.usize(0..self.instances.len());
        let share = self.letting_go.f64();
        if let Some(instance) = &mut self.instances[place] {
            trace!(self.around.trace, self.around.timeline, "instance {place} sheds {share}");
            instance.shed(share, &mut self.around);
        }
    }

    /// Lets those go who have been told to.
    pub(super) fn await_departures(&mut self) -> Result<(), String> {
        if self.options.draining.is_none() {
            return Ok(());
        }
        let core = &self.options.core;
        self.pass((core.drain.spread + 2 * core.timeouts.drain).as_micros() as u64 + 1_000_000)
    }

    /// Another instance takes the place of one that has let everybody go.
    pub(super) fn replace_drained(&mut self, place: usize) {
        if self.instances[place].as_ref().is_some_and(|instance| instance.has_drained()) {
            trace!(self.around.trace, self.around.timeline, "instance {place} has drained");
            *self.outcome.counts.entry("drained").or_default() += 1;
            self.end_instance(place);
            self.start_instance(place);
        }
    }
}
