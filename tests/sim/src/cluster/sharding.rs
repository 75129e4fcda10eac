//! Faults of a Cluster: slots that move, nodes that are lost or reach nobody, instances that do not reach a node.

use super::Cluster;
use crate::options::Fault;
use crate::redis::Left;
use crate::sentinel::Target;
use crate::trace;

/// More than there are nodes.
const NODES_MAX: usize = 16;

impl Cluster<'_> {
    pub(super) fn strike_cluster(&mut self, fault: Fault) -> Result<Option<()>, String> {
        let Some(timeout) = self.options.slotted.as_ref().map(|slotted| slotted.node_timeout + slotted.elects.max)
        else {
            return Ok(None);
        };
        let (master, count) = (self.group.number(), self.group.servers.len());
        match fault {
            Fault::SlotMoves => return Ok(self.move_any_slot()),
            Fault::ClusterFailover => {
                let has_changed = self.group.change_places(master, &mut self.around)?;
                return Ok(has_changed.then_some(()));
            }
            Fault::InstanceCutOff => {
                let (place, node) = (self.draw(fault, self.instances.len()), self.draw(fault, count));
                self.cut_instance_off(place, node);
                self.plan_relief(fault, place * NODES_MAX + node);
            }
            Fault::NodeCutOff if self.group.may_be_lost(master) => {
                self.group.cut_off(master, true);
                let later = self.draw(fault, 2) as u64 * timeout;
                self.plan_later_relief(fault, master, later);
            }
            Fault::NodeLost => {
                let node = if self.draw(fault, 3) == 0 { self.draw(fault, count) } else { master };
                if !self.group.servers[node].up || !self.group.may_be_lost(node) {
                    return Ok(None);
                }
                let silently = self.draw(fault, 2) == 0;
                self.lose_node(node, silently);
                let later = self.draw(fault, 2) as u64 * timeout;
                self.plan_later_relief(fault, node, later);
            }
            Fault::ClusterRestart => {
                for node in 0..count {
                    self.lose_node(node, false);
                }
                self.plan_relief(fault, 0);
            }
            _ => return Ok(None),
        }
        Ok(Some(()))
    }

    fn move_any_slot(&mut self) -> Option<()> {
        let fault = Fault::SlotMoves;
        let room = self.draw(fault, self.options.rooms);
        let is_zero = self.draw(fault, 8) == 0;
        let shards = self.group.shards.as_ref()?;
        let (slot, count) = (if is_zero { shards.slot_zero() } else { shards.slot(room) }, shards.map.masters.len());
        let to = self.draw(fault, count);
        self.group.move_slot(slot, to, &mut self.around).then_some(())
    }

    fn cut_instance_off(&mut self, place: usize, node: usize) {
        trace!(self.around.trace, self.around.timeline, "instance {place} and node {node} do not reach each other");
        self.group.cut(place, node, true);
        let wires = self.instances[place].iter().flat_map(|instance| instance.links_to(Target::Server(node)));
        for wire in wires.collect::<Vec<_>>() {
            self.around.network.silence(wire);
        }
    }

    /// A node is gone, and comes back with what it had.
    fn lose_node(&mut self, node: usize, silently: bool) {
        trace!(self.around.trace, self.around.timeline, "node {node} is lost, silently: {silently}");
        self.group.servers[node].begin_anew(Left::Data);
        self.group.servers[node].up = false;
        self.group.servers[node].lose_passed();
        for wire in self.group.servers[node].wires() {
            self.harm(wire, silently);
            self.group.servers[node].kill(wire, &mut self.around);
        }
    }

    pub(super) fn relieve_cluster(&mut self, fault: Fault, target: usize) -> Result<(), String> {
        match fault {
            Fault::InstanceCutOff => self.group.cut(target / NODES_MAX, target % NODES_MAX, false),
            Fault::NodeCutOff => self.group.cut_off(target, false),
            Fault::NodeLost => self.group.servers[target].up = true,
            Fault::ClusterRestart => self.group.servers.iter_mut().for_each(|server| server.up = true),
            _ => {}
        }
        for node in 0..self.group.servers.len() {
            self.group.wake(Target::Server(node), &mut self.around.timeline);
        }
        self.group.look(&mut self.around)
    }
}
