//! An instance's lease runs out while it has members: it does nothing for so long, or what it says to Redis is held up, and arrives when
//! others have cleared up after it. Meanwhile somebody comes to it, or goes; and in the end it goes on, or is gone.

use super::Cluster;
use crate::instance::Instance;
use crate::network::WireId;
use crate::options::Fault;
use crate::timeline::Happening;
use crate::trace;

const FAULT: Fault = Fault::InstanceLapses;

/// More than there are places: who stands there is gone, and another takes its place.
const GONE: usize = 1_000;

impl Cluster<'_> {
    /// It strikes where most clients are. Says whether that is possible.
    pub(super) fn lapse(&mut self) -> Option<()> {
        let members = |instance: &Instance| {
            (0..self.clients.len()).filter(|number| self.clients[*number].is_at(instance.incarnation)).collect()
        };
        let places = 0..self.instances.len();
        let (place, members): (usize, Vec<usize>) = places
            .filter_map(|place| Some((place, members(self.instances[place].as_ref()?))))
            .max_by_key(|(_, members): &(usize, Vec<usize>)| members.len())?;
        let (lease, now) = (self.options.session.presence_lease.as_micros() as usize, self.around.timeline.now);
        if self.draw(FAULT, 3) == 0 {
            let until = now + (lease + self.draw(FAULT, 2 * lease)) as u64;
            trace!(self.around.trace, self.around.timeline, "instance {place} does nothing until {until}");
            self.instances[place].as_mut()?.paused_until = until;
            let target = if self.draw(FAULT, 2) == 0 { GONE + place } else { place };
            let later = self.draw(FAULT, lease / 8) as u64;
            self.around.timeline.at(until + later, Happening::Relief(FAULT, target as u64));
        } else {
            // Others know of the lease's end a third of one after it, at the latest, and leave it alone for a quarter more.
            let until = now + (lease * 5 / 4 + self.draw(FAULT, 2 * lease)) as u64;
            let wires: Vec<WireId> = self.instances[place].iter().flat_map(Instance::links).collect();
            trace!(self.around.trace, self.around.timeline, "instance {place}: {wires:?} are held up until {until}");
            for wire in wires {
                self.around.network.stall(wire, until, &mut self.around.timeline);
            }
            if self.draw(FAULT, 3) > 0 {
                let delay = (lease / 8 + self.draw(FAULT, lease)) as u64;
                self.around.timeline.after(delay, Happening::Relief(FAULT, (GONE + place) as u64));
            }
        }
        for number in members {
            self.clients[number].stirs(&mut self.around);
        }
        Some(())
    }

    pub(super) fn end_lapse(&mut self, target: usize) {
        if target >= GONE {
            let place = target - GONE;
            self.end_and_drain(place, true);
            self.plan_relief(FAULT, place);
        } else if let Some(instance) = &mut self.instances[target] {
            instance.wake(&mut self.around);
        } else {
            self.start_instance(target);
        }
    }
}
