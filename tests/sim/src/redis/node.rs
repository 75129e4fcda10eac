//! What a redis-server does as a node of a Cluster: it refuses what belongs to slots of others, as redis-server 7.0.15 was seen to do in a
//! Cluster of three masters with a replica each; it passes on what is published; and it takes subscriptions back when slots leave it.
//!
//! What was seen, and is easily taken for otherwise:
//! - A replica takes `SSUBSCRIBE`, `SUNSUBSCRIBE` and `SPUBLISH` for its master's slots. Scripts, also those that read, it sends on (`MOVED`).
//!   What is published by `SPUBLISH` at one node of a shard is heard at all of them.
//! - While a slot moves, its old node runs scripts whose keys are all there, sends on (`ASK`) those of which none is, and puts off
//!   (`TRYAGAIN`) the others: so also those of a room that has a hash and no stream. The new node sends everything back (`MOVED`), but for what
//!   follows an `ASKING`; of that it puts off what has several keys of which any is missing. It runs what has one key, missing or not.
//!   `ASKING` is for one command, whatever becomes of that.
//! - `SPUBLISH` and `SSUBSCRIBE` are done by the old node all the time, and by the new one behind an `ASKING`: the two have each their subscribers.
//! - When the slot has settled, the old node ends the subscriptions that it has there by an unasked `sunsubscribe`. A demoted master does
//!   so with all that it has, keeps its connections, and takes subscriptions as a replica at once.
//! - `SUNSUBSCRIBE` for another node's slot is sent on as well, and what names two slots is refused (`CROSSSLOT`).
//! - A node in the minority, or one that has just started, says `CLUSTERDOWN` to what has keys. Publishing, subscribing and `ROLE` go on.
//!   While a master is missing and nobody has taken its place, all nodes are like that.

use super::Redis;
use super::scripts::{Kept, KeyOf};
use crate::cluster::Surroundings;
use crate::network::WireId;
use crate::resp;
use crate::slotted::Slotted;
use crate::timeline::{Happening, Timeline};
use crate::trace;
use fanfare_core::broker::redis::{Address, ClusterPubSub, partition_of, slot_of_partition};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// How many slots there are.
pub const SLOTS: usize = 16_384;

const TRYAGAIN: &str = "-TRYAGAIN Multiple keys request during rehashing of slot\r\n";
const CROSSSLOT: &str = "-CROSSSLOT Keys in request don't hash to the same slot\r\n";
const CLUSTERDOWN: &str = "-CLUSTERDOWN The cluster is down\r\n";

/// Who has which slots. A *shard* is a master with its replicas: it has slots, and one of its nodes is the master.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotMap {
    /// Slots that are not where they were in the beginning, in equal parts.
    moved: BTreeMap<u16, usize>,
    /// The master of each shard.
    pub masters: Vec<usize>,
}

impl SlotMap {
    /// Of so many shards the first nodes are the masters.
    pub fn new(shards: usize) -> SlotMap {
        SlotMap { moved: BTreeMap::new(), masters: (0..shards).collect() }
    }

    /// The shard that has the slot.
    pub fn shard(&self, slot: u16) -> usize {
        self.moved.get(&slot).copied().unwrap_or(usize::from(slot) * self.masters.len() / SLOTS)
    }

    /// The master that has the slot.
    pub fn master(&self, slot: u16) -> usize {
        self.masters[self.shard(slot)]
    }

    /// The slot is another shard's from now on.
    pub fn moves(&mut self, slot: u16, shard: usize) {
        self.moved.insert(slot, shard);
    }

    /// All slots: the first and last ones in a row, and whose they are.
    fn ranges(&self) -> Vec<(u16, u16, usize)> {
        let mut starts: BTreeSet<usize> =
            (0..self.masters.len()).map(|shard| (shard * SLOTS).div_ceil(self.masters.len())).collect();
        starts.extend(self.moved.keys().flat_map(|slot| [usize::from(*slot), usize::from(*slot) + 1]));
        starts.remove(&SLOTS);
        let mut ranges: Vec<(u16, u16, usize)> = Vec::new();
        let ends = starts.iter().skip(1).copied().chain([SLOTS]);
        for (start, end) in starts.iter().zip(ends) {
            let (first, last, shard) = (*start as u16, (end - 1) as u16, self.shard(*start as u16));
            match ranges.last_mut() {
                Some((_, before, of)) if *of == shard => *before = last,
                _ => ranges.push((first, last, shard)),
            }
        }
        ranges
    }
}

/// What is published at one node and told to the others.
#[derive(Clone, Debug)]
pub struct Passed {
    channel: Vec<u8>,
    payload: Vec<u8>,
    /// The room and the number there, unless it is no message.
    at: Option<(usize, usize)>,
}

/// A node.
#[derive(Debug)]
pub(super) struct Node {
    number: usize,
    /// Among how many are shards.
    shard: usize,
    pub partitions: u16,
    pub pubsub: ClusterPubSub,
    /// What it knows.
    map: SlotMap,
    /// Slots that are on their way to other nodes, and the keys that are there.
    migrating: BTreeMap<u16, usize>,
    moved: BTreeSet<KeyOf>,
    /// Slots that are on their way here.
    importing: BTreeSet<u16>,
    /// It takes the Cluster to be down.
    is_down: bool,
    /// What others have passed on, and when it comes.
    inbox: VecDeque<(u64, Passed)>,
    /// What it has to pass on.
    outbox: Vec<Passed>,
}

/// What a command is about.
struct About {
    slot: u16,
    is_pubsub: bool,
    /// How many of its keys there are here, and how many it names.
    keys: (usize, usize),
}

impl Node {
    pub fn new(slotted: &Slotted, number: usize) -> Node {
        Node {
            number,
            shard: number % slotted.shards,
            partitions: slotted.partitions,
            pubsub: slotted.pubsub,
            map: SlotMap::new(slotted.shards),
            migrating: BTreeMap::new(),
            moved: BTreeSet::new(),
            importing: BTreeSet::new(),
            is_down: false,
            inbox: VecDeque::new(),
            outbox: Vec::new(),
        }
    }

    pub fn forget_moved(&mut self) {
        self.moved.clear();
    }

    /// What it says to a command instead of doing it.
    fn refusal(&self, about: &About, is_asking: bool, is_replica: bool) -> Option<String> {
        let &About { slot, is_pubsub, keys: (present, named) } = about;
        if self.is_down && !is_pubsub {
            return Some(CLUSTERDOWN.to_owned());
        }
        let (shard, master) = (self.map.shard(slot), self.map.master(slot));
        if master == self.number {
            return match self.migrating.get(&slot) {
                Some(to) if !is_pubsub && present == 0 => Some(redirect("ASK", slot, *to)),
                Some(_) if !is_pubsub && present < named => Some(TRYAGAIN.to_owned()),
                _ => None,
            };
        }
        if is_asking && self.importing.contains(&slot) {
            return (!is_pubsub && named > 1 && present < named).then(|| TRYAGAIN.to_owned());
        }
        if is_pubsub && is_replica && shard == self.shard {
            return None;
        }
        Some(redirect("MOVED", slot, master))
    }

    fn say_slots(&self, out: &mut Vec<u8>) {
        let ranges = self.map.ranges();
        resp::push(out, false, ranges.len());
        for (first, last, shard) in ranges {
            let master = self.map.masters[shard];
            let replica = other_of(master, self.map.masters.len());
            resp::push(out, false, 4);
            resp::integer(out, first.into());
            resp::integer(out, last.into());
            for number in [master, replica] {
                resp::push(out, false, 4);
                resp::bulk(out, b"127.0.0.1");
                resp::integer(out, usize::from(Address::PORT_DEFAULT) + number);
                resp::bulk(out, format!("{number:040x}").as_bytes());
                resp::push(out, false, 0);
            }
        }
    }
}

/// The other node of its shard, where there are so many shards.
pub fn other_of(node: usize, shards: usize) -> usize {
    (node + shards) % (2 * shards)
}

fn redirect(word: &str, slot: u16, node: usize) -> String {
    format!("-{word} {slot} 127.0.0.1:{}\r\n", usize::from(Address::PORT_DEFAULT) + node)
}

/// The slot of what has the number of a partition between its first braces.
fn slot_of(name: &[u8]) -> Result<u16, String> {
    let parse = || {
        let name = std::str::from_utf8(name).ok()?;
        let partition = name.split_once('{')?.1.split_once('}')?.0;
        partition.parse().ok().map(slot_of_partition)
    };
    parse().ok_or_else(|| format!("of no partition: {}", String::from_utf8_lossy(name)))
}

impl Redis {
    /// Says what a node says where another server would do something, or where it alone can do something. Says whether it did.
    ///
    /// # Errors
    /// What no instance should say to it.
    pub(super) fn has_said_as_a_node(
        &mut self,
        wire: WireId,
        name: &str,
        words: &[&[u8]],
        around: &mut Surroundings<'_>,
    ) -> Result<bool, String> {
        let Some(connection) = self.connections.get_mut(&wire).filter(|connection| connection.authenticated) else {
            return Ok(false);
        };
        let is_asking = std::mem::replace(&mut connection.asking, name == "ASKING");
        if let Some(refusal) = self.refusal(name, &words[1..], is_asking)? {
            trace!(around.trace, around.timeline, "redis {}: {} to {name} on wire {wire}", self.number, refusal.trim());
            self.answer(wire, |out| out.extend_from_slice(refusal.as_bytes()));
            let said = self.connections.get(&wire).map_or(0, |connection| connection.said);
            around.reference.put_off(words.last().copied().unwrap_or_default(), wire, said);
            return Ok(true);
        }
        let Some(node) = &self.node else { return Ok(false) };
        let mut out = Vec::new();
        match (name, &words[1..]) {
            ("ASKING", []) => out.extend_from_slice(b"+OK\r\n"),
            ("CLUSTER", [b"INFO"]) => {
                let state = if node.is_down { "fail" } else { "ok" };
                resp::bulk(&mut out, format!("cluster_state:{state}\r\ncluster_slots_assigned:16384\r\n").as_bytes());
            }
            ("CLUSTER", [b"SLOTS"]) => node.say_slots(&mut out),
            ("SETNX" | "GET", _) if self.loading || self.busy => return Ok(false),
            ("SETNX", [_, layout]) => {
                let is_new = self.data.kept.layout.is_none();
                self.data.kept.layout.get_or_insert(layout.to_vec());
                resp::integer(&mut out, is_new.into());
            }
            ("GET", [_]) => match &self.data.kept.layout {
                Some(layout) => resp::bulk(&mut out, layout),
                None => out.extend_from_slice(b"$-1\r\n"),
            },
            _ => return Ok(false),
        }
        self.answer(wire, |to| to.extend_from_slice(&out));
        Ok(true)
    }

    fn refusal(&self, name: &str, arguments: &[&[u8]], is_asking: bool) -> Result<Option<String>, String> {
        let Some(node) = &self.node else { return Ok(None) };
        let is_pubsub = matches!(name, "SSUBSCRIBE" | "SUNSUBSCRIBE" | "SPUBLISH");
        let named: &[&[u8]] = match (name, arguments) {
            ("SSUBSCRIBE" | "SUNSUBSCRIBE", channels) => channels,
            ("SPUBLISH" | "SETNX" | "GET", [first, ..]) => std::slice::from_ref(first),
            ("EVALSHA", [_, b"2", keys @ ..]) => &keys[..2.min(keys.len())],
            _ => return Ok(None),
        };
        let slots = named.iter().map(|name| slot_of(name)).collect::<Result<BTreeSet<_>, _>>()?;
        let Some(slot) = slots.first().copied() else { return Ok(None) };
        if slots.len() > 1 {
            return Ok(Some(CROSSSLOT.to_owned()));
        }
        let present = match name {
            "EVALSHA" => {
                let room = self.room_of(named[0], "meta")?;
                self.data.kept.keys_of(room).filter(|key| !node.moved.contains(key)).count()
            }
            _ => usize::from(self.data.kept.layout.is_some() && !node.moved.contains(&KeyOf::Layout)),
        };
        Ok(node.refusal(&About { slot, is_pubsub, keys: (present, named.len()) }, is_asking, self.is_replica))
    }

    /// Has what is published told to others.
    pub(super) fn pass_on(&mut self, channel: &[u8], payload: &[u8], at: Option<(usize, usize)>) {
        if let Some(node) = &mut self.node {
            node.outbox.push(Passed { channel: channel.to_vec(), payload: payload.to_vec(), at });
        }
    }

    /// What is to be told to others: to all of them, or to its shard only.
    pub fn take_outbox(&mut self) -> Vec<Passed> {
        self.node.as_mut().map(|node| std::mem::take(&mut node.outbox)).unwrap_or_default()
    }

    /// Another one passes something on, which comes at this time.
    pub fn pass(&mut self, at: u64, passed: Passed, timeline: &mut Timeline) {
        let Some(node) = &mut self.node else { return };
        let place = node.inbox.partition_point(|(other, _)| *other <= at);
        node.inbox.insert(place, (at, passed));
        timeline.at(at, Happening::Redis(self.number));
    }

    /// Tells of what others have passed on.
    pub(super) fn take_passed(&mut self, around: &mut Surroundings<'_>) -> Result<(), String> {
        loop {
            let Some(node) = &mut self.node else { return Ok(()) };
            if node.inbox.front().is_none_or(|(at, _)| *at > around.timeline.now) {
                return Ok(());
            }
            let Some((_, Passed { channel, payload, at })) = node.inbox.pop_front() else { return Ok(()) };
            let (_, sent) = self.tell_subscribers(&channel, &payload);
            if let Some(at) = at {
                trace!(around.trace, around.timeline, "redis {}: passes on {at:?} to {sent:?}", self.number);
                around.reference.passed_on(at, &sent)?;
            }
        }
    }

    /// It is no more, or was cut off: nothing comes of what was on its way.
    pub fn lose_passed(&mut self) {
        if let Some(node) = &mut self.node {
            (node.inbox, node.outbox) = (VecDeque::new(), Vec::new());
        }
    }

    /// It takes the Cluster to be down, or not.
    pub fn set_down(&mut self, is_down: bool) {
        if let Some(node) = &mut self.node {
            node.is_down = is_down;
        }
    }

    /// It learns who has which slots. Subscriptions in slots that have left it, or its master, are over; and all of them if it was the master.
    ///
    /// # Errors
    /// What the reference does not allow.
    pub fn learn(&mut self, map: &SlotMap, around: &mut Surroundings<'_>) -> Result<(), String> {
        let Some(node) = &mut self.node else { return Ok(()) };
        if node.map == *map {
            return Ok(());
        }
        let (shard, number) = (node.shard, node.number);
        let before = std::mem::replace(&mut node.map, map.clone());
        node.migrating.retain(|slot, _| map.shard(*slot) == shard);
        node.importing.retain(|slot| map.shard(*slot) != shard);
        let was_master = before.masters[shard] == number;
        let is_master = map.masters[shard] == number;
        trace!(around.trace, around.timeline, "redis {number} learns {map:?}");
        if was_master && !is_master {
            self.demote(true);
        }
        let is_over = |slot| before.shard(slot) == shard && (map.shard(slot) != shard || was_master && !is_master);
        if self.names().is_sharded() {
            self.withdraw(is_over, around)?;
        }
        self.wake(&mut around.timeline);
        Ok(())
    }

    /// Ends the subscriptions in these slots.
    fn withdraw(&mut self, is_over: impl Fn(u16) -> bool, around: &mut Surroundings<'_>) -> Result<(), String> {
        for wire in self.wires() {
            let Some(connection) = self.connections.get(&wire) else { continue };
            let mut over = Vec::new();
            for channel in &connection.channels {
                if is_over(slot_of(channel)?) {
                    over.push(channel.clone());
                }
            }
            for channel in over {
                let (is_no_room, room) = (self.is_no_room(&channel), self.name_of(&channel)?.to_owned());
                let Some(connection) = self.connections.get_mut(&wire) else { continue };
                connection.channels.remove(&channel);
                let (resp3, left) = (connection.resp3, connection.channels.len());
                trace!(around.trace, around.timeline, "redis {}: ends {room} on wire {wire}", self.number);
                self.answer(wire, |out| {
                    resp::push(out, resp3, 3);
                    resp::bulk(out, b"sunsubscribe");
                    resp::bulk(out, &channel);
                    resp::integer(out, left);
                });
                if !is_no_room {
                    around.reference.withdrawn(wire, &room, self.connections[&wire].said)?;
                }
            }
        }
        Ok(())
    }

    /// Whether it knows who has which slots.
    pub fn knows(&self, map: &SlotMap) -> bool {
        self.node.as_ref().is_some_and(|node| node.map == *map)
    }

    /// A slot is on its way from here to another node.
    pub fn migrates(&mut self, slot: u16, to: usize) {
        if let Some(node) = &mut self.node {
            node.migrating.insert(slot, to);
        }
    }

    /// A slot is on its way here.
    pub fn imports(&mut self, slot: u16) {
        if let Some(node) = &mut self.node {
            node.importing.insert(slot);
        }
    }

    /// The keys of a slot that have yet to leave.
    pub fn keys_in(&self, slot: u16, rooms: &[&str]) -> Vec<KeyOf> {
        let Some(node) = &self.node else { return Vec::new() };
        let is_in = |partition| slot_of_partition(partition) == slot;
        let rooms = (0..rooms.len()).filter(|room| is_in(partition_of(rooms[*room], node.partitions)));
        let layout = (is_in(0) && self.data.kept.layout.is_some()).then_some(KeyOf::Layout);
        let keys = rooms.flat_map(|room| self.data.kept.keys_of(room)).chain(layout);
        keys.filter(|key| !node.moved.contains(key)).collect()
    }

    /// A key leaves for another node. What is moved in one piece here goes when the last of its keys does: until then nobody can use it.
    pub fn give(&mut self, key: KeyOf) -> Kept {
        let Some(node) = &mut self.node else { return Kept::default() };
        node.moved.insert(key);
        let is_whole = match key {
            KeyOf::Layout => true,
            KeyOf::Meta(room) | KeyOf::Log(room) => self.data.kept.keys_of(room).all(|key| node.moved.contains(&key)),
        };
        if !is_whole {
            return Kept::default();
        }
        match key {
            KeyOf::Layout => drop(node.moved.remove(&key)),
            KeyOf::Meta(room) | KeyOf::Log(room) => {
                node.moved.retain(|of| !matches!(of, KeyOf::Meta(of) | KeyOf::Log(of) if *of == room));
            }
        }
        self.data.kept.take(key)
    }

    /// Keys come from another node.
    pub fn take(&mut self, kept: Kept) {
        self.data.kept.put(kept);
    }

    /// Drops what is in no slot of its shard: a replica that becomes the master may have it from before a slot has moved.
    pub fn drop_foreign(&mut self, map: &SlotMap, rooms: &[&str]) {
        let Some(node) = &self.node else { return };
        let shard = node.shard;
        let is_foreign = |partition| map.shard(slot_of_partition(partition)) != shard;
        let rooms: Vec<usize> =
            (0..rooms.len()).filter(|room| is_foreign(partition_of(rooms[*room], node.partitions))).collect();
        if is_foreign(0) {
            self.data.kept.layout = None;
        }
        for room in rooms {
            self.data.kept.take(KeyOf::Meta(room));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::{Narrowed, Options};

    /// A slot of the first of three masters.
    const SLOT: u16 = 7;

    fn node(number: usize) -> Node {
        let slotted = (6..).step_by(16).find_map(|seed| Options::draw(seed, &Narrowed::default()).slotted);
        let mut node = Node::new(&slotted.expect("these seeds have a Cluster"), number);
        (node.shard, node.map) = (number % 3, SlotMap::new(3));
        node
    }

    /// The first word of what it says to a command with two keys, of which so many are there.
    fn script(node: &Node, present: usize, is_asking: bool) -> String {
        said(node, &About { slot: SLOT, is_pubsub: false, keys: (present, 2) }, is_asking)
    }

    fn pubsub(node: &Node, is_asking: bool) -> String {
        said(node, &About { slot: SLOT, is_pubsub: true, keys: (0, 1) }, is_asking)
    }

    fn said(node: &Node, about: &About, is_asking: bool) -> String {
        let refusal = node.refusal(about, is_asking, node.map.masters[node.shard] != node.number);
        refusal.map_or("does".to_owned(), |text| text.split(' ').next().unwrap_or_default().to_owned())
    }

    #[test]
    fn a_replica_takes_what_is_published_and_no_scripts() {
        for (number, scripts, published) in [(0, "does", "does"), (1, "-MOVED", "-MOVED"), (3, "-MOVED", "does")] {
            let node = node(number);
            assert_eq!(
                (&script(&node, 2, false)[..], &pubsub(&node, false)[..]),
                (scripts, published),
                "node {number}"
            );
        }
    }

    #[test]
    fn while_a_slot_moves_keys_decide_at_the_old_node_and_asking_at_the_new_one() {
        let (mut old, mut new) = (node(0), node(1));
        old.migrating.insert(SLOT, 1);
        new.importing.insert(SLOT);
        for (present, at_old, asking) in [(2, "does", "does"), (1, "-TRYAGAIN", "-TRYAGAIN"), (0, "-ASK", "-TRYAGAIN")]
        {
            assert_eq!(script(&old, present, false), at_old, "{present} keys are there");
            assert_eq!(script(&new, present, true), asking, "{present} keys are there");
            assert_eq!(script(&new, present, false), "-MOVED");
        }
        let single = About { slot: SLOT, is_pubsub: false, keys: (0, 1) };
        assert_eq!([said(&old, &single, false), said(&new, &single, true)], ["-ASK", "does"]);
        assert_eq!([pubsub(&old, false), pubsub(&new, false), pubsub(&new, true)], ["does", "-MOVED", "does"]);
    }

    #[test]
    fn a_node_that_takes_the_cluster_to_be_down_publishes_all_the_same() {
        let mut node = node(0);
        node.is_down = true;
        assert_eq!([script(&node, 2, false), pubsub(&node, false)], ["-CLUSTERDOWN", "does"]);
    }

    #[test]
    fn all_slots_are_somebodys() {
        let mut map = SlotMap::new(3);
        for (slot, shard) in [(0, 1), (5_460, 2), (5_461, 0), (16_383, 0), (0, 0)] {
            map.moves(slot, shard);
            let ranges = map.ranges();
            assert_eq!((ranges[0].0, ranges[ranges.len() - 1].1), (0, 16_383));
            assert!(ranges.windows(2).all(|two| two[0].1 + 1 == two[1].0 && two[0].2 != two[1].2), "{ranges:?}");
            let of = |slot: u16| {
                ranges.iter().find(|(first, last, _)| (*first..=*last).contains(&slot)).map(|range| range.2)
            };
            assert!(
                [0, 1, 5_459, 5_460, 5_461, 5_462, 16_383].into_iter().all(|slot| of(slot) == Some(map.shard(slot)))
            );
        }
    }
}
