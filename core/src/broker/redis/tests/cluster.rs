//! A Cluster on scripted bytes: which node is asked for what, what is sent on, and what the hub hears.

mod fencing;
mod presence;

use super::*;
use crate::broker::redis::history::Script as Lua;
use crate::broker::redis::presence::commands::Script as PresenceLua;
use crate::broker::redis::{ClusterPubSub, Names, slot_of_partition};
use crate::broker::{ReadId, Store, partition_of};
use crate::history::{Part, Query, Removal, Remove, Retention};
use std::collections::BTreeMap;

/// Two partitions, so that a Cluster of two masters has one at each.
const PARTITIONS: u16 = 2;
const RETENTION: Retention = Retention { messages_max: 10, bytes_max: 1_000, age_max: Duration::from_secs(60) };

fn tcp(port: u16) -> Address {
    Address::Tcp { host: "node".to_owned(), port }
}

fn config() -> RedisConfig {
    let pubsub = ClusterPubSub::Sharded;
    let topology = Topology::Cluster { nodes: vec![tcp(1)], partitions: PARTITIONS, pubsub };
    let probe_interval = Duration::from_secs(3_600);
    RedisConfig { topology, keeps_history: true, probe_interval, ..RedisConfig::default() }
}

/// A room of this partition.
fn room(partition: u16) -> String {
    let names = (0..).map(|number| format!("r{number}"));
    names.into_iter().find(|name| partition_of(name, PARTITIONS) == partition).unwrap()
}

fn channel(partition: u16) -> String {
    Names::in_cluster("fanfare:", PARTITIONS, ClusterPubSub::Sharded).channel(&room(partition))
}

/// The answers to `CLUSTER INFO` and `CLUSTER SLOTS`: where each partition's slot is.
fn slots(ports: [u16; 2]) -> Vec<u8> {
    let mut out = b"$18\r\ncluster_state:ok\r\n\r\n*2\r\n".to_vec();
    for (partition, port) in ports.into_iter().enumerate() {
        let slot = slot_of_partition(partition as u16);
        out.extend(format!("*3\r\n:{slot}\r\n:{slot}\r\n*3\r\n$4\r\nnode\r\n:{port}\r\n$2\r\nid\r\n").into_bytes());
    }
    out
}

fn moved(partition: u16, port: u16) -> Vec<u8> {
    format!("-MOVED {} node:{port}\r\n", slot_of_partition(partition)).into_bytes()
}

fn ask(partition: u16, port: u16) -> Vec<u8> {
    format!("-ASK {} node:{port}\r\n", slot_of_partition(partition)).into_bytes()
}

fn stored(offset: u64) -> Vec<u8> {
    format!("*6\r\n$18\r\n1-00000000000000aa\r\n:{offset}\r\n:1\r\n:7\r\n:1\r\n$0\r\n\r\n").into_bytes()
}

struct World {
    broker: RedisBroker,
    now: Time,
    events: Vec<String>,
    /// Where each link leads that is open or is to be opened.
    open: BTreeMap<LinkId, u16>,
}

impl World {
    fn new(config: RedisConfig) -> World {
        let now = Time::from_millis(1_000);
        World { broker: RedisBroker::new(config), now, events: Vec::new(), open: BTreeMap::new() }
    }

    /// Each partition at a node of its own, and all of them connected.
    fn up() -> World {
        World::up_with(config())
    }

    fn up_with(config: RedisConfig) -> World {
        let mut world = World::new(config);
        world.poll();
        world.scout_hears(slots([1, 2]));
        world.come_up(2);
        world.come_up(1);
        let layout = ["SETNX", "GET"].map(|word| {
            let mut words = vec![word.to_owned(), "fanfare:{0}\u{1}layout".into()];
            words.extend((word == "SETNX").then(|| "2 sharded".into()));
            words
        });
        assert_eq!(world.sent(1, Role::Publisher), layout);
        assert_eq!(world.events(), [""; 0], "the layout is not known yet");
        world.hear(1, Role::Publisher, b":1\r\n$9\r\n2 sharded\r\n");
        assert_eq!(world.events(), ["up", "publisher up"]);
        world
    }

    /// The same with a room of each partition subscribed to.
    fn subscribed() -> World {
        let mut world = World::up();
        for partition in 0..PARTITIONS {
            let port = partition + 1;
            world.broker.subscribe(&room(partition));
            assert_eq!(world.sent(port, Role::Subscriber), [["SSUBSCRIBE".to_owned(), channel(partition)]]);
            world.hear(port, Role::Subscriber, &confirmation("ssubscribe", &channel(partition)));
            assert_eq!(world.events(), [format!("subscribed {}", room(partition))]);
        }
        world
    }

    fn poll(&mut self) {
        while let Some((link, request)) = self.broker.poll_connection(self.now) {
            match request {
                ConnectionRequest::Open { address: Address::Tcp { port, .. } } => drop(self.open.insert(link, port)),
                ConnectionRequest::Open { .. } => panic!("no socket has a path"),
                ConnectionRequest::Drop => drop(self.open.remove(&link)),
            }
        }
        let events = &mut self.events;
        self.broker.poll_events(|event| events.push(written(event)));
    }

    fn events(&mut self) -> Vec<String> {
        self.poll();
        std::mem::take(&mut self.events)
    }

    fn link(&self, port: u16, role: Role) -> LinkId {
        let is_it = |(link, to): &(&LinkId, &u16)| {
            **to == port && link.index() > 0 && (link.index() - 1) % Role::COUNT == role as usize
        };
        *self.open.iter().find(is_it).unwrap_or_else(|| panic!("no {role:?} leads to {port}: {:?}", self.open)).0
    }

    fn scout_hears(&mut self, said: Vec<u8>) {
        let scout = LinkId::at(0);
        self.broker.connected(scout, self.now);
        assert_eq!(self.sent_on(scout), [["CLUSTER", "INFO"], ["CLUSTER", "SLOTS"]]);
        self.scout_hears_more(said);
    }

    fn scout_hears_more(&mut self, said: Vec<u8>) {
        let events = &mut self.events;
        self.broker.input(LinkId::at(0), &said, self.now, |event| events.push(written(event)));
        self.poll();
    }

    /// The connections to this node come up. It refuses the canary. What is said on the subscriber behind that.
    fn come_up(&mut self, port: u16) -> Vec<Vec<String>> {
        self.set_up(port, Role::Publisher);
        self.set_up(port, Role::Subscriber);
        let mut said = self.sent(port, Role::Subscriber);
        let canary = said.remove(0);
        assert!(canary[1].starts_with("fanfare:{") && canary[1].contains("}\u{1}canary:"), "{canary:?}");
        self.hear(port, Role::Subscriber, b"-NOPERM No permissions to access a channel\r\n");
        self.broker.take_canary_refusal();
        said
    }

    fn set_up(&mut self, port: u16, role: Role) {
        let link = self.link(port, role);
        self.broker.connected(link, self.now);
        let commands = self.sent_on(link);
        let words: Vec<String> = commands.iter().map(|words| words[0].clone()).collect();
        assert!(!words.contains(&"SELECT".to_owned()), "{words:?}");
        let mut said = [HELLO_REPLY, MASTER, PONG].concat();
        if role == Role::Publisher {
            let all = Lua::ALL.map(|script| (script.source(), script.sha1())).into_iter();
            let all = all.chain(PresenceLua::ALL.map(|script| (script.source(), script.sha1())));
            let all: BTreeMap<&str, &str> = all.collect();
            for command in commands.iter().filter(|command| command[0] == "SCRIPT") {
                said.extend(format!("$40\r\n{}\r\n", all[&command[2][..]]).into_bytes());
            }
            said.extend_from_slice(b"$0\r\n\r\n");
        }
        self.hear(port, role, &said);
    }

    fn sent(&mut self, port: u16, role: Role) -> Vec<Vec<String>> {
        let link = self.link(port, role);
        self.sent_on(link)
    }

    fn sent_on(&mut self, link: LinkId) -> Vec<Vec<String>> {
        let output = self.broker.output(link).to_vec();
        self.broker.written(link, output.len());
        commands(&output)
    }

    fn hear(&mut self, port: u16, role: Role, data: &[u8]) {
        let link = self.link(port, role);
        let events = &mut self.events;
        self.broker.input(link, data, self.now, |event| events.push(written(event)));
        self.poll();
    }

    fn fail(&mut self, port: u16, role: Role) {
        let link = self.link(port, role);
        self.open.remove(&link);
        self.broker.disconnected(link, "reset", self.now);
        self.poll();
    }

    fn wait(&mut self, time: Duration) {
        self.now = self.now + time;
        self.broker.timeout(self.now);
        self.poll();
    }

    fn store(&mut self, partition: u16, id: u64) {
        let store = Store { retention: &RETENTION, key: None, removes: None };
        self.broker.store(&room(partition), format!("m{id}").as_bytes(), &store, 0, Some(PublishId::new(id)));
    }

    /// What is said on a publishing connection, in short: words, and the payloads of stores.
    fn said(&mut self, port: u16) -> Vec<String> {
        let sent = self.sent(port, Role::Publisher);
        let short = |words: Vec<String>| match &words[0][..] {
            "EVALSHA" if words.len() == 12 => format!("store {}", words[11]),
            "SPUBLISH" => format!("publish {}", words[2]),
            word => word.to_owned(),
        };
        sent.into_iter().map(short).collect()
    }
}

#[test]
fn each_room_goes_to_the_master_of_its_partition() {
    let mut world = World::subscribed();
    world.broker.publish(&room(0), b"a", Some(PublishId::new(1)));
    world.broker.publish(&room(1), b"b", Some(PublishId::new(2)));
    world.store(1, 3);
    assert_eq!(
        (world.said(1), world.said(2)),
        (vec!["publish a".to_owned()], vec!["publish b".into(), "store m3".into()])
    );
    world.hear(2, Role::Publisher, &[b":0\r\n".to_vec(), stored(1)].concat());
    world.hear(1, Role::Publisher, b":1\r\n");
    world.hear(1, Role::Subscriber, &push(b'>', &["smessage", &channel(0), "a"]));
    // What a node says of a room that another one has comes too late.
    world.hear(1, Role::Subscriber, &push(b'>', &["smessage", &channel(1), "b"]));
    assert_eq!(world.events(), ["published 2", "published 3", "published 1", &format!("message {}: a", room(0))]);
}

#[test]
fn a_slot_that_has_moved_takes_its_rooms_with_it() {
    let mut world = World::subscribed();
    world.broker.publish(&room(0), b"a", Some(PublishId::new(1)));
    world.store(0, 2);
    world.broker.publish(&room(1), b"c", Some(PublishId::new(3)));
    assert_eq!(world.said(1), ["publish a", "store m2"]);
    world.hear(1, Role::Publisher, &moved(0, 2));
    // Not before all is answered that was sent there.
    assert_eq!(world.said(2), ["publish c"]);
    world.broker.publish(&room(0), b"d", Some(PublishId::new(4)));
    world.hear(1, Role::Publisher, &moved(0, 2));
    assert_eq!(world.events(), ["lost: [0]"]);
    assert_eq!(
        (world.said(1), world.said(2)),
        (vec![], vec!["publish a".to_owned(), "store m2".into(), "publish d".into()])
    );
    world.broker.subscribe(&room(0));
    assert_eq!(world.sent(2, Role::Subscriber), [["SSUBSCRIBE".to_owned(), channel(0)]]);
    // The old one lets go of it, which is known.
    world.hear(1, Role::Subscriber, &confirmation("sunsubscribe", &channel(0)));
    assert_eq!(world.events(), [""; 0]);
}

#[test]
fn rooms_that_a_node_lets_go_of_are_asked_for_where_they_are() {
    let mut world = World::subscribed();
    world.hear(2, Role::Subscriber, &confirmation("sunsubscribe", &channel(1)));
    assert_eq!(world.events(), ["lost: [1]"]);
    world.broker.subscribe(&room(1));
    assert_eq!(world.sent(2, Role::Subscriber), [[""; 0]; 0], "it may be a replica by now, which takes subscriptions");
    world.wait(Duration::from_millis(100));
    assert_eq!(world.sent_on(LinkId::at(0)), [["CLUSTER", "INFO"], ["CLUSTER", "SLOTS"]]);
    world.scout_hears_more(slots([1, 1]));
    assert_eq!(world.events(), ["lost: [1]"], "what has been asked meanwhile is asked again");
    world.broker.subscribe(&room(1));
    assert_eq!(world.sent(1, Role::Subscriber), [["SSUBSCRIBE".to_owned(), channel(1)]]);
}

#[test]
fn a_canary_whose_only_channel_was_let_go_of_has_it_back() {
    let mut world = World::subscribed();
    world.hear(2, Role::Subscriber, &confirmation("sunsubscribe", &channel(1)));
    assert_eq!(world.sent(2, Role::Subscriber), [[""; 0]; 0]);
    world.wait(Duration::from_millis(500));
    let said = world.sent(2, Role::Subscriber);
    assert!(said.len() == 1 && said[0][0] == "SSUBSCRIBE" && said[0][1].contains("canary"), "{said:?}");
}

#[test]
fn a_canary_that_was_asked_for_before_its_slot_had_come_is_asked_for_again() {
    let mut world = World::up();
    world.store(0, 1);
    assert_eq!(world.said(1), ["store m1"]);
    world.hear(1, Role::Publisher, &ask(0, 3));
    world.set_up(3, Role::Publisher);
    world.set_up(3, Role::Subscriber);
    let asked = world.sent(3, Role::Subscriber);
    assert!(asked.len() == 1 && asked[0][1].contains("canary"), "{asked:?}");
    let is_first = asked[0][1].contains("{0}");
    world.hear(3, Role::Subscriber, &if is_first { moved(0, 1) } else { moved(1, 2) });
    for ports in [[1, 2], if is_first { [3, 2] } else { [1, 3] }] {
        assert_eq!(world.sent(3, Role::Subscriber), [[""; 0]; 0], "it has no slot");
        world.wait(Duration::from_secs(1));
        world.sent_on(LinkId::at(0));
        world.scout_hears_more(slots(ports));
    }
    world.wait(Duration::from_secs(1));
    assert_eq!(world.sent(3, Role::Subscriber), asked);
}

#[test]
fn a_subscription_that_is_confirmed_too_late_is_ended() {
    for is_asked_again in [false, true] {
        let mut world = World::up();
        world.broker.subscribe(&room(1));
        assert_eq!(world.sent(2, Role::Subscriber).len(), 1);
        world.hear(2, Role::Subscriber, &confirmation("sunsubscribe", &channel(1)));
        assert_eq!(world.events(), ["lost: [1]"]);
        if is_asked_again {
            world.broker.subscribe(&room(1));
            world.wait(Duration::from_millis(500));
        }
        world.hear(2, Role::Subscriber, &confirmation("ssubscribe", &channel(1)));
        let said = world.sent(2, Role::Subscriber);
        let word = if is_asked_again { "SSUBSCRIBE" } else { "SUNSUBSCRIBE" };
        assert_eq!(said.last().unwrap(), &[word.to_owned(), channel(1)]);
        assert!(said.iter().all(|words| words[0] == word || words[1].contains("canary")), "{said:?}");
        assert_eq!(world.events(), [""; 0]);
    }
}

#[test]
fn a_node_that_gets_a_partition_back_is_connected_to_anew() {
    for has_ended_it in [false, true] {
        let mut world = World::subscribed();
        for (number, ports) in [[2, 2], [2, 1], [2, 2]].into_iter().enumerate() {
            if has_ended_it && number == 2 {
                world.hear(2, Role::Subscriber, &confirmation("sunsubscribe", &channel(1)));
            }
            world.wait(Duration::from_secs(1));
            world.sent_on(LinkId::at(0));
            world.scout_hears_more(slots(ports));
        }
        let is_connected =
            |world: &World| world.open.iter().any(|(link, port)| *port == 2 && world.broker.receives(*link));
        assert_eq!(is_connected(&world), has_ended_it);
    }
}

#[test]
fn what_an_unasked_unsubscription_answers_is_not_answered_twice() {
    let mut world = World::subscribed();
    world.broker.unsubscribe(&room(1));
    assert_eq!(world.sent(2, Role::Subscriber), [["SUNSUBSCRIBE".to_owned(), channel(1)]]);
    world.hear(2, Role::Subscriber, &[confirmation("sunsubscribe", &channel(1)), moved(1, 1)].concat());
    assert_eq!(world.events(), [format!("unsubscribed {}", room(1))]);
    world.broker.subscribe(&room(1));
    world.hear(2, Role::Subscriber, &[]);
    assert!(world.open.values().any(|port| *port == 2), "the connection is kept");
}

#[test]
fn while_a_slot_moves_what_the_new_node_stores_is_announced_at_the_old_one() {
    let mut world = World::subscribed();
    world.store(0, 1);
    assert_eq!(world.said(1), ["store m1"]);
    world.hear(1, Role::Publisher, &ask(0, 2));
    assert_eq!(world.said(2), ["ASKING", "store m1"]);
    world.hear(2, Role::Publisher, &[b"+OK\r\n".to_vec(), stored(7)].concat());
    assert_eq!(world.events(), ["published 1"]);
    assert_eq!(world.said(1), ["publish F2 1-00000000000000aa 7 m1"]);
    world.hear(1, Role::Publisher, b":1\r\n");
    assert_eq!(world.events(), [""; 0], "nobody has lost anything");
}

#[test]
fn a_room_whose_keys_are_at_two_nodes_waits_and_so_does_what_follows() {
    let mut world = World::subscribed();
    world.store(0, 1);
    assert_eq!(world.said(1), ["store m1"]);
    world.hear(1, Role::Publisher, b"-TRYAGAIN Multiple keys request during rehashing of slot\r\n");
    world.store(0, 2);
    world.store(1, 3);
    assert_eq!((world.said(1), world.said(2)), (vec![], vec!["store m3".to_owned()]));
    world.wait(Duration::from_millis(100));
    assert_eq!(world.said(1), ["store m1", "store m2"]);
    world.hear(1, Role::Publisher, &[stored(1), stored(2)].concat());
    assert_eq!(world.events(), ["published 1", "published 2"]);
}

#[test]
fn while_too_many_masters_are_away_publishes_wait_where_they_may() {
    let down = b"-CLUSTERDOWN The cluster is down\r\n";
    let mut world = World::subscribed();
    world.store(0, 1);
    world.said(1);
    world.hear(1, Role::Publisher, down);
    assert_eq!(world.events()[0], "not published 1: Unavailable");
    let mut world = World::up_with(RedisConfig { publish_wait: Duration::from_millis(300), ..config() });
    world.store(0, 1);
    world.store(0, 2);
    assert_eq!(world.said(1), ["store m1", "store m2"]);
    world.hear(1, Role::Publisher, &down.repeat(2));
    world.wait(Duration::from_millis(100));
    assert_eq!(world.said(1), ["store m1", "store m2"]);
    world.hear(1, Role::Publisher, &[stored(1), down.to_vec()].concat());
    world.wait(Duration::from_millis(200));
    assert_eq!(world.events(), ["published 1", "not published 2: Unavailable"]);
}

#[test]
fn what_finds_no_node_in_time_is_not_published() {
    let mut world = World::subscribed();
    world.store(0, 1);
    world.said(1);
    world.hear(1, Role::Publisher, b"-TRYAGAIN Multiple keys request during rehashing of slot\r\n");
    for _ in 0..99 {
        world.wait(Duration::from_millis(100));
        if world.said(1) == ["store m1"] {
            world.hear(1, Role::Publisher, b"-TRYAGAIN Multiple keys request during rehashing of slot\r\n");
        }
    }
    assert!(!world.events().iter().any(|event| event.contains("published")));
    world.wait(Duration::from_millis(300));
    assert!(world.events().contains(&"not published 1: Unavailable".to_owned()));
}

#[test]
fn a_lost_node_takes_its_own_rooms_down_and_no_others() {
    let mut world = World::subscribed();
    let query = Query { part: Part::Newest, messages_max: 1, bytes_max: 1 };
    world.broker.read(&room(1), query, RETENTION, ReadId::new(1));
    world.broker.publish(&room(1), b"a", Some(PublishId::new(1)));
    world.sent(2, Role::Publisher);
    world.fail(2, Role::Subscriber);
    world.fail(2, Role::Publisher);
    assert_eq!(
        world.events(),
        [
            "lost: [1]",
            "refusing: node:2, which has 1 of 2 partitions: reset",
            "not read 1, true",
            "not published 1: Unconfirmed"
        ]
    );
    world.broker.publish(&room(1), b"b", Some(PublishId::new(2)));
    world.broker.publish(&room(0), b"c", Some(PublishId::new(3)));
    world.broker.subscribe(&room(1));
    assert_eq!(
        (world.events(), world.said(1)),
        (vec!["not published 2: Unavailable".to_owned()], vec!["publish c".to_owned()])
    );
    // Its replica takes over.
    world.wait(Duration::from_millis(100));
    world.sent_on(LinkId::at(0));
    world.scout_hears_more(slots([1, 3]));
    assert_eq!(world.events(), ["lost: [1]", "willing"]);
    // Asked for before it is there.
    world.broker.subscribe(&room(1));
    assert_eq!(world.come_up(3), [["SSUBSCRIBE".to_owned(), channel(1)]]);
    assert_eq!(world.events(), [""; 0]);
}

#[test]
fn a_master_that_was_demoted_is_left_with_what_it_has_not_answered() {
    let mut world = World::subscribed();
    world.store(1, 1);
    assert_eq!(world.said(2), ["store m1"]);
    world.wait(Duration::from_secs(1));
    world.sent_on(LinkId::at(0));
    world.scout_hears_more(slots([1, 3]));
    assert_eq!(world.events(), ["lost: [1]"]);
    world.wait(Duration::from_millis(100));
    assert_eq!(world.events(), [""; 0], "it may have answered");
    world.wait(Duration::from_millis(100));
    assert_eq!(world.events(), ["not published 1: Unconfirmed"]);
    assert!(!world.open.values().any(|port| *port == 2), "{:?}", world.open);
}

#[test]
fn a_node_that_sends_to_itself_is_asked_again_after_a_pause() {
    for to in ["node:2", "?:6379"] {
        let moved = format!("-MOVED {} {to}\r\n", slot_of_partition(1)).into_bytes();
        let mut world = World::subscribed();
        world.store(1, 1);
        assert_eq!(world.said(2), ["store m1"]);
        world.hear(2, Role::Publisher, &moved);
        assert_eq!((world.said(2), world.events()), (vec![], vec!["lost: [1]".to_owned()]));
        world.broker.subscribe(&room(1));
        assert_eq!(world.sent(2, Role::Subscriber), [[""; 0]; 0]);
        world.wait(Duration::from_millis(100));
        assert_eq!(world.said(2), ["store m1"]);
        assert_eq!(world.sent(2, Role::Subscriber), [["SSUBSCRIBE".to_owned(), channel(1)]]);
        world.hear(2, Role::Subscriber, &moved);
        assert_eq!(world.events(), ["lost: [1]"], "so the room is asked for again");
    }
}

#[test]
fn masters_that_have_yet_to_connect_are_waited_for_at_the_start() {
    let mut world = World::new(config());
    world.poll();
    world.scout_hears(slots([1, 2]));
    world.come_up(1);
    world.sent(1, Role::Publisher);
    world.hear(1, Role::Publisher, b":1\r\n$9\r\n2 sharded\r\n");
    assert_eq!(world.events(), [""; 0], "the other one hangs, or is about to answer");
    world.wait(Duration::from_secs(1));
    let late = "refusing: node:2, which has 1 of 2 partitions: not connected yet";
    assert_eq!(world.events(), ["up", "publisher up", late]);
    world.come_up(2);
    assert_eq!(world.events(), ["willing"]);
}

#[test]
fn nobody_agrees_on_what_could_not_be_written() {
    let mut world = World::new(config());
    world.poll();
    world.scout_hears(slots([1, 2]));
    world.come_up(1);
    world.come_up(2);
    world.sent(1, Role::Publisher);
    world.hear(1, Role::Publisher, b"-NOREPLICAS Not enough good replicas to write.\r\n$-1\r\n");
    let events = world.events();
    assert!(events[0].starts_with("down: the master of the first partition cannot say yet"), "{events:?}");
    world.wait(Duration::from_millis(200));
    assert_eq!(world.said(1), ["SETNX", "GET"]);
    world.hear(1, Role::Publisher, b":1\r\n$9\r\n2 sharded\r\n");
    assert_eq!(world.events(), ["up", "publisher up", "willing"]);
}

#[test]
fn what_waits_is_refused_when_the_server_ends() {
    let mut world = World::subscribed();
    world.store(0, 1);
    world.said(1);
    world.hear(1, Role::Publisher, b"-TRYAGAIN Multiple keys request during rehashing of slot\r\n");
    world.store(0, 2);
    world.broker.stop_waiting();
    assert_eq!(world.events(), ["not published 1: Unavailable", "not published 2: Unavailable"]);
}

#[test]
fn a_removal_that_waits_for_its_node_is_one() {
    let mut world = World::subscribed();
    world.store(0, 1);
    world.said(1);
    world.hear(1, Role::Publisher, b"-TRYAGAIN Multiple keys request during rehashing of slot\r\n");
    let remove = Remove { what: Removal::One(7), epoch: None };
    let store = Store { retention: &RETENTION, key: None, removes: Some(&remove) };
    world.broker.store(&room(0), remove.what.payload().as_bytes(), &store, 0, Some(PublishId::new(2)));
    world.wait(Duration::from_millis(200));
    let sent = world.sent(1, Role::Publisher);
    assert!(sent.len() == 2 && sent[1].ends_with(&["REMOVED 7".to_owned(), "7".into(), String::new()]), "{sent:?}");
    world.hear(1, Role::Publisher, &[stored(1), b"-NOMESSAGE there is none\r\n".to_vec()].concat());
    assert_eq!(world.events(), ["published 1", "not published 2: NoMessage"]);
}

#[test]
fn instances_that_part_rooms_otherwise_are_refused() {
    let mut world = World::new(config());
    world.poll();
    world.scout_hears(slots([1, 2]));
    world.come_up(1);
    world.come_up(2);
    world.sent(1, Role::Publisher);
    world.hear(1, Role::Publisher, b":0\r\n$11\r\n256 sharded\r\n");
    let events = world.events();
    assert!(events[0].starts_with("down: rooms are parted otherwise here: into `2 sharded`"), "{events:?}");
    assert!(!events.contains(&"up".to_owned()));
    // Somebody has removed it.
    world.wait(Duration::from_secs(5));
    assert!(world.said(1).contains(&"SETNX".to_owned()));
}

/// The connections are up, and nobody has said yet what instances agree on.
fn unagreed(ports: [u16; 2]) -> World {
    let mut world = World::new(config());
    world.poll();
    world.scout_hears(slots(ports));
    world.come_up(1);
    world.come_up(2);
    world
}

#[test]
fn what_instances_agree_on_is_asked_again_of_the_node_that_has_it() {
    let mut world = unagreed([1, 2]);
    assert_eq!(world.said(1), ["SETNX", "GET"]);
    world.hear(1, Role::Publisher, &[moved(0, 2), moved(0, 2)].concat());
    assert_eq!(world.said(2), ["SETNX", "GET"]);
    world.hear(2, Role::Publisher, b":1\r\n$9\r\n2 sharded\r\n");
    assert_eq!(world.events(), ["up", "publisher up"]);
}

#[test]
fn what_instances_agree_on_is_asked_again_of_a_node_that_cannot_say_it_now() {
    for refusal in [b"-CLUSTERDOWN The cluster is down\r\n".to_vec(), ask(0, 2)] {
        let mut world = unagreed([1, 2]);
        assert_eq!(world.said(1), ["SETNX", "GET"]);
        world.hear(1, Role::Publisher, &refusal.repeat(2));
        assert!(!world.events().contains(&"up".to_owned()), "{refusal:?}");
        world.wait(Duration::from_millis(200));
        assert_eq!(world.said(1), ["SETNX", "GET"]);
        world.hear(1, Role::Publisher, b":1\r\n$9\r\n2 sharded\r\n");
        assert_eq!(world.events(), ["up", "publisher up", "willing"]);
    }
}

#[test]
fn what_instances_agree_on_is_asked_of_a_node_that_was_there_before_it_had_it() {
    let mut world = World::new(config());
    world.poll();
    world.scout_hears(slots([3, 2]));
    world.come_up(2);
    assert_eq!(world.said(2), [""; 0]);
    world.wait(Duration::from_secs(1));
    world.sent_on(LinkId::at(0));
    world.scout_hears_more(slots([2, 2]));
    assert_eq!(world.said(2), ["SETNX", "GET"]);
}

#[test]
fn a_node_that_is_cut_off_is_believed_only_if_all_say_the_same() {
    let mut world = World::new(config());
    world.poll();
    world.scout_hears(slots([1, 2]));
    world.come_up(1);
    world.come_up(2);
    world.sent(1, Role::Publisher);
    world.hear(1, Role::Publisher, b":1\r\n$9\r\n2 sharded\r\n");
    world.events();
    world.wait(Duration::from_secs(1));
    world.sent_on(LinkId::at(0));
    let down =
        String::from_utf8(slots([2, 2])).unwrap().replace("$18\r\ncluster_state:ok", "$20\r\ncluster_state:fail");
    world.scout_hears_more(down.clone().into_bytes());
    assert_eq!(world.events(), [""; 0]);
    // The other node, which it has learned of.
    assert_eq!(world.open[&LinkId::at(0)], 2);
    world.scout_hears(down.into_bytes());
    assert!(world.events().contains(&"lost: [0]".to_owned()));
}

#[test]
fn nothing_is_said_on_a_connection_that_is_lost_before_anybody_has_heard_of_it() {
    let mut world = unagreed([1, 2]);
    world.wait(Duration::from_secs(1));
    world.sent_on(LinkId::at(0));
    let link = world.link(2, Role::Publisher);
    world.open.remove(&link);
    world.broker.disconnected(link, "reset", world.now);
    world.scout_hears_more(slots([2, 2]));
    assert_eq!(world.broker.output(link), b"", "it would stand before the set-up of the next one");
}
