//! The nodes of a Cluster: who finds whom missing, whose replica takes its place, which slot is on its way from one to another, and what nodes
//! pass on. What a single node says is in `redis/node.rs`.
//!
//! What most nodes agree on is one map. A node that cannot reach them keeps its own until it can. Two shards cannot elect anybody when one
//! master is missing, as two of two would have to vote.

use super::Group;
use crate::cluster::Surroundings;
use crate::options::{Options, rng};
use crate::redis::{SlotMap, other_of};
use crate::reference::ROOMS;
use crate::slotted::Slotted;
use crate::timeline::Happening;
use crate::trace;
use fanfare_core::broker::redis::{ClusterPubSub, partition_of, slot_of_partition};
use fastrand::Rng;
use std::collections::{BTreeMap, BTreeSet};

/// How others see a node.
#[derive(Clone, Copy, Debug, Default)]
struct Standing {
    /// It reaches none of the others, and they do not reach it.
    is_cut_off: bool,
    missing_since: Option<u64>,
    /// It was not there at all.
    was_down: bool,
    /// When its replica has been elected.
    elected_at: u64,
    /// It takes the Cluster to be down until then.
    rejoins_at: u64,
}

#[derive(Clone, Copy, Debug)]
struct Moving {
    slot: u16,
    from: usize,
    to: usize,
}

/// The nodes of a Cluster.
#[derive(Debug)]
pub struct Shards {
    traits: Slotted,
    /// What most of them agree on.
    pub map: SlotMap,
    rng: Rng,
    standings: Vec<Standing>,
    moving: Option<Moving>,
    /// What moves does not settle.
    is_held: bool,
    /// Places of instances and nodes that do not reach each other.
    pub cuts: BTreeSet<(usize, usize)>,
    /// When what one node passes on to another comes last: it keeps its order.
    passes: BTreeMap<(usize, usize), u64>,
}

impl Shards {
    /// All is well, and nothing moves.
    pub fn new(options: &Options, slotted: &Slotted) -> Shards {
        Shards {
            traits: slotted.clone(),
            map: SlotMap::new(slotted.shards),
            rng: rng(options.seed, "nodes"),
            standings: vec![Standing::default(); slotted.nodes()],
            moving: None,
            is_held: false,
            cuts: BTreeSet::new(),
            passes: BTreeMap::new(),
        }
    }

    /// The slot of a room.
    pub fn slot(&self, room: usize) -> u16 {
        slot_of_partition(partition_of(ROOMS[room], self.traits.partitions))
    }

    /// The slot in which stands what instances have agreed on.
    pub fn slot_zero(&self) -> u16 {
        slot_of_partition(0)
    }

    /// The masters that have slots of partitions.
    fn used(&self) -> BTreeSet<usize> {
        (0..self.traits.partitions).map(|partition| self.map.master(slot_of_partition(partition))).collect()
    }

    fn is_moving(&self, shard: usize) -> bool {
        self.moving.is_some_and(|moving| moving.from == shard || moving.to == shard)
    }

    fn plan_learning(&mut self, around: &mut Surroundings<'_>) {
        for node in 0..self.standings.len() {
            let delay = self.traits.learns.draw(&mut self.rng);
            around.timeline.after(delay, Happening::NodeLearns(node));
        }
    }
}

impl Group {
    /// The masters of a Cluster.
    pub fn masters(&self) -> Vec<usize> {
        self.shards.as_ref().map(|shards| shards.map.masters.clone()).unwrap_or_default()
    }

    /// What happens to the master happens to this one of a Cluster.
    pub fn look_at_master(&mut self, node: usize) {
        self.known.server = node;
    }

    fn reaches(&self, node: usize) -> bool {
        let is_cut_off = self.shards.as_ref().is_some_and(|shards| shards.standings[node].is_cut_off);
        self.servers[node].up && !self.servers[node].paused && !is_cut_off
    }

    /// Whether what happens to this node leaves everything else as it is: a slot that moves keeps both its masters.
    pub fn may_be_lost(&self, node: usize) -> bool {
        self.shards.as_ref().is_some_and(|shards| !shards.is_moving(node % shards.traits.shards))
    }

    /// Has what a node has published told to the others.
    pub fn pass_on(&mut self, from: usize, around: &mut Surroundings<'_>) {
        if self.shards.is_none() {
            return;
        }
        let passed = self.servers[from].take_outbox();
        let is_cut_off = |shards: &Shards, node: usize| shards.standings[node].is_cut_off;
        for passed in passed {
            for to in (0..self.servers.len()).filter(|to| *to != from) {
                let Some(shards) = &mut self.shards else { return };
                let is_of_shard = to % shards.traits.shards == from % shards.traits.shards;
                let is_told = is_of_shard || shards.traits.pubsub == ClusterPubSub::Classic;
                if !is_told || is_cut_off(shards, from) || is_cut_off(shards, to) || !self.servers[to].up {
                    continue;
                }
                let delay = shards.traits.passes.draw(&mut shards.rng);
                let at = shards.passes.entry((from, to)).or_default();
                *at = (*at).max(around.timeline.now + delay);
                self.servers[to].pass(*at, passed.clone(), &mut around.timeline);
            }
        }
    }

    /// A node cannot reach the others, or can again.
    pub fn cut_off(&mut self, node: usize, is_cut_off: bool) {
        if let Some(shards) = &mut self.shards {
            shards.standings[node].is_cut_off = is_cut_off;
        }
    }

    /// An instance and a node do not reach each other, or do again.
    pub fn cut(&mut self, place: usize, node: usize, is_cut: bool) {
        if let Some(shards) = &mut self.shards {
            match is_cut {
                true => shards.cuts.insert((place, node)),
                false => shards.cuts.remove(&(place, node)),
            };
        }
    }

    /// Whether they do.
    pub fn is_cut(&self, place: usize, node: usize) -> bool {
        self.shards.as_ref().is_some_and(|shards| shards.cuts.contains(&(place, node)))
    }

    /// Nodes look for each other. Whoever is missing for too long is replaced by its replica, if enough of them can elect it.
    ///
    /// # Errors
    /// What the reference does not allow.
    pub fn look(&mut self, around: &mut Surroundings<'_>) -> Result<(), String> {
        if self.shards.is_none() {
            return Ok(());
        }
        let now = around.timeline.now;
        for node in 0..self.servers.len() {
            let is_there = self.reaches(node);
            let is_down = !self.servers[node].up;
            let Some(Shards { traits, rng, standings, .. }) = &mut self.shards else { return Ok(()) };
            let standing = &mut standings[node];
            match standing.missing_since {
                None if !is_there => {
                    standing.missing_since = Some(now);
                    standing.elected_at = now + traits.node_timeout + traits.elects.draw(rng);
                    around.timeline.at(now + traits.node_timeout, Happening::Looks);
                    around.timeline.at(standing.elected_at, Happening::Looks);
                }
                Some(since) if is_there => {
                    // Whoever was only held up goes on as before.
                    let has_left = standing.was_down || standing.is_cut_off || now >= since + traits.node_timeout;
                    standing.missing_since = None;
                    standing.rejoins_at = if has_left { now + traits.rejoins.draw(rng) } else { now };
                    around.timeline.at(standing.rejoins_at, Happening::Looks);
                    around.timeline.after(traits.learns.draw(rng), Happening::NodeLearns(node));
                }
                _ => {}
            }
            standing.was_down = is_down;
        }
        self.elect(around)?;
        self.judge(now);
        self.look_for_replicas();
        Ok(())
    }

    fn is_lost(&self, node: usize, now: u64) -> bool {
        let Some(shards) = &self.shards else { return false };
        shards.standings[node].missing_since.is_some_and(|since| since + shards.traits.node_timeout <= now)
    }

    fn elect(&mut self, around: &mut Surroundings<'_>) -> Result<(), String> {
        let now = around.timeline.now;
        let masters = self.masters();
        for (shard, master) in masters.iter().copied().enumerate() {
            let Some(shards) = &self.shards else { return Ok(()) };
            let voters = masters.iter().filter(|master| self.reaches(**master)).count();
            let replica = other_of(master, masters.len());
            let is_due = self.is_lost(master, now) && shards.standings[master].elected_at <= now;
            if is_due && voters * 2 > masters.len() && self.reaches(replica) && !shards.is_moving(shard) {
                self.promote(shard, around)?;
            }
        }
        Ok(())
    }

    /// Each node finds out whether the Cluster is well, as far as it can see.
    fn judge(&mut self, now: u64) {
        let masters = self.masters();
        let lost = masters.iter().filter(|master| self.is_lost(**master, now)).count();
        for node in 0..self.servers.len() {
            let Some(shards) = &self.shards else { return };
            let standing = shards.standings[node];
            let is_down = match standing.is_cut_off {
                true => self.is_lost(node, now),
                false => lost > 0,
            };
            self.servers[node].set_down(is_down || now < standing.rejoins_at);
        }
    }

    /// The replica of a shard takes its master's place, with what it has.
    fn promote(&mut self, shard: usize, around: &mut Surroundings<'_>) -> Result<(), String> {
        let Some(shards) = &mut self.shards else { return Ok(()) };
        let from = shards.map.masters[shard];
        let to = other_of(from, shards.traits.shards);
        trace!(around.trace, around.timeline, "node {to} takes the place of {from}");
        shards.map.masters[shard] = to;
        let map = shards.map.clone();
        shards.plan_learning(around);
        let kept = self.servers[from].left_to_replica();
        self.servers[to].promote(kept);
        self.servers[to].drop_foreign(&map, &ROOMS);
        self.servers[to].learn(&map, around)?;
        if self.known.server == from {
            self.known.server = to;
        }
        Ok(())
    }

    /// `CLUSTER FAILOVER` at the replica of a master: it has everything, and both know at once. Says whether that was possible.
    ///
    /// # Errors
    /// What the reference does not allow.
    pub fn change_places(&mut self, master: usize, around: &mut Surroundings<'_>) -> Result<bool, String> {
        let Some(shards) = &self.shards else { return Ok(false) };
        let Some(shard) = shards.map.masters.iter().position(|of| *of == master) else { return Ok(false) };
        let replica = other_of(master, shards.traits.shards);
        if !self.reaches(master) || !self.reaches(replica) || shards.is_moving(shard) {
            return Ok(false);
        }
        self.servers[master].replicate(around);
        self.promote(shard, around)?;
        self.tell(master, around)?;
        self.look(around)?;
        Ok(true)
    }

    /// A node learns what most of them agree on, if it reaches them.
    ///
    /// # Errors
    /// What the reference does not allow.
    pub fn tell(&mut self, node: usize, around: &mut Surroundings<'_>) -> Result<(), String> {
        let Some(shards) = self.shards.as_ref().filter(|_| self.reaches(node)) else { return Ok(()) };
        let map = shards.map.clone();
        self.servers[node].learn(&map, around)?;
        self.look_for_replicas();
        Ok(())
    }

    /// A master has a replica that follows it, or not.
    pub(super) fn look_for_followers(&mut self) {
        let masters = self.masters();
        for node in 0..self.servers.len() {
            let other = other_of(node, masters.len());
            let follows = self.reaches(node) && self.reaches(other) && self.servers[other].is_replica();
            self.servers[node].is_cut_off = !(masters.contains(&node) && follows);
        }
    }

    /// A slot begins to move to another shard, if none does. Says whether it does.
    pub fn move_slot(&mut self, slot: u16, to: usize, around: &mut Surroundings<'_>) -> bool {
        let Some(shards) = &self.shards else { return false };
        let from = shards.map.shard(slot);
        let (source, target) = (shards.map.masters[from], shards.map.masters[to]);
        let is_able = |node: usize| self.reaches(node) && self.servers[node].knows(&shards.map);
        if from == to || shards.moving.is_some() || !is_able(source) || !is_able(target) {
            return false;
        }
        trace!(around.trace, around.timeline, "slot {slot} moves from node {source} to node {target}");
        self.servers[source].migrates(slot, target);
        self.servers[target].imports(slot);
        if let Some(shards) = &mut self.shards {
            shards.moving = Some(Moving { slot, from, to });
        }
        self.plan_move(around);
        true
    }

    fn plan_move(&mut self, around: &mut Surroundings<'_>) {
        if let Some(Shards { traits, rng, .. }) = &mut self.shards {
            around.timeline.after(traits.moves.draw(rng), Happening::Moves);
        }
    }

    /// One more key of the slot that moves does, or it settles where it moves to.
    ///
    /// # Errors
    /// What the reference does not allow.
    pub fn go_on_moving(&mut self, around: &mut Surroundings<'_>) -> Result<(), String> {
        let Some(shards) = &mut self.shards else { return Ok(()) };
        let Some(Moving { slot, from, to }) = shards.moving else { return Ok(()) };
        let (source, target) = (shards.map.masters[from], shards.map.masters[to]);
        if !self.reaches(source) || !self.reaches(target) {
            self.plan_move(around);
            return Ok(());
        }
        if self.move_key(slot, source, target, around) || self.shards.as_ref().is_some_and(|shards| shards.is_held) {
            self.plan_move(around);
            return Ok(());
        }
        let Some(shards) = &mut self.shards else { return Ok(()) };
        trace!(around.trace, around.timeline, "slot {slot} settles at node {target}");
        shards.moving = None;
        shards.map.moves(slot, to);
        let map = shards.map.clone();
        shards.plan_learning(around);
        self.servers[target].learn(&map, around)
    }

    /// The slot of a room moves to the next shard with all its keys at once, and does not settle. Says whether it does.
    pub fn hold_on_the_way(&mut self, room: usize, around: &mut Surroundings<'_>) -> bool {
        let Some(shards) = &mut self.shards else { return false };
        let slot = shards.slot(room);
        let to = (shards.map.shard(slot) + 1) % shards.map.masters.len();
        let (source, target) = (shards.map.master(slot), shards.map.masters[to]);
        shards.is_held = true;
        let moves = self.move_slot(slot, to, around);
        while moves && self.move_key(slot, source, target, around) {}
        moves
    }

    /// What moves may settle. Says whether anything moves still.
    pub fn let_settle(&mut self) -> bool {
        let Some(shards) = &mut self.shards else { return false };
        shards.is_held = false;
        shards.moving.is_some()
    }

    /// Moves one key, if there is any.
    fn move_key(&mut self, slot: u16, source: usize, target: usize, around: &mut Surroundings<'_>) -> bool {
        let keys = self.servers[source].keys_in(slot, &ROOMS);
        let Some(shards) = self.shards.as_mut().filter(|_| !keys.is_empty()) else { return false };
        let key = keys[shards.rng.usize(0..keys.len())];
        trace!(around.trace, around.timeline, "{key:?} moves from node {source} to node {target}");
        // What was stored before is ahead of this on the way to the replica, and a `WAIT` for it looks at no key.
        self.servers[source].replicate(around);
        let kept = self.servers[source].give(key);
        self.servers[target].take(kept);
        true
    }

    /// Everything is well from now on: what moves has moved, and all know the same.
    ///
    /// # Errors
    /// What the reference does not allow.
    pub fn heal_shards(&mut self, around: &mut Surroundings<'_>) -> Result<(), String> {
        let Some(shards) = &mut self.shards else { return Ok(()) };
        shards.cuts.clear();
        shards.standings.iter_mut().for_each(|standing| *standing = Standing::default());
        while self.shards.as_ref().is_some_and(|shards| shards.moving.is_some()) {
            self.go_on_moving(around)?;
        }
        for node in 0..self.servers.len() {
            self.tell(node, around)?;
        }
        self.look(around)
    }

    /// Whether every instance has as many connections to each master as it needs, and one more to whichever node.
    ///
    /// # Errors
    /// Where it is not so.
    pub(super) fn check_shards(&self, shards: &Shards, of_each: usize, instances: usize) -> Result<(), String> {
        let connections: Vec<usize> = self.servers.iter().map(|server| server.wires().len()).collect();
        let used = shards.used();
        let needed = |node: usize| if used.contains(&node) { of_each * instances } else { 0 };
        let mut spare = 0;
        for (node, connections) in connections.iter().enumerate() {
            match connections.checked_sub(needed(node)) {
                Some(more) => spare += more,
                None => spare = usize::MAX / 2,
            }
        }
        if spare == instances {
            return Ok(());
        }
        Err(format!("connections to nodes: {connections:?}, of which {used:?} are needed; of {instances} instances"))
    }
}
