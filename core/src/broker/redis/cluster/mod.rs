//! The masters of a Cluster as one broker. A session speaks to each master that has partitions of ours, a scout asks where these are, and what
//! is here sends each room's business to the right one.
//!
//! A partition that goes to another node, or whose node is lost, loses its subscriptions: the hub is told ([`BrokerEvent::Lost`]) and asks
//! again. What it asks meanwhile waits here. A publish that a node sends on to another one was not done, so it goes there, behind all that
//! was said to its partition before.
//!
//! While a slot is on its way, the new node stores and the old one has the subscribers. So what the new one has stored is announced at the old
//! one.

mod asking;
mod fencing;
mod node;
mod presence;
mod routes;
mod scout;
mod waiting;

use super::link_id::{LinkId, Role};
use super::names::{ClusterPubSub, SLOTS};
use super::presence::{Instance, Keeper};
use super::queue::EventQueue;
use super::session::RedisSession;
use super::subscriber::Operation;
use super::{Address, ConnectionRequest, LinkState, LinkStats, RedisConfig, RedisStats};
use crate::broker::{BrokerEvent, Partitions};
use crate::time::Time;
use fencing::Fencing;
use node::Node;
use routes::Routes;
use scout::{NODES_MAX, Range, Scout};
use std::collections::BTreeMap;
use std::time::Duration;
use waiting::Waiting;

/// Rooms that are asked for at a time when a node is back: messages of others flow in between.
const SUBSCRIBE_BATCH: usize = 512;
/// How often what the instances have to agree on is asked again while they do not.
const LAYOUT_INTERVAL: Duration = Duration::from_secs(5);
/// The same while nobody can say.
const LAYOUT_AGAIN: Duration = Duration::from_millis(200);

/// The place of the scout among the links; those of the nodes follow.
const SCOUT: usize = 0;

/// What the instances have to agree on.
#[derive(Debug, PartialEq, Eq)]
enum Layout {
    Unknown,
    /// It is asked for.
    Asked,
    /// Nobody could say, and is asked again.
    PutOff,
    Agreed,
    /// Why not, for people.
    Differs(String),
}

/// What is asked about subscriptions and is not sent yet.
type Unsent = Vec<(Operation, Box<str>)>;

/// A Cluster.
#[derive(Debug)]
pub(super) struct Cluster {
    config: RedisConfig,
    partitions: u16,
    pubsub: ClusterPubSub,
    scout: Scout,
    /// By the places of their links.
    nodes: Vec<Option<Node>>,
    routes: Routes,
    /// Where all rooms are subscribed to, where each node passes on what is published at any.
    home: Option<usize>,
    /// What is to be published, stored or read.
    waiting: Waiting,
    /// What is asked about subscriptions, by the partitions of which there is anything.
    unsent: BTreeMap<u16, Unsent>,
    /// Subscriptions that were lost, of which the hub has to hear.
    lost: Partitions,
    events: EventQueue,
    fencing: Fencing,
    /// Who is in a room, where that is kept.
    keeper: Option<Keeper>,
    layout: Layout,
    layout_at: Time,
    /// What the hub has heard: whether it can subscribe, whether it can publish, and what is amiss.
    is_up: bool,
    is_publisher_up: bool,
    told: Option<String>,
    told_publisher: Option<String>,
    /// Something has changed of which the hub may have to hear.
    is_news: bool,
    /// Time has passed, so that something that waits may be due.
    is_due: bool,
    now: Time,
    /// How many sessions have been made, and how many random numbers drawn.
    made: u64,
    drawn: u64,
    /// Publishes without an id that were not made.
    dropped: u64,
    /// Of nodes that were left.
    past: Past,
    notice: Option<String>,
    switches: u64,
}

/// Counts of sessions that are no more.
#[derive(Clone, Copy, Debug, Default)]
struct Past {
    reconnects: u64,
    dropped: u64,
    unannounced: u64,
    unreplicated: u64,
    oversized: u64,
    ignored: u64,
}

impl Cluster {
    /// Its first attempt to connect to one of these nodes is due at once.
    pub(super) fn new(nodes: &[Address], (partitions, pubsub): (u16, ClusterPubSub), config: RedisConfig) -> Cluster {
        Cluster {
            partitions,
            pubsub,
            scout: Scout::new(nodes, config.seed),
            nodes: Vec::new(),
            routes: Routes::new(partitions),
            home: None,
            waiting: Waiting::new(partitions),
            unsent: BTreeMap::new(),
            lost: Partitions::none_of(partitions),
            events: EventQueue::default(),
            fencing: Fencing::default(),
            keeper: Keeper::new(&config),
            layout: Layout::Unknown,
            layout_at: Time::ZERO,
            is_up: false,
            is_publisher_up: false,
            told: None,
            told_publisher: None,
            is_news: false,
            is_due: false,
            now: Time::ZERO,
            made: 0,
            drawn: 0,
            dropped: 0,
            past: Past::default(),
            notice: None,
            switches: 0,
            config,
        }
    }

    fn is_sharded(&self) -> bool {
        self.pubsub == ClusterPubSub::Sharded
    }

    /// The node at which a partition's rooms are subscribed to.
    fn subscribed_at(&self, partition: u16) -> Option<usize> {
        if self.is_sharded() { self.routes.node(partition) } else { self.home }
    }

    fn node(&self, place: usize) -> Option<&Node> {
        self.nodes.get(place)?.as_ref()
    }

    fn node_mut(&mut self, place: usize) -> Option<&mut Node> {
        self.nodes.get_mut(place)?.as_mut()
    }

    fn nodes(&self) -> impl Iterator<Item = (usize, &Node)> {
        self.nodes.iter().enumerate().filter_map(|(place, node)| Some((place, node.as_ref()?)))
    }

    /// The place of the node at this address, to which there is a session from now on, unless there are too many.
    fn place_of(&mut self, address: &Address) -> Option<usize> {
        if let Some((place, _)) = self.nodes().find(|(_, node)| !node.is_leaving && node.address == *address) {
            return Some(place);
        }
        if self.nodes().count() >= NODES_MAX {
            return None;
        }
        self.made += 1;
        let node = Node::new(address.clone(), (self.made, self.partitions), self.now, &self.config);
        match self.nodes.iter().position(Option::is_none) {
            Some(place) => {
                self.nodes[place] = Some(node);
                Some(place)
            }
            None => {
                self.nodes.push(Some(node));
                Some(self.nodes.len() - 1)
            }
        }
    }

    /// Which link this is: none is the scout's.
    fn place_of_link(link: LinkId) -> Option<(usize, Role)> {
        let of_nodes = link.index().checked_sub(SCOUT + 1)?;
        Some((of_nodes / Role::COUNT, Role::ALL[of_nodes % Role::COUNT]))
    }

    fn link_of(place: usize, role: Role) -> LinkId {
        LinkId::at(SCOUT + 1 + place * Role::COUNT + role as usize)
    }

    /// The links that there may be now.
    pub(super) fn links(&self) -> Vec<LinkId> {
        let of_nodes =
            self.nodes().flat_map(|(place, node)| node.session.roles().map(move |role| Cluster::link_of(place, role)));
        std::iter::once(LinkId::at(SCOUT)).chain(of_nodes).collect()
    }

    pub(super) fn receives(link: LinkId) -> bool {
        matches!(Cluster::place_of_link(link), Some((_, Role::Subscriber)))
    }

    pub(super) fn state(&self, link: LinkId) -> LinkState {
        match Cluster::place_of_link(link) {
            None => self.scout.stats().state,
            Some((place, role)) => self.node(place).map_or(LinkState::Waiting, |node| node.session.state(role)),
        }
    }

    pub(super) fn poll_connection(&mut self, now: Time) -> Option<(LinkId, ConnectionRequest)> {
        self.now = now;
        if let Some(request) = self.scout.poll(now, &self.config) {
            return Some((LinkId::at(SCOUT), request));
        }
        for place in 0..self.nodes.len() {
            let Some(node) = &mut self.nodes[place] else { continue };
            if let Some((role, request)) = node.session.poll_connection(now) {
                return Some((Cluster::link_of(place, role), request));
            }
            if node.is_leaving && !node.has_to_tell() {
                self.past.add(&node.session.stats());
                self.nodes[place] = None;
            }
        }
        None
    }

    pub(super) fn connected(&mut self, link: LinkId, now: Time) {
        self.now = now;
        match Cluster::place_of_link(link) {
            None => self.scout.connected(now, &self.config),
            Some((place, role)) => {
                if let Some(node) = self.node_mut(place) {
                    node.session.connected(role, now);
                }
            }
        }
    }

    pub(super) fn disconnected(&mut self, link: LinkId, reason: &str, now: Time) {
        self.now = now;
        match Cluster::place_of_link(link) {
            None => {
                self.scout.disconnected(reason, now, &self.config);
                self.is_news = true;
            }
            Some((place, role)) => {
                if let Some(node) = self.node_mut(place) {
                    node.session.disconnected(role, reason, now);
                }
            }
        }
    }

    pub(super) fn output(&mut self, link: LinkId) -> &[u8] {
        match Cluster::place_of_link(link) {
            None => self.scout.output(),
            Some((place, role)) => match self.nodes.get_mut(place) {
                Some(Some(node)) => node.session.output(role),
                _ => &[],
            },
        }
    }

    pub(super) fn written(&mut self, link: LinkId, len: usize) {
        match Cluster::place_of_link(link) {
            None => self.scout.written(len),
            Some((place, role)) => {
                if let Some(node) = self.node_mut(place) {
                    node.session.written(role, len);
                }
            }
        }
    }

    pub(super) fn input(&mut self, link: LinkId, data: &[u8], now: Time, sink: &mut impl FnMut(BrokerEvent<'_>)) {
        self.now = now;
        match Cluster::place_of_link(link) {
            None => {
                if let Some(ranges) = self.scout.input(data, now, &self.config) {
                    self.take_ranges(&ranges);
                }
                self.is_news = true;
            }
            Some((place, role)) => {
                let (is_sharded, home) = (self.is_sharded(), self.home);
                let Cluster { nodes, routes, partitions, .. } = self;
                let Some(Some(node)) = nodes.get_mut(place) else { return };
                // What a node says of a room that another one has by now comes too late: the hub knows that it has missed something.
                let is_here = |room: &str| match is_sharded {
                    true => routes.node(crate::broker::partition_of(room, *partitions)) == Some(place),
                    false => home == Some(place),
                };
                node.input(role, data, now, |event| match event {
                    BrokerEvent::Message { room, .. } if !is_here(room) => {}
                    event => sink(event),
                });
            }
        }
        self.settle_with(sink);
    }

    pub(super) fn has_events(&self) -> bool {
        self.is_due || self.is_news || !self.events.is_empty() || self.nodes().any(|(_, node)| node.has_to_tell())
    }

    pub(super) fn poll_events(&mut self, sink: &mut impl FnMut(BrokerEvent<'_>)) {
        self.is_due = false;
        self.settle_with(sink);
    }

    pub(super) fn next_timeout(&self) -> Option<Time> {
        let sessions = self.nodes().filter_map(|(_, node)| node.session.next_timeout());
        let idle = self.nodes().filter(|(place, node)| self.is_idle(*place, node)).map(|(_, node)| node.leave_at());
        // One that is due already waits for answers.
        let idle = idle.filter(|at| *at > self.now);
        let late = self.nodes().filter_map(|(_, node)| node.late_at()).filter(|at| *at > self.now);
        sessions
            .chain(idle)
            .chain(late)
            .chain(self.next_layout())
            .chain(self.next_subscription())
            .chain(self.waiting.next_timeout(self.now, self.config.publish_wait))
            .chain(self.keeper.as_ref().and_then(Keeper::next_timeout))
            .chain([self.scout.next_timeout()])
            .min()
    }

    pub(super) fn leave_unread(&mut self, is_unread: bool) {
        self.nodes.iter_mut().flatten().for_each(|node| node.session.leave_unread(is_unread));
    }

    pub(super) fn timeout(&mut self, now: Time) {
        self.now = now;
        self.scout.timeout(now, &self.config);
        for node in self.nodes.iter_mut().flatten() {
            node.session.timeout(now);
        }
        if self.next_layout().is_some_and(|at| at <= now) {
            self.layout_at = now;
            self.ask_layout();
        }
        self.expire();
        self.leave_idle();
        (self.is_due, self.is_news) = (true, true);
    }

    /// When to ask again what the instances have agreed on.
    fn next_layout(&self) -> Option<Time> {
        match self.layout {
            Layout::Differs(_) => Some(self.layout_at + LAYOUT_INTERVAL),
            Layout::PutOff => Some(self.layout_at + LAYOUT_AGAIN),
            Layout::Unknown | Layout::Asked | Layout::Agreed => None,
        }
    }

    pub(super) fn about(&self) -> &str {
        &self.config.about
    }

    pub(super) fn take_instances(&mut self) -> Option<&[Instance]> {
        self.keeper.as_mut()?.take_instances()
    }

    pub(super) fn stop_waiting(&mut self) {
        self.config.publish_wait = Duration::ZERO;
        self.nodes.iter_mut().flatten().for_each(|node| node.session.stop_waiting());
        let all = self.waiting.take();
        self.give_up(all);
    }

    pub(super) fn sign_in_with(&mut self, username: Option<String>, password: Option<String>) {
        let sessions = self.nodes.iter_mut().flatten().map(|node| node.session.config_mut());
        for config in sessions.chain([&mut self.config]) {
            (config.username, config.password) = (username.clone(), password.clone());
        }
    }

    pub(super) fn take_complaint(&mut self) -> Option<String> {
        self.told_of_a_node(RedisSession::take_complaint)
    }

    pub(super) fn take_presence_complaint(&mut self) -> Option<String> {
        self.told_of_a_node(RedisSession::take_presence_complaint)
    }

    pub(super) fn take_canary_refusal(&mut self) -> Option<String> {
        self.told_of_a_node(RedisSession::take_canary_refusal)
    }

    /// What one of the sessions has to tell, and of which node.
    fn told_of_a_node(&mut self, take: fn(&mut RedisSession) -> Option<String>) -> Option<String> {
        self.nodes.iter_mut().flatten().find_map(|node| Some(format!("{}: {}", node.address, take(&mut node.session)?)))
    }

    pub(super) fn take_notice(&mut self) -> Option<String> {
        self.notice.take()
    }

    /// How all sessions fare; of each kind of connection, one that is not up is shown, if there is any.
    pub(super) fn stats(&self) -> RedisStats<'_> {
        let worst = |of: fn(RedisStats<'_>) -> Option<LinkStats<'_>>| {
            let links =
                || self.nodes().filter(|(_, node)| !node.is_leaving).filter_map(|(_, node)| of(node.session.stats()));
            links().find(|link| link.state != LinkState::Up).or_else(|| links().next())
        };
        let none = LinkStats { state: LinkState::Waiting, last_error: self.scout.stats().last_error };
        let (presence_incarnations, presence_commands) = self.keeper.as_ref().map_or((0, 0), Keeper::counts);
        let mut past = self.past;
        self.nodes().for_each(|(_, node)| past.add(&node.session.stats()));
        let in_flight = self.nodes().map(|(_, node)| node.session.stats().publishes_in_flight).sum::<usize>();
        RedisStats {
            subscriber: worst(|stats| Some(stats.subscriber)).unwrap_or(none),
            publisher: worst(|stats| Some(stats.publisher)).unwrap_or(none),
            durable_publisher: self
                .config
                .waits_for_replicas
                .then(|| worst(|stats| stats.durable_publisher).unwrap_or(none)),
            reconnects: past.reconnects,
            switches: self.switches,
            publishes_in_flight: in_flight
                + self.waiting.len()
                + usize::from(self.keeper.as_ref().is_some_and(Keeper::is_giving_back)),
            publishes_dropped: past.dropped + self.dropped,
            unannounced: past.unannounced,
            unreplicated: past.unreplicated,
            presence_incarnations,
            presence_commands,
            oversized: past.oversized,
            ignored: past.ignored,
        }
    }

    /// Where the slots are, as a node says.
    fn take_ranges(&mut self, ranges: &[Range]) {
        let mut range_of = vec![None; usize::from(SLOTS)];
        for (index, (first, last, _)) in ranges.iter().enumerate() {
            // No slot is in two of them.
            for slot in (*first..=*last).take_while(|slot| *slot < SLOTS) {
                if range_of[usize::from(slot)].replace(index).is_some() {
                    break;
                }
            }
        }
        let mut places = vec![None; ranges.len()];
        for partition in self.routes.partitions() {
            if let Some(index) = range_of[usize::from(self.routes.slot(partition))] {
                places[index] = places[index].or_else(|| self.place_of(&ranges[index].2));
            }
        }
        let of_slot = |slot: u16| range_of[usize::from(slot)].and_then(|index| places[index]);
        let before: Vec<Option<usize>> =
            self.routes.partitions().map(|partition| self.routes.node(partition)).collect();
        let changed = self.routes.replace(of_slot, self.now);
        self.have_moved(&changed, &before);
        // What a demoted master has not answered by now, it has not replicated.
        for place in changed.iter().filter_map(|partition| before[usize::from(partition)]) {
            let (has_none, now) = (self.routes.count(place) == 0, self.now);
            if let Some(node) = self.node_mut(place).filter(|_| has_none) {
                node.demoted_at = Some(now);
            }
        }
    }

    /// The node at one place says who has a slot, if it knows that.
    fn moved(&mut self, slot: u16, teller: usize, to: Option<&Address>) {
        let partitions = self.routes.in_slot(slot);
        if partitions.is_empty() {
            return;
        }
        self.scout.hurry(self.now);
        let place = to.and_then(|to| self.place_of(to)).filter(|place| *place != teller);
        let Some(place) = place else { return self.is_nowhere(&partitions, teller) };
        let before: Vec<Option<usize>> =
            self.routes.partitions().map(|partition| self.routes.node(partition)).collect();
        let mut changed = Partitions::none_of(self.partitions);
        for partition in partitions {
            if self.routes.moved(partition, place, self.now) {
                changed.insert(partition);
            }
        }
        self.have_moved(&changed, &before);
    }

    /// The node at this place has these partitions not, and names nobody else that can be reached.
    fn is_nowhere(&mut self, partitions: &[u16], place: usize) {
        let mut gone = Partitions::none_of(self.partitions);
        for partition in partitions.iter().filter(|partition| self.routes.node(**partition) == Some(place)) {
            gone.insert(*partition);
        }
        let now = self.now;
        let here: Vec<u16> = gone.iter().collect();
        here.iter().for_each(|partition| self.routes.pause(*partition, now));
        if gone.contains(0) && self.layout == Layout::Asked {
            (self.layout, self.layout_at) = (Layout::PutOff, now);
        }
        if self.is_sharded() {
            if let Some(node) = self.node_mut(place) {
                node.session.forget(|room| gone.has_room(room));
            }
            self.lose(&here);
        }
    }

    /// These partitions are elsewhere now.
    fn have_moved(&mut self, changed: &Partitions, before: &[Option<usize>]) {
        if changed.is_empty() {
            return;
        }
        self.is_news = true;
        self.presence_has_moved(changed);
        if changed.iter().any(|partition| partition == 0) {
            self.layout_has_moved();
        }
        for partition in changed.iter() {
            let (place, now) = (self.routes.node(partition), self.now);
            if let Some(node) = place.and_then(|place| self.node_mut(place)) {
                (node.used_at, node.demoted_at) = (now, None);
            }
        }
        let left = |partition: u16| before[usize::from(partition)];
        for partition in changed.iter() {
            let now = self.now;
            if let Some(node) = left(partition).and_then(|place| self.node_mut(place)) {
                node.used_at = now;
            }
        }
        if self.is_sharded() {
            let mut of_places = changed.iter().filter_map(left).collect::<Vec<usize>>();
            of_places.sort_unstable();
            of_places.dedup();
            for place in of_places {
                if let Some(node) = self.node_mut(place) {
                    node.session.forget(|room| changed.has_room(room));
                }
            }
            self.begin_anew(changed, before);
            let had_node: Vec<u16> = changed.iter().filter(|partition| left(*partition).is_some()).collect();
            self.lose(&had_node);
        }
        if changed.iter().any(|partition| left(partition).is_some()) {
            self.switches += 1;
            let count = changed.iter().count();
            self.notice = Some(format!("{count} of {} partitions are at other masters now", self.partitions));
        }
        self.move_canaries();
    }

    /// A node that gets a partition back, and has not ended its subscriptions meanwhile, holds some that nobody may want any more. Only a new
    /// connection makes sure that there are none.
    fn begin_anew(&mut self, changed: &Partitions, before: &[Option<usize>]) {
        for partition in changed.iter() {
            if let Some(node) = before[usize::from(partition)].and_then(|place| self.node_mut(place)) {
                node.left.insert(partition);
            }
            let (place, now, partitions) = (self.routes.node(partition), self.now, self.partitions);
            if let Some(node) = place.and_then(|place| self.node_mut(place))
                && node.left.remove(partition)
                && node.is_subscriber_up
            {
                node.left = Partitions::none_of(partitions);
                node.session.subscribe_anew("it has a slot again, and may hold subscriptions of before", now);
            }
        }
    }

    /// Each node's canary needs a channel of the node's own.
    fn move_canaries(&mut self) {
        if !self.is_sharded() {
            return;
        }
        let Cluster { nodes, routes, partitions, .. } = self;
        for (place, node) in nodes.iter_mut().enumerate().filter_map(|(place, node)| Some((place, node.as_mut()?))) {
            if routes.count(place) == 0 {
                continue;
            }
            let suits = |name: &str| routes.node(crate::broker::partition_of(name, *partitions)) == Some(place);
            if node.session.move_canary(suits) {
                node.is_canary_due = false;
            }
        }
    }

    /// A node has let go of a partition, or has it not, and so with the canary's channel if that is in it.
    fn move_canary_from(&mut self, partition: u16, place: usize) {
        let Cluster { nodes, routes, partitions, .. } = self;
        let Some(Some(node)) = nodes.get_mut(place) else { return };
        let of = |name: &str| crate::broker::partition_of(name, *partitions);
        if of(node.session.canary_name()) == partition {
            let is_moved =
                node.session.move_canary(|name| of(name) != partition && routes.node(of(name)) == Some(place));
            node.is_canary_due = !is_moved;
        }
    }

    /// The subscriptions of these partitions are no more, and the hub has to ask again.
    fn lose(&mut self, partitions: &[u16]) {
        for partition in partitions {
            self.unsent.remove(partition);
            if self.is_up {
                self.lost.insert(*partition);
            }
        }
    }

    /// Whether nothing of ours is at this node.
    fn is_idle(&self, place: usize, node: &Node) -> bool {
        !node.is_leaving && self.routes.count(place) == 0 && self.home != Some(place) && !self.waiting.is_asking(place)
    }

    fn leave_idle(&mut self) {
        for place in 0..self.nodes.len() {
            let Some(node) = &self.nodes[place] else { continue };
            let is_done = node.demoted_at.is_some() || node.session.stats().publishes_in_flight == 0;
            let is_due = self.is_idle(place, node) && node.leave_at() <= self.now && is_done;
            let now = self.now;
            match self.node_mut(place) {
                Some(node) if is_due => node.leave(now),
                _ => {}
            }
        }
    }
}

impl Past {
    fn add(&mut self, stats: &RedisStats<'_>) {
        self.reconnects += stats.reconnects;
        self.dropped += stats.publishes_dropped;
        self.unannounced += stats.unannounced;
        self.unreplicated += stats.unreplicated;
        self.oversized += stats.oversized;
        self.ignored += stats.ignored;
    }
}
