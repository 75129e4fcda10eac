//! A Cluster in the midst of its life: nodes that answer, send on, break off and lie, and a map of slots that is anybody's guess. What is
//! reported stays within what was asked.

use super::presence;
use super::resp::HELLO_REPLY;
use super::session::{Link, bulk, check_reason, confirmation};
use super::steps::{short, steps};
use crate::redis_config;
use arbitrary::{Result, Unstructured};
use fanfare_core::broker::redis::history::Script;
use fanfare_core::broker::redis::{Address, ClusterPubSub, ConnectionRequest, LinkId, RedisBroker, Topology};
use fanfare_core::broker::{BrokerEvent, PublishId, ReadId, Store};
use fanfare_core::history::{Part, Query, Retention};
use fanfare_core::time::Time;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const PARTITIONS: u16 = 4;
/// Nodes of which anybody knows, by their ports.
const NODES: u16 = 4;
const PUBLISHES_IN_FLIGHT_MAX: usize = 8;
const READS_IN_FLIGHT_MAX: usize = 3;
const RETENTION: Retention = Retention { messages_max: 9, bytes_max: 999, age_max: Duration::from_secs(9) };
const PASSWORD: &str = "secret";
/// How often in a row something may be due at once: subscriptions are sent in batches.
const TURNS_MAX: usize = 20;

/// One thing that happens; the first number says on which link.
#[derive(Clone, Copy, Debug)]
enum Step<'a> {
    /// These bytes arrive.
    Hear(u8, &'a [u8]),
    /// So many commands are written and answered in good faith.
    Answer(u8, u8),
    /// One of them is sent elsewhere, or refused.
    Redirect(u8, u8, u8),
    /// The scout's question is answered by such a map.
    Map(u8, u8, u8),
    /// A node lets go of a room.
    LetGo(u8, u8),
    Message(u8, u8),
    Publish(u8, bool),
    Store(u8, bool),
    Read(u8),
    /// Something about who is in a room.
    Presence(u8, u8),
    Wish(u8, bool),
    Break(u8),
    Connect(u8),
    Wait(u16),
}

impl<'a> Step<'a> {
    fn read(bytes: &mut Unstructured<'a>) -> Result<Step<'a>> {
        Ok(match bytes.int_in_range(0..=19)? {
            0 => Step::Hear(bytes.arbitrary()?, short(bytes)?),
            1..=4 => Step::Answer(bytes.arbitrary()?, bytes.arbitrary()?),
            5 => Step::Redirect(bytes.arbitrary()?, bytes.arbitrary()?, bytes.arbitrary()?),
            6 | 7 => Step::Map(bytes.arbitrary()?, bytes.arbitrary()?, bytes.arbitrary()?),
            8 => Step::LetGo(bytes.arbitrary()?, bytes.arbitrary()?),
            9 => Step::Message(bytes.arbitrary()?, bytes.arbitrary()?),
            10 => Step::Publish(bytes.arbitrary()?, bytes.arbitrary()?),
            11 => Step::Store(bytes.arbitrary()?, bytes.arbitrary()?),
            12 => Step::Read(bytes.arbitrary()?),
            13 => Step::Wish(bytes.arbitrary()?, bytes.arbitrary()?),
            14 => Step::Break(bytes.arbitrary()?),
            15..=17 => Step::Connect(bytes.arbitrary()?),
            19 => Step::Presence(bytes.arbitrary()?, bytes.arbitrary()?),
            _ => Step::Wait(bytes.arbitrary()?),
        })
    }
}

/// The broker, its surroundings, and what it may report.
struct World {
    broker: RedisBroker,
    is_sharded: bool,
    now: Time,
    /// The other end of each link that was ever opened.
    links: BTreeMap<LinkId, Link>,
    up: [bool; 2],
    refusing: bool,
    asked: BTreeMap<String, bool>,
    held: BTreeSet<String>,
    waiting: BTreeSet<u64>,
    reads: BTreeSet<u64>,
    presence: presence::Asked,
    /// The publisher went down before they were answered.
    void_reads: BTreeSet<u64>,
    ids: u64,
}

/// Decodes steps from the bytes and takes them.
pub fn cluster(data: &[u8]) {
    let mut bytes = Unstructured::new(data);
    let seed = bytes.arbitrary().unwrap_or(0_u8);
    let pubsub = if seed & 3 == 3 { ClusterPubSub::Classic } else { ClusterPubSub::Sharded };
    let nodes = (1..=1 + u16::from(seed >> 2 & 1)).map(address).collect();
    let config = redis_config(|config| {
        config.topology = Topology::Cluster { nodes, partitions: PARTITIONS, pubsub };
        config.keeps_history = true;
        config.keeps_presence = seed & 64 != 0;
        config.seed = seed.into();
        config.password = (seed & 8 != 0).then(|| PASSWORD.to_owned());
        config.publish_wait = Duration::from_millis(if seed & 16 != 0 { 500 } else { 0 });
        config.publishes_in_flight_max = PUBLISHES_IN_FLIGHT_MAX;
        config.waits_for_replicas = seed & 32 != 0;
    });
    let mut world = World {
        broker: RedisBroker::new(config),
        is_sharded: pubsub == ClusterPubSub::Sharded,
        now: Time::from_millis(1_000),
        links: BTreeMap::new(),
        up: [false; 2],
        refusing: false,
        asked: BTreeMap::new(),
        held: BTreeSet::new(),
        waiting: BTreeSet::new(),
        reads: BTreeSet::new(),
        presence: presence::Asked::default(),
        void_reads: BTreeSet::new(),
        ids: 0,
    };
    world.drive();
    for step in steps(&mut bytes, Step::read) {
        world.take(step);
        world.drive();
    }
    world.end();
}

fn address(port: u16) -> Address {
    Address::Tcp { host: "node".to_owned(), port }
}

fn room(choice: u8) -> String {
    format!("room{}", choice % 8)
}

impl World {
    fn take(&mut self, step: Step<'_>) {
        match step {
            Step::Hear(choice, bytes) => {
                if let Some(id) = self.link(choice) {
                    self.hear(id, bytes);
                }
            }
            Step::Answer(choice, commands) => {
                for _ in 0..1 + commands % 32 {
                    let Some(id) = self.link(choice) else { return };
                    self.write(id);
                    self.answer(id);
                }
            }
            Step::Redirect(choice, kind, node) => {
                let Some(id) = self.link(choice) else { return };
                self.write(id);
                if self.links.get_mut(&id).is_some_and(|link| link.commands.pop_front().is_some()) {
                    self.hear(id, &redirect(kind, node));
                }
            }
            Step::Map(first, second, state) => self.map(first, second, state),
            Step::LetGo(choice, of) => {
                let channel = self.broker_channel(&room(of));
                if let Some(id) = self.link(choice) {
                    self.hear(id, &confirmation("sunsubscribe", &channel));
                }
            }
            Step::Message(choice, of) => {
                let (channel, kind) =
                    (self.broker_channel(&room(of)), if self.is_sharded { "smessage" } else { "message" });
                if let Some(id) = self.link(choice) {
                    let parts = [kind.as_bytes(), channel.as_bytes(), b"m"].map(bulk).concat();
                    self.hear(id, &[b">3\r\n", &parts[..]].concat());
                }
            }
            Step::Publish(of, with_id) => {
                let id = self.id(with_id);
                self.broker.publish(&room(of), b"m", id);
            }
            Step::Store(of, with_id) => {
                let id = self.id(with_id);
                let store = Store { retention: &RETENTION, key: None, removes: None };
                self.broker.store(&room(of), b"m", &store, u16::from(of >> 7), id);
            }
            Step::Read(of) if self.up[1] && self.reads.len() < READS_IN_FLIGHT_MAX => {
                self.ids += 1;
                self.reads.insert(self.ids);
                let query = Query { part: Part::Newest, messages_max: 9, bytes_max: 9 };
                self.broker.read(&room(of), query, RETENTION, ReadId::new(self.ids));
            }
            Step::Read(_) => {}
            Step::Presence(of, choice) if self.up[1] => {
                self.ids += 1;
                self.presence.ask(&mut self.broker, &room(of), self.ids, choice);
            }
            Step::Presence(..) => {}
            Step::Wish(of, wanted) => self.wish(&room(of), wanted),
            Step::Break(choice) => {
                let opened: Vec<LinkId> = self.links.iter().filter(|(_, link)| link.open).map(|(id, _)| *id).collect();
                if let Some(id) = opened.get(usize::from(choice) % opened.len().max(1)) {
                    self.links.insert(*id, Link::default());
                    self.broker.disconnected(*id, "broken", self.now);
                }
            }
            Step::Connect(choice) => {
                let open = self.links.iter().filter(|(_, link)| link.open && !link.established);
                let open: Vec<LinkId> = open.map(|(id, _)| *id).collect();
                if let Some(id) = open.get(usize::from(choice) % open.len().max(1)) {
                    self.links.get_mut(id).expect("it is one").established = true;
                    self.broker.connected(*id, self.now);
                }
            }
            Step::Wait(millis) => self.wait(Duration::from_millis(millis.into())),
        }
    }

    fn broker_channel(&self, room: &str) -> String {
        use fanfare_core::broker::redis::Names;
        let pubsub = if self.is_sharded { ClusterPubSub::Sharded } else { ClusterPubSub::Classic };
        Names::in_cluster("fanfare:", PARTITIONS, pubsub).channel(room)
    }

    fn wait(&mut self, time: Duration) {
        self.now = self.now + time;
        for _ in 0..TURNS_MAX {
            self.broker.timeout(self.now);
            self.drive();
            if self.broker.next_timeout().is_none_or(|due| due > self.now) {
                return;
            }
        }
        panic!("something is due at once, however often: {:?} at {:?}", self.broker.next_timeout(), self.now);
    }

    fn id(&mut self, with_id: bool) -> Option<PublishId> {
        self.ids += 1;
        if with_id {
            self.waiting.insert(self.ids);
        }
        with_id.then(|| PublishId::new(self.ids))
    }

    /// One of the links that are established.
    fn link(&self, choice: u8) -> Option<LinkId> {
        let established: Vec<LinkId> =
            self.links.iter().filter(|(_, link)| link.established).map(|(id, _)| *id).collect();
        established.get(usize::from(choice) % established.len().max(1)).copied()
    }

    /// What a driver does in each turn.
    fn drive(&mut self) {
        self.listen(|broker, sink| broker.poll_events(sink));
        for number in 0.. {
            let Some((id, request)) = self.broker.poll_connection(self.now) else { break };
            assert!(number <= 2 * (1 + 3 * 64), "requests without end");
            let link = self.links.entry(id).or_default();
            let opens = request != ConnectionRequest::Drop;
            assert_ne!(link.open, opens, "{id:?}: {request:?}");
            *link = Link { open: opens, ..Link::default() };
        }
        let there: BTreeSet<LinkId> = self.broker.links().collect();
        assert!(self.links.iter().all(|(id, link)| !link.open || there.contains(id)), "a link is gone that is open");
        self.broker.take_notice().iter().for_each(|notice| check_reason(notice, [Some(PASSWORD), None]));
        // One session for each node, and what waits beside them.
        assert!(self.broker.stats().publishes_in_flight <= PUBLISHES_IN_FLIGHT_MAX * (1 + 2 * 64));
    }

    fn hear(&mut self, id: LinkId, bytes: &[u8]) {
        let now = self.now;
        self.listen(|broker, sink| broker.input(id, bytes, now, sink));
        self.drive();
    }

    fn write(&mut self, id: LinkId) {
        let output = self.broker.output(id).to_vec();
        self.broker.written(id, output.len());
        let link = self.links.get_mut(&id).expect("it is one");
        link.heard.extend_from_slice(&output);
        link.understand();
    }

    /// Answers one command as a node would that has the slot.
    fn answer(&mut self, id: LinkId) {
        let Some(command) = self.links.get_mut(&id).and_then(|link| link.commands.pop_front()) else { return };
        let answer = match &command[0][..] {
            b"HELLO" => HELLO_REPLY.to_vec(),
            b"PING" => b"+PONG\r\n".to_vec(),
            b"ROLE" => b"*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n".to_vec(),
            b"CLUSTER" if command[1] == b"INFO" => b"$16\r\ncluster_state:ok\r\n".to_vec(),
            b"CLUSTER" => slots([1, 1, 2, 2]),
            b"SETNX" | b"PUBLISH" | b"SPUBLISH" | b"WAIT" => b":1\r\n".to_vec(),
            b"GET" => bulk(if self.is_sharded { b"4 sharded" } else { b"4 classic" }),
            b"SCRIPT" => {
                let loaded = Script::ALL.into_iter().find(|script| script.source().as_bytes() == command[2]);
                let name = loaded.map(Script::sha1).or_else(|| presence::loaded(&command[2]));
                bulk(name.expect("one of them").as_bytes())
            }
            b"EVALSHA" if command[1] == Script::Read.sha1().as_bytes() => {
                b"*7\r\n$18\r\n1-00000000000000ff\r\n:0\r\n:1\r\n$5\r\nexact\r\n:0\r\n:1000\r\n:0\r\n".to_vec()
            }
            b"EVALSHA" => presence::answer(&command[1], self.now.as_millis() + self.ids).unwrap_or_else(|| {
                b"*6\r\n$18\r\n1-00000000000000ff\r\n:7\r\n:1\r\n:1000\r\n:1\r\n$0\r\n\r\n".to_vec()
            }),
            kind @ (b"SUBSCRIBE" | b"UNSUBSCRIBE" | b"SSUBSCRIBE" | b"SUNSUBSCRIBE") => {
                let kind = String::from_utf8_lossy(kind).to_lowercase();
                let channels = command[1..].iter().map(|channel| String::from_utf8_lossy(channel));
                channels.flat_map(|channel| confirmation(&kind, &channel)).collect()
            }
            _ => b"+OK\r\n".to_vec(),
        };
        self.hear(id, &answer);
    }

    /// Answers the scout, if it asks where the slots are.
    fn map(&mut self, first: u8, second: u8, state: u8) {
        let id = self.broker.links().next().expect("the scout's");
        if !self.links.get(&id).is_some_and(|link| link.established) {
            return;
        }
        self.write(id);
        let link = self.links.get_mut(&id).expect("it is one");
        let Some(at) = link.commands.iter().position(|command| command[0] == b"CLUSTER" && command[1] == b"SLOTS")
        else {
            return;
        };
        link.commands.drain(..=at);
        let state: &[u8] = if state & 7 == 0 { b"cluster_state:fail" } else { b"cluster_state:ok" };
        let port = |choice: u8| u16::from(choice & 15) % (NODES + 1);
        let ports = [first, first >> 4, second, second >> 4].map(port);
        let before = b"+OK\r\n".repeat(at.saturating_sub(1));
        self.hear(id, &[before, bulk(state), slots(ports)].concat());
    }

    /// The hub's part: one operation per room at most.
    fn wish(&mut self, room: &str, wanted: bool) {
        if !self.up[0] || self.asked.contains_key(room) || self.held.contains(room) == wanted {
            return;
        }
        self.asked.insert(room.to_owned(), wanted);
        if wanted { self.broker.subscribe(room) } else { self.broker.unsubscribe(room) }
    }

    fn listen(&mut self, events: impl FnOnce(&mut RedisBroker, &mut dyn FnMut(BrokerEvent<'_>))) {
        let World { broker, up, asked, held, waiting, reads, presence, void_reads, refusing, .. } = self;
        let check = |reason: &str| check_reason(reason, [Some(PASSWORD), None]);
        events(broker, &mut |event| match event {
            BrokerEvent::Up => assert!(!std::mem::replace(&mut up[0], true), "up twice"),
            BrokerEvent::PublisherUp => assert!(!std::mem::replace(&mut up[1], true), "up twice"),
            BrokerEvent::Down { reason } => {
                check(reason);
                up[0] = false;
                asked.clear();
                held.clear();
            }
            BrokerEvent::Lost { partitions } => {
                assert!(up[0] && !partitions.is_empty());
                asked.retain(|room, _| !partitions.has_room(room));
                held.retain(|room| !partitions.has_room(room));
            }
            BrokerEvent::PublisherDown { reason } => {
                check(reason);
                up[1] = false;
                void_reads.append(reads);
                presence.publisher_down(true);
            }
            BrokerEvent::Refusing { reason } => {
                check(reason);
                *refusing = true;
            }
            BrokerEvent::Willing => assert!(std::mem::take(refusing), "willing, and it has refused nothing"),
            BrokerEvent::Subscribed { room } => {
                assert_eq!(asked.remove(room), Some(true), "{room} was not asked for");
                held.insert(room.to_owned());
            }
            BrokerEvent::Unsubscribed { room } => {
                assert_eq!(asked.remove(room), Some(false), "{room} was not given up");
                held.remove(room);
            }
            BrokerEvent::SubscribeFailed { room, reason } => {
                check(reason);
                assert!(asked.remove(room).is_some(), "{room} was not asked for");
                held.remove(room);
            }
            BrokerEvent::Message { .. } => {}
            BrokerEvent::Published { id, .. } | BrokerEvent::PublishFailed { id, .. } => {
                assert!(waiting.remove(&id.number()), "{id:?} is answered once");
            }
            BrokerEvent::Read { id, .. } | BrokerEvent::ReadFailed { id, .. } => {
                let is_first = reads.remove(&id.number()) || void_reads.remove(&id.number());
                assert!(is_first, "{id:?} is answered once");
            }
            BrokerEvent::PresenceKept { id, .. } => presence.kept(id),
            BrokerEvent::Roster { id, .. } => presence.read(id),
            BrokerEvent::PresenceFailed { id, .. } => presence.failed(id),
            BrokerEvent::PresenceLost => presence.lost(),
            other => panic!("no event of a Cluster: {other:?}"),
        });
    }

    /// Everything breaks, and time passes: then everything is answered.
    fn end(&mut self) {
        check_reason(&format!("{:?}", self.broker), [Some(PASSWORD), None]);
        let open: Vec<LinkId> = self.links.iter().filter(|(_, link)| link.open).map(|(id, _)| *id).collect();
        for id in open {
            if std::mem::take(self.links.get_mut(&id).expect("it is one")).open {
                self.broker.disconnected(id, "broken", self.now);
            }
            self.listen(|broker, sink| broker.poll_events(sink));
        }
        self.broker.stop_waiting();
        self.listen(|broker, sink| broker.poll_events(sink));
        assert_eq!((&self.waiting, self.up), (&BTreeSet::new(), [false; 2]));
        assert!(self.reads.is_empty(), "never answered: {:?}", self.reads);
        assert!(self.presence.is_empty(), "never answered: {:?}", self.presence);
    }
}

/// What a node says that has not what it is asked for, or will not do it.
fn redirect(kind: u8, node: u8) -> Vec<u8> {
    let slot = fanfare_core::broker::redis::slot_of_partition(u16::from(node >> 4) % PARTITIONS);
    let port = 1 + u16::from(node) % NODES;
    match kind % 10 {
        0..=2 => format!("-MOVED {slot} node:{port}\r\n").into_bytes(),
        3 | 4 => format!("-ASK {slot} node:{port}\r\n").into_bytes(),
        5 => b"-TRYAGAIN Multiple keys request\r\n".to_vec(),
        6 => b"-CLUSTERDOWN The cluster is down\r\n".to_vec(),
        7 => format!("-MOVED {slot} ?:{port}\r\n").into_bytes(),
        8 => b"-NOSCRIPT No matching script.\r\n".to_vec(),
        _ => b"-NOPERM this user has no permissions\r\n".to_vec(),
    }
}

/// The answer to `CLUSTER SLOTS` in which the slot of each partition is at this node; at none, if it is 0.
fn slots(ports: [u16; PARTITIONS as usize]) -> Vec<u8> {
    let mut ranges = Vec::new();
    for (partition, port) in ports.into_iter().enumerate().filter(|(_, port)| *port > 0) {
        let slot = fanfare_core::broker::redis::slot_of_partition(partition as u16);
        ranges.push(format!("*3\r\n:{slot}\r\n:{slot}\r\n*3\r\n$4\r\nnode\r\n:{port}\r\n$2\r\nid\r\n"));
    }
    format!("*{}\r\n{}", ranges.len(), ranges.concat()).into_bytes()
}
