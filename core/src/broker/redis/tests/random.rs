//! Random sequences of commands, cuts and failures against a small model of Redis and of the hub.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::broker::redis::history::Script as Lua;
use crate::broker::{PublishError, ReadId, Store};
use crate::history::{Part, Query, Retention};

const RETENTION: Retention = Retention { messages_max: 10, bytes_max: 1_000, age_max: Duration::from_secs(60) };

/// The room that the model's Redis does not allow.
const FORBIDDEN: &str = "room5";

/// One thing a server may say to a subscriber with twelve outstanding subscriptions.
fn said() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => "[a-z\r\n]{0,40}".prop_map(|text| push(b'>', &["message", "fanfare:r", &text])),
        1 => "[a-z]{0,40}".prop_map(|text| push(b'*', &["message", "fanfare:ü", &text])),
        1 => (41_usize..3_000).prop_map(|len| push(b'>', &["message", "fanfare:r", &"y".repeat(len)])),
        1 => Just(b">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n".to_vec()),
        1 => Just(b"|1\r\n+ttl\r\n:3600\r\n>3\r\n+message\r\n$9\r\nfanfare:a\r\n$2\r\nhi\r\n".to_vec()),
        1 => Just(b"-NOPERM no\r\n".to_vec()),
        1 => prop::collection::vec(any::<u8>(), 1..4),
    ]
}

proptest! {
    #[test]
    fn any_split_of_the_input_gives_the_same_events(
        parts in prop::collection::vec(said(), 1..12),
        confirmed in 0_usize..13,
        cuts in prop::collection::vec(1_usize..600, 1..20),
    ) {
        let mut bytes = Vec::new();
        for (index, part) in parts.iter().enumerate() {
            if index < confirmed {
                bytes.extend(confirmation("subscribe", &format!("fanfare:{index}")));
            }
            bytes.extend(part);
        }
        let run = |sizes: &[usize]| {
            let mut script = Script::up(RedisConfig { message_bytes_max: 40, ..RedisConfig::default() });
            for room in 0..12 {
                script.session.subscribe(&room.to_string());
                script.sent(Role::Subscriber);
            }
            let mut rest = &bytes[..];
            for size in sizes.iter().cycle() {
                let (now, later) = rest.split_at((*size).min(rest.len()));
                script.hear(Role::Subscriber, now);
                rest = later;
                if rest.is_empty() {
                    break;
                }
            }
            // Broken bytes end the connection when they are looked at, which may be when more of them are there; so
            // all connections end here, and why is not compared.
            script.session.disconnected(link(Role::Subscriber), "", script.now);
            let mut events = script.events();
            prop_assert!(events.pop().is_some_and(|event| event.starts_with("down: ")));
            Ok((events, script.session.stats().oversized, script.session.stats().ignored))
        };
        let whole = run(&[bytes.len()])?;
        prop_assert_eq!(&run(&cuts)?, &whole);
        prop_assert_eq!(&run(&[1])?, &whole);
    }

    #[test]
    fn nothing_is_answered_twice_or_never_and_subscriptions_meet_the_wish(
        steps in prop::collection::vec(step(), 1..120),
        seed in any::<u64>(),
    ) {
        let mut world = World::new(seed);
        for step in steps {
            world.take(step);
        }
        world.heal();
    }

    #[test]
    fn no_input_makes_it_panic(
        inputs in prop::collection::vec((any::<bool>(), prop_oneof![said(), prop::collection::vec(any::<u8>(), 0..60)]), 0..40),
    ) {
        let mut script = Script::up(RedisConfig { message_bytes_max: 40, ..RedisConfig::default() });
        for (publisher, bytes) in inputs {
            script.publish(1);
            script.session.subscribe("0");
            script.hear(if publisher { Role::Publisher } else { Role::Subscriber }, &bytes);
            for (role, request) in script.requests() {
                if request != ConnectionRequest::Drop {
                    script.session.connected(link(role), script.now);
                }
            }
            script.wait(Duration::from_millis(100));
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Publish {
        with_id: bool,
        bytes: usize,
    },
    Store {
        with_id: bool,
        room: usize,
        bytes: usize,
    },
    Read,
    /// The server forgets its scripts.
    Forget,
    /// Another instance loads them.
    Remember,
    Wish {
        room: usize,
        wanted: bool,
    },
    /// The kernel takes so many bytes of a role's output.
    Write {
        role: Role,
        bytes: usize,
    },
    /// The server reads all it was sent, and so many bytes of its answers arrive.
    Serve {
        role: Role,
        bytes: usize,
    },
    Break {
        role: Role,
    },
    Connect,
    /// The server tells the subscriber nothing any more that is published.
    Deafen,
    /// The server begins to run a script, or ends it.
    Busy {
        busy: bool,
    },
    /// So many replicas are there from now on.
    Replicas(u16),
    Wait {
        millis: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let role = || prop_oneof![Just(Role::Subscriber), Just(Role::Publisher), Just(Role::DurablePublisher)];
    // The scripts alone are some 14 KB.
    let bytes = |few: usize| prop_oneof![2 => 0..few, 1 => Just(usize::MAX)];
    prop_oneof![
        6 => (any::<bool>(), 0_usize..300).prop_map(|(with_id, bytes)| Step::Publish { with_id, bytes }),
        6 => (any::<bool>(), 0_usize..3, 0_usize..300).prop_map(|(with_id, room, bytes)| Step::Store { with_id, room, bytes }),
        1 => Just(Step::Read),
        1 => Just(Step::Forget),
        1 => Just(Step::Remember),
        6 => (0_usize..6, any::<bool>()).prop_map(|(room, wanted)| Step::Wish { room, wanted }),
        8 => (role(), bytes(400)).prop_map(|(role, bytes)| Step::Write { role, bytes }),
        8 => (role(), bytes(200)).prop_map(|(role, bytes)| Step::Serve { role, bytes }),
        1 => role().prop_map(|role| Step::Break { role }),
        4 => Just(Step::Connect),
        1 => Just(Step::Deafen),
        2 => any::<bool>().prop_map(|busy| Step::Busy { busy }),
        1 => (0_u16..3).prop_map(Step::Replicas),
        2 => (0_u64..4_000).prop_map(|millis| Step::Wait { millis }),
    ]
}

/// What a server knows of one connection.
#[derive(Default)]
struct Served {
    open: bool,
    heard: Vec<u8>,
    answers: Vec<u8>,
    subscribed: BTreeSet<String>,
    /// It is told nothing that is published.
    deaf: bool,
}

struct World {
    script: Script,
    /// Its name.
    canary: String,
    served: [Served; Role::COUNT],
    /// Payload lengths tell publishes apart only by id, so ids travel in the payload.
    taken_by_server: BTreeSet<u64>,
    /// The same of what was stored, by room.
    stored: BTreeMap<String, Vec<u64>>,
    /// How many replicas it has.
    replicas: u16,
    /// How many had each message that was stored when a `WAIT` was answered.
    replicated: BTreeMap<u64, u16>,
    /// Rooms may wait for replicas.
    waits: bool,
    /// Scripts that the server knows.
    scripts: BTreeSet<&'static str>,
    waiting: BTreeSet<u64>,
    reads: BTreeSet<u64>,
    next_id: u64,
    /// In which room each was to be stored that was.
    rooms: BTreeMap<u64, String>,
    /// The last that was answered of what was only published, and confirmed of each room.
    last_ordered: BTreeMap<Option<String>, u64>,
    wanted: BTreeSet<String>,
    held: BTreeSet<String>,
    asked: BTreeMap<String, bool>,
    up: [bool; 2],
    /// Why each role is not up, as was told last.
    down: [String; 2],
    /// The server runs a script, and answers nothing else.
    busy: bool,
    /// So it was told.
    refusing: bool,
}

impl World {
    fn new(seed: u64) -> World {
        let keeps_history = !seed.is_multiple_of(4);
        let buffer_bytes_max = if keeps_history { 4_000 } else { 1_500 };
        let waits_for_replicas = seed.is_multiple_of(2);
        let config = RedisConfig {
            seed,
            publishes_in_flight_max: 5,
            buffer_bytes_max,
            keeps_history,
            waits_for_replicas,
            publish_wait: Duration::from_millis(if seed.is_multiple_of(3) { 500 } else { 0 }),
            ..RedisConfig::default()
        };
        World {
            canary: Canary::new(config.seed, &config).name().to_owned(),
            script: Script::new(config),
            served: Default::default(),
            taken_by_server: BTreeSet::new(),
            stored: BTreeMap::new(),
            replicas: 2,
            replicated: BTreeMap::new(),
            waits: waits_for_replicas,
            scripts: BTreeSet::new(),
            waiting: BTreeSet::new(),
            reads: BTreeSet::new(),
            next_id: 1,
            rooms: BTreeMap::new(),
            last_ordered: BTreeMap::new(),
            wanted: BTreeSet::new(),
            held: BTreeSet::new(),
            asked: BTreeMap::new(),
            up: [false; 2],
            down: Default::default(),
            busy: false,
            refusing: false,
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Publish { with_id, bytes } => {
                let (id, payload) = self.next(with_id, bytes);
                self.script.session.publish("r", payload.as_bytes(), id);
            }
            Step::Store { with_id, room, bytes } => {
                let (id, payload) = self.next(with_id, bytes);
                let replicas_min = if self.waits { room as u16 } else { 0 };
                let room = format!("kept{room}");
                self.rooms.insert(self.next_id - 1, room.clone());
                let store = Store { retention: &RETENTION, key: None, removes: None };
                self.script.session.store(&room, payload.as_bytes(), &store, replicas_min, id);
            }
            Step::Read => {
                self.reads.insert(self.next_id);
                let query = Query { part: Part::Newest, messages_max: 9, bytes_max: 9 };
                self.script.session.read("kept0", query, RETENTION, ReadId::new(self.next_id));
                self.next_id += 1;
            }
            Step::Forget => self.scripts.clear(),
            Step::Remember => self.scripts.extend(Lua::ALL.map(Lua::sha1)),
            Step::Wish { room, wanted } => {
                let room = format!("room{room}");
                if wanted {
                    self.wanted.insert(room)
                } else {
                    self.wanted.remove(&room)
                };
            }
            Step::Write { role, bytes } => self.write(role, bytes),
            Step::Serve { role, bytes } => self.serve(role, bytes),
            Step::Break { role } => {
                if std::mem::take(&mut self.served[role as usize]).open {
                    self.script.session.disconnected(link(role), "broken", self.script.now);
                }
            }
            Step::Connect => {}
            Step::Deafen => self.served[Role::Subscriber as usize].deaf = true,
            Step::Busy { busy } => self.busy = busy,
            Step::Replicas(replicas) => self.replicas = replicas,
            Step::Wait { millis } => {
                self.script.now = self.script.now + Duration::from_millis(millis);
                self.script.session.timeout(self.script.now);
            }
        }
        let mut events = Vec::new();
        self.script.session.poll_events(|event| events.push(Heard::from(event)));
        self.hear(events);
        for (role, request) in self.script.requests() {
            self.served[role as usize] = Served::default();
            if request != ConnectionRequest::Drop {
                self.served[role as usize].open = true;
                self.script.session.connected(link(role), self.script.now);
            }
        }
    }

    fn next(&mut self, with_id: bool, bytes: usize) -> (Option<PublishId>, String) {
        let id = self.next_id;
        self.next_id += 1;
        if with_id {
            self.waiting.insert(id);
        }
        (with_id.then(|| PublishId::new(id)), format!("{id} {}", "z".repeat(bytes)))
    }

    fn write(&mut self, role: Role, bytes: usize) {
        let output = self.script.session.output(link(role));
        let len = bytes.min(output.len());
        let served = &mut self.served[role as usize];
        served.heard.extend(&output[..len]);
        self.script.session.written(link(role), len);
    }

    fn serve(&mut self, role: Role, bytes: usize) {
        let mut heard = Vec::new();
        let is_told = |name: &str, subscriber: &Served| !subscriber.deaf && subscriber.subscribed.contains(name);
        let canaries = is_told(&self.canary, &self.served[Role::Subscriber as usize]);
        let served = &mut self.served[role as usize];
        let limits = resp::Limits { message_bytes_max: 1 << 20, reply_bytes_max: 1 << 20 };
        while !served.heard.is_empty() {
            let len = match resp::scan(&served.heard, &limits).expect("output is well-formed") {
                resp::Scan::Reply { len, .. } => len,
                resp::Scan::Incomplete { .. } => break,
                other => panic!("no command: {other:?}"),
            };
            let command = commands(&served.heard[..len]).remove(0);
            served.heard.drain(..len);
            let rooms = || command[1..].iter().map(|channel| channel.strip_prefix("fanfare:").unwrap().to_owned());
            match command[0].as_str() {
                "HELLO" => served.answers.extend(HELLO_REPLY),
                _ if self.busy => served.answers.extend(b"-BUSY running a script\r\n"),
                "ROLE" => served.answers.extend(MASTER),
                "PING" => served.answers.extend(PONG),
                "WAIT" => {
                    assert!(command[2] != "0", "it would wait for ever");
                    for id in self.stored.values().flatten() {
                        let most = self.replicated.entry(*id).or_default();
                        *most = self.replicas.max(*most);
                    }
                    served.answers.extend(format!(":{}\r\n", self.replicas).as_bytes());
                }
                "PUBLISH" if Canary::is_named(&rooms().next().unwrap()) => {
                    served.answers.extend(b":1\r\n");
                    if canaries {
                        heard.extend(push(b'>', &["message", &command[1], &command[2]]));
                    }
                }
                "PUBLISH" => {
                    let id: u64 = command[2].split(' ').next().unwrap().parse().unwrap();
                    if id.is_multiple_of(7) {
                        served.answers.extend(b"-NOPERM no\r\n");
                    } else {
                        self.taken_by_server.insert(id);
                        served.answers.extend(b":3\r\n");
                    }
                }
                "SCRIPT" => {
                    let loaded = Lua::ALL.into_iter().find(|script| script.source() == command[2]).unwrap().sha1();
                    self.scripts.insert(loaded);
                    served.answers.extend(format!("$40\r\n{loaded}\r\n").as_bytes());
                }
                "INFO" => served.answers.extend(MEMORY),
                "EVALSHA" if !self.scripts.contains(&*command[1]) => served.answers.extend(b"-NOSCRIPT no\r\n"),
                "EVALSHA" if command[1] == Lua::Read.sha1() => served.answers.extend(PAGE),
                "EVALSHA" => {
                    let stored =
                        self.stored.entry(command[8].strip_prefix("fanfare:").unwrap().to_owned()).or_default();
                    let id: u64 = command[11].split(' ').next().unwrap().parse().unwrap();
                    if id.is_multiple_of(7) {
                        served.answers.extend(b"-OOM no\r\n");
                    } else {
                        stored.push(id);
                        self.taken_by_server.insert(id);
                        served.answers.extend(stored_at(stored.len() as u64));
                    }
                }
                "SUBSCRIBE" if rooms().any(|room| room == FORBIDDEN) => served.answers.extend(b"-NOPERM no\r\n"),
                operation => {
                    for room in rooms() {
                        served.answers.extend(confirmation(&operation.to_lowercase(), &format!("fanfare:{room}")));
                        match operation {
                            "SUBSCRIBE" => served.subscribed.insert(room),
                            "UNSUBSCRIBE" => served.subscribed.remove(&room),
                            other => panic!("unknown command {other}"),
                        };
                    }
                }
            }
        }
        self.served[Role::Subscriber as usize].answers.extend(heard);
        let served = &mut self.served[role as usize];
        let len = bytes.min(served.answers.len());
        let arrives: Vec<u8> = served.answers.drain(..len).collect();
        let mut events = Vec::new();
        self.script.session.input(link(role), &arrives, self.script.now, |event| events.push(Heard::from(event)));
        self.hear(events);
    }

    fn forget_subscriptions(&mut self, role: Role) {
        if role == Role::Subscriber {
            self.held.clear();
            self.asked.clear();
        }
    }

    /// The hub's part: takes events, then asks for what is missing.
    fn hear(&mut self, events: Vec<Heard>) {
        for event in events {
            match event {
                Heard::Up(role) => {
                    assert!(!std::mem::replace(&mut self.up[role as usize], true), "up twice");
                    self.forget_subscriptions(role);
                }
                Heard::Down(role, reason) => {
                    let was_up = std::mem::take(&mut self.up[role as usize]);
                    assert!(was_up || self.down[role as usize] != reason, "told twice: {reason}");
                    self.down[role as usize] = reason;
                    if role == Role::Publisher {
                        self.reads.clear();
                    }
                    self.forget_subscriptions(role);
                }
                Heard::Subscribed(room) => {
                    assert_eq!(self.asked.remove(&room), Some(true));
                    self.held.insert(room);
                }
                Heard::Unsubscribed(room) => {
                    assert_eq!(self.asked.remove(&room), Some(false));
                    self.held.remove(&room);
                }
                Heard::Failed(room) => {
                    assert_eq!(room, FORBIDDEN);
                    assert_eq!(self.asked.remove(&room), Some(true));
                    self.wanted.remove(&room);
                }
                Heard::Read(id) => assert!(self.reads.remove(&id), "{id} is read twice"),
                Heard::Outcome(id, error) => self.outcome(id, error),
                Heard::Refusing(refusing) => {
                    assert!(refusing || self.refusing, "willing, and never refused");
                    self.refusing = refusing;
                }
            }
        }
        if self.up[Role::Subscriber as usize] {
            for room in self.wanted.difference(&self.held) {
                if !self.asked.contains_key(room) {
                    self.asked.insert(room.clone(), true);
                    self.script.session.subscribe(room);
                }
            }
            for room in self.held.difference(&self.wanted) {
                if !self.asked.contains_key(room) {
                    self.asked.insert(room.clone(), false);
                    self.script.session.unsubscribe(room);
                }
            }
        }
    }

    fn outcome(&mut self, id: u64, error: Option<PublishError>) {
        assert!(self.waiting.remove(&id), "{id} is answered twice");
        match error {
            None => {
                assert!(self.taken_by_server.contains(&id));
                let replicas_min = match self.rooms.get(&id).and_then(|room| room.strip_prefix("kept")?.parse().ok()) {
                    Some(replicas_min) if self.waits => replicas_min,
                    _ => 0,
                };
                let replicas = self.replicated.get(&id).copied().unwrap_or_default();
                assert!(replicas >= replicas_min, "{id} is at {replicas} replicas, and needs {replicas_min}");
            }
            Some(PublishError::Unconfirmed) => {}
            Some(PublishError::Unreplicated) => assert!(self.waits && self.taken_by_server.contains(&id)),
            Some(_) => assert!(!self.taken_by_server.contains(&id), "{id} was taken, and denied: {error:?}"),
        }
        // Of all that is only published, but for what is refused at once; and of what is stored in one room.
        let room = self.rooms.get(&id).cloned();
        if error.is_none() || room.is_none() && error != Some(PublishError::Busy) {
            let last = self.last_ordered.entry(room).or_default();
            assert!(id > *last, "{id} is answered after {last}");
            *last = id;
        }
    }

    /// No faults any more: everything must come right.
    fn heal(&mut self) {
        (self.busy, self.replicas) = (false, 2);
        // Until a canary has been missed, and another connection is up.
        for _ in 0..400 {
            for role in Role::ALL {
                self.take(Step::Write { role, bytes: usize::MAX });
                self.take(Step::Serve { role, bytes: usize::MAX });
            }
            self.take(Step::Wait { millis: 60 });
        }
        assert_eq!((self.up, self.refusing), ([true; 2], false));
        assert!(self.waiting.is_empty(), "never answered: {:?}", self.waiting);
        assert!(self.reads.is_empty(), "never read: {:?}", self.reads);
        for stored in self.stored.values() {
            assert!(stored.is_sorted_by(|one, next| one < next), "stored twice, or out of order: {stored:?}");
        }
        assert!(self.asked.is_empty());
        self.wanted.remove(FORBIDDEN);
        assert_eq!(self.held, self.wanted);
        let subscriber = &mut self.served[Role::Subscriber as usize];
        subscriber.subscribed.remove(&self.canary);
        assert_eq!((&subscriber.subscribed, subscriber.deaf), (&self.wanted, false));
        assert_eq!(self.script.session.stats().publishes_in_flight, 0);
    }
}

/// An event that may be kept.
enum Heard {
    Up(Role),
    Down(Role, String),
    Subscribed(String),
    Unsubscribed(String),
    Failed(String),
    Outcome(u64, Option<PublishError>),
    Read(u64),
    /// Redis refuses for a while, or does no more.
    Refusing(bool),
}

impl From<BrokerEvent<'_>> for Heard {
    fn from(event: BrokerEvent<'_>) -> Heard {
        match event {
            BrokerEvent::Up => Heard::Up(Role::Subscriber),
            BrokerEvent::Down { reason } => Heard::Down(Role::Subscriber, reason.to_owned()),
            BrokerEvent::PublisherUp => Heard::Up(Role::Publisher),
            BrokerEvent::PublisherDown { reason } => Heard::Down(Role::Publisher, reason.to_owned()),
            BrokerEvent::Refusing { .. } => Heard::Refusing(true),
            BrokerEvent::Willing => Heard::Refusing(false),
            BrokerEvent::Subscribed { room } => Heard::Subscribed(room.to_owned()),
            BrokerEvent::Unsubscribed { room } => Heard::Unsubscribed(room.to_owned()),
            BrokerEvent::SubscribeFailed { room, .. } => Heard::Failed(room.to_owned()),
            BrokerEvent::Message { .. } | BrokerEvent::Lost { .. } => {
                panic!("the model publishes to nobody, and has one server")
            }
            BrokerEvent::PresenceKept { .. }
            | BrokerEvent::Roster { .. }
            | BrokerEvent::PresenceFailed { .. }
            | BrokerEvent::PresenceLost => panic!("nobody asks who is there"),
            BrokerEvent::Fenced { .. } => panic!("nobody asks for a fence"),
            BrokerEvent::Read { id, .. } | BrokerEvent::ReadFailed { id, .. } => Heard::Read(id.number()),
            BrokerEvent::Published { id, .. } => Heard::Outcome(id.number(), None),
            BrokerEvent::PublishFailed { id, error } => Heard::Outcome(id.number(), Some(error)),
        }
    }
}
