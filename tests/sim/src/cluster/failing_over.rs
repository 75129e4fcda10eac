//! Faults of a group of servers with Sentinels: another server becomes the master, in order or not, and Sentinels are away, slow, or know
//! no better than before.

use super::Cluster;
use crate::group::Old;
use crate::options::Fault;
use crate::trace;

impl Cluster<'_> {
    /// A replica takes the place of the master, if there is one.
    pub(super) fn fail_over(&mut self, fault: Fault) -> Option<()> {
        let (from, replicas) = (self.group.number(), self.group.replicas());
        let to = self.pick(fault, &replicas)?;
        let old = match fault {
            Fault::SentinelFailover => {
                self.group.master_mut().replicate(&mut self.around);
                if self.draw(fault, 2) == 0 { Old::Leaves } else { Old::Stands }
            }
            _ => Old::GoesOn,
        };
        if fault == Fault::MasterLost {
            let silently = self.draw(fault, 2) == 0;
            self.group.master_mut().up = false;
            for wire in self.group.master().wires() {
                self.harm(wire, silently);
                self.group.master_mut().kill(wire, &mut self.around);
            }
        }
        self.group.fail_over(to, old, &mut self.around);
        if old == Old::GoesOn {
            self.plan_relief(fault, from);
        }
        Some(())
    }

    /// A server that was the master is there again, and may take itself for it for a while; or it hears that it is a replica.
    pub(super) fn end_split(&mut self, fault: Fault, number: usize) {
        let was_up = std::mem::replace(&mut self.group.servers[number].up, true);
        if !was_up && self.draw(fault, 2) == 0 {
            self.plan_relief(fault, number);
            return;
        }
        let ends_connections = self.draw(fault, 2) == 0;
        self.group.demote_old(number, ends_connections, &mut self.around);
    }

    pub(super) fn strike_sentinel(&mut self, fault: Fault) -> Option<()> {
        let count = self.group.sentinels.len();
        // All of them at once are away only.
        let number = self.draw(fault, if fault == Fault::SentinelDown { count + 1 } else { count });
        for sentinel in self.group.sentinels.iter_mut().enumerate().filter_map(|(of, sentinel)| {
            let is_struck = number == count || of == number;
            is_struck.then_some(sentinel)
        }) {
            match fault {
                Fault::SentinelDown => {
                    sentinel.up = false;
                    for wire in sentinel.wires() {
                        sentinel.kill(wire, &mut self.around);
                    }
                }
                Fault::SentinelPause => sentinel.paused = true,
                _ => sentinel.stale = true,
            }
        }
        trace!(self.around.trace, self.around.timeline, "sentinel {number} of {count}");
        self.plan_relief(fault, number);
        Some(())
    }

    pub(super) fn relieve_sentinel(&mut self, fault: Fault, number: usize) {
        let count = self.group.sentinels.len();
        for (of, sentinel) in self.group.sentinels.iter_mut().enumerate() {
            if number != count && of != number {
                continue;
            }
            match fault {
                Fault::SentinelDown => sentinel.up = true,
                Fault::SentinelPause => sentinel.paused = false,
                _ => sentinel.stale = false,
            }
            sentinel.plan_learning(&mut self.around.timeline);
            sentinel.wake(&mut self.around.timeline);
        }
    }
}
