//! The servers: one, several with Sentinels that watch over them, or the nodes of a Cluster. Here one of them takes the place of another; how
//! it does in a Cluster is in `shards`.

mod shards;

pub use shards::Shards;

use crate::cluster::Surroundings;
use crate::network::WireId;
use crate::options::Options;
use crate::redis::Redis;
use crate::sentinel::{Known, Sentinel, Target};
use crate::slotted::Slotted;
use crate::timeline::Timeline;
use crate::trace;
use std::collections::{BTreeMap, BTreeSet};

/// What becomes of a master in whose place another one comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Old {
    /// It is a replica from now on, and ends its connections.
    Leaves,
    /// It is a replica from now on, and lets them stand.
    Stands,
    /// It has yet to hear of it, and goes on as a master.
    GoesOn,
}

/// The servers and the Sentinels.
#[derive(Debug)]
pub struct Group {
    /// All servers.
    pub servers: Vec<Redis>,
    /// All Sentinels; none where there is one server, whose address everybody knows.
    pub sentinels: Vec<Sentinel>,
    /// Who is the master, as the Sentinels agreed upon last. In a Cluster one of the masters, to which happens what comes next.
    pub known: Known,
    /// What the nodes of a Cluster are beside that.
    pub shards: Option<Shards>,
}

impl Group {
    /// All are up, and the first server is the master.
    pub fn new(options: &Options) -> Group {
        let watched = options.watched.as_ref();
        let slotted = options.slotted.as_ref();
        let count = slotted.map_or(watched.map_or(1, |watched| watched.servers), Slotted::nodes);
        let servers = (0..count).map(|number| Redis::new(options, number));
        let sentinels = watched.map(|of| (0..of.sentinels).map(|number| Sentinel::new(options, of, number)).collect());
        let mut group = Group {
            servers: servers.collect(),
            sentinels: sentinels.unwrap_or_default(),
            known: Known::default(),
            shards: slotted.map(|slotted| Shards::new(options, slotted)),
        };
        let masters = slotted.map_or(1, |slotted| slotted.shards);
        group.servers[masters..].iter_mut().for_each(|replica| replica.demote(true));
        group
    }

    /// The number of the master.
    pub fn number(&self) -> usize {
        self.known.server
    }

    /// The master.
    pub fn master(&self) -> &Redis {
        &self.servers[self.known.server]
    }

    /// The same, to do something.
    pub fn master_mut(&mut self) -> &mut Redis {
        &mut self.servers[self.known.server]
    }

    /// The servers that can take the master's place.
    pub fn replicas(&self) -> Vec<usize> {
        let can = |number: &usize| {
            let server = &self.servers[*number];
            *number != self.known.server && server.up && server.is_replica()
        };
        (0..self.servers.len()).filter(can).collect()
    }

    /// Takes a connection, where somebody listens.
    pub fn accept(&mut self, target: Target, wire: WireId, timeline: &mut Timeline) -> bool {
        let is_up = match target {
            Target::Server(number) => self.servers[number].up,
            Target::Sentinel(number) => self.sentinels[number].up,
        };
        match target {
            Target::Server(number) if is_up => self.servers[number].accept(wire),
            Target::Sentinel(number) if is_up => self.sentinels[number].accept(wire),
            _ => {}
        }
        if is_up && (!self.sentinels.is_empty() || self.shards.is_some()) {
            // It may have ended already, and nothing else may happen at a server that nobody uses.
            self.wake(target, timeline);
        }
        is_up
    }

    /// Something happened on a wire: a turn follows.
    pub fn wake(&mut self, target: Target, timeline: &mut Timeline) {
        match target {
            Target::Server(number) => self.servers[number].wake(timeline),
            Target::Sentinel(number) => self.sentinels[number].wake(timeline),
        }
    }

    /// This replica takes the master's place, with what it has; the Sentinels learn of it one after the other.
    pub fn fail_over(&mut self, to: usize, old: Old, around: &mut Surroundings<'_>) {
        let from = self.known.server;
        trace!(around.trace, around.timeline, "server {to} takes the place of {from}, which then: {old:?}");
        let logs = self.servers[from].left_to_replica();
        self.servers[to].promote(logs);
        self.known = Known { server: to, epoch: self.known.epoch + 1 };
        self.servers[from].is_cut_off = true;
        if old != Old::GoesOn {
            self.demote_old(from, old == Old::Leaves, around);
        }
        self.look_for_replicas();
        for sentinel in &mut self.sentinels {
            sentinel.plan_learning(&mut around.timeline);
        }
    }

    /// A server that was the master hears that it is a replica.
    pub fn demote_old(&mut self, number: usize, ends_connections: bool, around: &mut Surroundings<'_>) {
        if number == self.known.server {
            return;
        }
        self.servers[number].demote(true);
        if ends_connections {
            self.servers[number].kill_all(around);
        }
        self.look_for_replicas();
    }

    /// Whether a master has a replica that follows it.
    pub fn look_for_replicas(&mut self) {
        if self.shards.is_some() {
            return self.look_for_followers();
        }
        let master = self.known.server;
        self.servers[master].is_cut_off = self.servers.len() > 1 && self.replicas().is_empty();
    }

    /// Everything is well from now on. Whoever takes itself for the master hears that it is none, and lets its connections stand.
    ///
    /// # Errors
    /// What the reference does not allow.
    pub fn heal(&mut self, around: &mut Surroundings<'_>) -> Result<(), String> {
        for (number, server) in self.servers.iter_mut().enumerate() {
            server.heal(&mut around.timeline);
            if self.shards.is_none() {
                server.demote(number != self.known.server);
            }
        }
        self.heal_shards(around)?;
        self.look_for_replicas();
        for sentinel in &mut self.sentinels {
            sentinel.heal(&mut around.timeline);
        }
        // TCP's keepalive has found out by now.
        for server in &mut self.servers {
            for wire in server.wires() {
                if around.network.is_silent(wire) {
                    server.kill(wire, around);
                }
            }
        }
        for sentinel in &mut self.sentinels {
            for wire in sentinel.wires() {
                if around.network.is_silent(wire) {
                    sentinel.kill(wire, around);
                }
            }
        }
        Ok(())
    }

    /// How many subscribers are told nothing.
    pub fn deaf(&self) -> usize {
        self.servers.iter().map(Redis::deaf).sum()
    }

    /// Connections that Redis ended because they read too slowly.
    pub fn output_kills(&self) -> u64 {
        self.servers.iter().map(|server| server.output_kills).sum()
    }

    /// The channels that each connection subscribes to, at the master or at any node.
    pub fn subscriptions(&self) -> BTreeMap<WireId, BTreeSet<String>> {
        match self.shards {
            Some(_) => self.servers.iter().flat_map(Redis::subscriptions).collect(),
            None => self.master().subscriptions(),
        }
    }

    /// Whether every instance has as many connections to the master as it needs, one to each Sentinel, and none to anybody else.
    ///
    /// # Errors
    /// Where it is not so.
    pub fn check_connections(&self, of_each: usize, instances: usize) -> Result<(), String> {
        if let Some(shards) = &self.shards {
            return self.check_shards(shards, of_each, instances);
        }
        let servers: BTreeMap<usize, usize> =
            self.servers.iter().map(|server| server.wires().len()).enumerate().collect();
        let sentinels: Vec<usize> = self.sentinels.iter().map(|sentinel| sentinel.wires().len()).collect();
        let are_right = servers.iter().all(|(number, connections)| {
            *connections == if *number == self.known.server { of_each * instances } else { 0 }
        });
        if are_right && sentinels.iter().all(|connections| *connections == instances) {
            return Ok(());
        }
        let master = self.known.server;
        Err(format!(
            "connections to servers: {servers:?}, the master is {master}; to Sentinels: {sentinels:?}; of {instances} instances"
        ))
    }
}
