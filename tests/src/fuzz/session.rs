//! A session with Redis in the midst of its life: asked, answered in order and out of it, cut off, and lied to. What it
//! reports stays within what was asked of it.

mod sentinel;

use super::presence;
use super::resp::HELLO_REPLY;
use super::steps::{short, steps};
use crate::redis_config;
use arbitrary::{Result, Unstructured};
use fanfare_core::broker::redis::history::Script;
use fanfare_core::broker::redis::resp::{Limits, Reply, Scan, scan};
use fanfare_core::broker::redis::{ConnectionRequest, LinkId, LinkState, RedisBroker};
use fanfare_core::broker::{BrokerEvent, PublishId, ReadId, Store};
use fanfare_core::history::{Part, Query, Retention};
use fanfare_core::time::Time;
use sentinel::Sentinel;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

const PUBLISHES_IN_FLIGHT_MAX: usize = 5;
const BUFFER_BYTES_MAX: usize = 1_500;
/// Reads that the hub lets wait at a time, and the bytes of each.
const READS_IN_FLIGHT_MAX: usize = 3;
const READ_BYTES_MAX: usize = 500;
/// A probe and a number of the canary's, and with it twice all that loads the scripts: because it is due, and because they are forgotten.
const PROBE_BYTES_MAX: usize = 300;
const SCRIPTS_BYTES_MAX: usize = PROBE_BYTES_MAX
    + READS_IN_FLIGHT_MAX * READ_BYTES_MAX
    + 2 * (Script::Store.source().len() + Script::Read.source().len() + 100);
const RETENTION: Retention = Retention { messages_max: 9, bytes_max: 999, age_max: Duration::from_secs(9) };

/// One thing that happens. `true` means the publisher's connection.
#[derive(Clone, Copy, Debug)]
enum Step<'a> {
    /// These bytes arrive.
    Hear(bool, &'a [u8]),
    /// So many commands that were written are answered in good faith.
    Answer(bool, u8),
    /// One of them is refused, for a while or for good.
    Refuse(bool, u8),
    /// A confirmation that nobody may have asked for.
    Confirm(bool, u8),
    /// A message is published to a room.
    Message(bool, u8, &'a [u8]),
    /// The kernel takes so many bytes.
    Write(bool, u16),
    Publish(bool, u16),
    /// In one of two rooms.
    Store(bool, bool, u16),
    Read,
    /// Something about who is in a room.
    Presence(u8),
    Wish(u8, bool),
    /// The connection breaks, or cannot be established.
    Break(bool),
    /// The connection asked for is established.
    Connect(bool),
    Wait(u16),
    /// Something happens between a Sentinel and the session.
    Sentinel(u8, sentinel::Step<'a>),
}

impl<'a> Step<'a> {
    fn read(bytes: &mut Unstructured<'a>, has_sentinels: bool) -> Result<Step<'a>> {
        Ok(match bytes.int_in_range(0..=if has_sentinels { 18 } else { 13 })? {
            0 => Step::Hear(bytes.arbitrary()?, short(bytes)?),
            1 => Step::Answer(bytes.arbitrary()?, bytes.arbitrary()?),
            2 => Step::Confirm(bytes.arbitrary()?, bytes.arbitrary()?),
            3 => Step::Message(bytes.arbitrary()?, bytes.arbitrary()?, short(bytes)?),
            4 => Step::Write(bytes.arbitrary()?, bytes.arbitrary()?),
            5 => Step::Publish(bytes.arbitrary()?, bytes.arbitrary()?),
            6 => Step::Wish(bytes.arbitrary()?, bytes.arbitrary()?),
            7 => Step::Break(bytes.arbitrary()?),
            8 => Step::Connect(bytes.arbitrary()?),
            9 => Step::Refuse(bytes.arbitrary()?, bytes.arbitrary()?),
            10 => Step::Store(bytes.arbitrary()?, bytes.arbitrary()?, bytes.arbitrary()?),
            11 => Step::Read,
            12 => Step::Wait(bytes.arbitrary()?),
            13 => Step::Presence(bytes.arbitrary()?),
            _ => Step::Sentinel(bytes.arbitrary()?, sentinel::Step::read(bytes)?),
        })
    }
}

/// One line for each event.
pub(super) fn written(event: BrokerEvent<'_>) -> String {
    match event {
        BrokerEvent::Up => "up".to_owned(),
        BrokerEvent::Down { reason } => format!("down: {reason}"),
        BrokerEvent::PublisherUp => "publisher up".to_owned(),
        BrokerEvent::PublisherDown { reason } => format!("publisher down: {reason}"),
        other => format!("{other:?}"),
    }
}

/// The link that subscribes, and the one that publishes.
pub(super) fn links_of(session: &RedisBroker) -> [LinkId; 2] {
    let links = |receives| move |link: &LinkId| session.receives(*link) == receives;
    [true, false].map(|receives| session.links().find(links(receives)).expect("there is one of each"))
}

/// What stands at the server's end of a connection.
#[derive(Default)]
pub(super) struct Link {
    /// The session asked for it, and was not told of its end.
    pub(super) open: bool,
    pub(super) established: bool,
    /// Bytes written and not understood yet.
    pub(super) heard: Vec<u8>,
    /// Commands not answered yet.
    pub(super) commands: VecDeque<Vec<Vec<u8>>>,
}

impl Link {
    /// Takes the commands that are whole.
    pub(super) fn understand(&mut self) {
        let limits = Limits { message_bytes_max: 1 << 20, reply_bytes_max: 1 << 20 };
        loop {
            let len = match scan(&self.heard, &limits).expect("commands are well-formed") {
                Scan::Reply { reply: Reply::Array(items), len } => {
                    self.commands.push_back(items.map(argument).collect());
                    len
                }
                Scan::Incomplete { .. } => return,
                other => panic!("no command: {other:?}"),
            };
            self.heard.drain(..len);
        }
    }
}

/// The session, its surroundings, and what it may report.
pub(super) struct History {
    session: RedisBroker,
    now: Time,
    /// The subscriber's link and the publisher's.
    pair: [LinkId; 2],
    /// The server's end of each.
    links: [Link; 2],
    up: [bool; 2],
    /// Why each link is not up, as was told last.
    down: [String; 2],
    /// What is outstanding per room: `true` for a subscription.
    asked: BTreeMap<String, bool>,
    held: BTreeSet<String>,
    waiting: BTreeSet<u64>,
    reads: BTreeSet<u64>,
    presence: presence::Asked,
    /// Bytes that the session may have to write beside what it is asked to publish.
    surplus_bytes_max: usize,
    ids: u64,
    /// The server refuses for a while, as was told last.
    refusing: bool,
    /// What no reason may hold.
    passwords: Passwords,
    /// The Sentinels, where there are any.
    sentinels: Vec<Sentinel>,
}

pub(super) type Passwords = [Option<&'static str>; 2];

impl History {
    /// Decodes steps from the bytes and takes them.
    pub fn run(data: &[u8]) {
        let mut bytes = Unstructured::new(data);
        let seed = bytes.arbitrary().unwrap_or(0_u8);
        let password = (seed & 1 != 0).then_some("secret");
        let keeps_history = seed & 4 != 0;
        let keeps_presence = seed & 64 != 0;
        let sentinels = if seed & 8 != 0 { 1 + usize::from(seed >> 4) % 3 } else { 0 };
        let sentinel_password = (sentinels > 0 && seed & 1 != 0).then_some("s3ntinel");
        let config = redis_config(|config| {
            config.keeps_history = keeps_history;
            config.keeps_presence = keeps_presence;
            config.seed = seed.into();
            config.password = password.map(str::to_owned);
            config.sentinel_password = sentinel_password.map(str::to_owned);
            if sentinels > 0 {
                config.topology = sentinel::topology(sentinels);
            }
            config.database = (seed >> 1 & 1).into();
            config.message_bytes_max = 60;
            config.publishes_in_flight_max = PUBLISHES_IN_FLIGHT_MAX;
            config.buffer_bytes_max = BUFFER_BYTES_MAX;
        });
        let session = RedisBroker::new(config);
        let mut history = History {
            pair: links_of(&session),
            sentinels: session.links().skip(2).map(Sentinel::new).collect(),
            session,
            now: Time::from_millis(1_000),
            links: Default::default(),
            up: [false; 2],
            down: Default::default(),
            asked: BTreeMap::new(),
            held: BTreeSet::new(),
            waiting: BTreeSet::new(),
            reads: BTreeSet::new(),
            presence: presence::Asked::default(),
            surplus_bytes_max: if keeps_history { SCRIPTS_BYTES_MAX } else { PROBE_BYTES_MAX }
                + if keeps_presence { 2 * presence::bytes_max() } else { 0 },
            ids: 0,
            refusing: false,
            passwords: [password, sentinel_password],
        };
        history.drive();
        for step in steps(&mut bytes, |bytes| Step::read(bytes, sentinels > 0)) {
            history.take(step);
            history.drive();
        }
        history.end();
    }

    fn take(&mut self, step: Step<'_>) {
        match step {
            Step::Hear(publisher, bytes) => self.hear(publisher, bytes),
            Step::Answer(publisher, commands) => {
                for _ in 0..commands.min(32) {
                    self.answer(publisher);
                }
            }
            Step::Refuse(publisher, choice) => {
                if self.links[usize::from(publisher)].commands.pop_front().is_some() {
                    self.hear(publisher, REFUSALS[usize::from(choice) % REFUSALS.len()]);
                }
            }
            Step::Confirm(publisher, choice) => {
                let kind = ["subscribe", "unsubscribe"][usize::from(choice >> 7)];
                self.hear(publisher, &confirmation(kind, &channel(choice)));
            }
            Step::Message(publisher, room, payload) => {
                let channel = channel(room);
                let head = format!(">3\r\n$7\r\nmessage\r\n${}\r\n{channel}\r\n${}\r\n", channel.len(), payload.len());
                self.hear(publisher, &[head.as_bytes(), payload, b"\r\n"].concat());
            }
            Step::Write(publisher, bytes) => self.write(publisher, bytes.into()),
            Step::Publish(with_id, bytes) => {
                let id = self.id(with_id);
                self.session.publish("room", &vec![b'z'; usize::from(bytes) % 2_000], id);
            }
            Step::Store(with_id, room, bytes) => {
                let (id, room) = (self.id(with_id), if room { "one" } else { "other" });
                let store = Store { retention: &RETENTION, key: None, removes: None };
                self.session.store(room, &vec![b'z'; usize::from(bytes) % 2_000], &store, 0, id);
            }
            Step::Read if self.reads.len() < READS_IN_FLIGHT_MAX && self.up[1] => {
                self.ids += 1;
                self.reads.insert(self.ids);
                let query = Query { part: Part::Newest, messages_max: 9, bytes_max: 9 };
                self.session.read("one", query, RETENTION, ReadId::new(self.ids));
            }
            Step::Read => {}
            Step::Presence(choice) if self.up[1] => {
                self.ids += 1;
                self.presence.ask(&mut self.session, "one", self.ids, choice);
            }
            Step::Presence(_) => {}
            Step::Wish(room, wanted) => self.wish(&room_name(room), wanted),
            Step::Break(publisher) => {
                if std::mem::take(&mut self.links[usize::from(publisher)]).open {
                    self.session.disconnected(self.pair[usize::from(publisher)], "broken", self.now);
                }
            }
            Step::Connect(publisher) => {
                let link = &mut self.links[usize::from(publisher)];
                if link.open && !std::mem::replace(&mut link.established, true) {
                    self.session.connected(self.pair[usize::from(publisher)], self.now);
                }
            }
            Step::Wait(millis) => {
                self.now = self.now + Duration::from_millis(millis.into());
                self.session.timeout(self.now);
                self.drive();
                // Whoever is called then would else be called for ever.
                assert!(self.session.next_timeout().is_none_or(|due| due > self.now), "a deadline is left in the past");
            }
            Step::Sentinel(choice, step) => {
                let count = self.sentinels.len();
                let (id, bytes) = self.sentinels[usize::from(choice) % count].take(step, &mut self.session, self.now);
                let now = self.now;
                self.listen(|session, sink| session.input(id, &bytes, now, sink));
            }
        }
    }

    fn id(&mut self, with_id: bool) -> Option<PublishId> {
        self.ids += 1;
        if with_id {
            self.waiting.insert(self.ids);
        }
        with_id.then(|| PublishId::new(self.ids))
    }

    /// What a driver does in each turn.
    fn drive(&mut self) {
        self.listen(|session, sink| session.poll_events(sink));
        for _ in 0..=2 * (2 + self.sentinels.len()) {
            let Some((id, request)) = self.session.poll_connection(self.now) else { break };
            let of_sentinel = self.sentinels.iter().position(|sentinel| sentinel.id == id);
            let link = match of_sentinel {
                Some(number) => &mut self.sentinels[number].link,
                None => &mut self.links[self.pair.iter().position(|of| *of == id).expect("a link that there is")],
            };
            let opens = request != ConnectionRequest::Drop;
            assert_ne!(link.open, opens, "{id:?}: {request:?}");
            *link = Link { open: opens, ..Link::default() };
            if let ConnectionRequest::Open { address } = &request {
                assert!(
                    of_sentinel.is_some()
                        || self.sentinels.is_empty()
                        || self.sentinels.iter().any(|of| of.has_named(address)),
                    "nobody has named {address}"
                );
            }
        }
        assert_eq!(self.session.poll_connection(self.now), None, "that is at most twice for each link");
        self.session.take_notice().iter().for_each(|notice| check_reason(notice, self.passwords));
        self.sentinels.iter_mut().for_each(|sentinel| sentinel.check(&mut self.session));
        let stats = self.session.stats();
        assert!(stats.publishes_in_flight <= PUBLISHES_IN_FLIGHT_MAX);
        assert_eq!([stats.subscriber.state, stats.publisher.state].map(is_in_use), self.up);
        assert!(
            self.refusing
                || [stats.subscriber.state, stats.publisher.state].iter().all(|state| *state != LinkState::Refusing)
        );
        let words = [stats.subscriber.last_error, stats.publisher.last_error];
        words.into_iter().flatten().for_each(|reason| check_reason(reason, self.passwords));
        if self.up[1] {
            let bytes_max = BUFFER_BYTES_MAX + self.surplus_bytes_max;
            assert!(self.session.output(self.pair[1]).len() <= bytes_max);
        }
    }

    fn hear(&mut self, publisher: bool, bytes: &[u8]) {
        if self.links[usize::from(publisher)].established {
            let (id, now) = (self.pair[usize::from(publisher)], self.now);
            self.listen(|session, sink| session.input(id, bytes, now, sink));
        }
    }

    fn write(&mut self, publisher: bool, bytes: usize) {
        let id = self.pair[usize::from(publisher)];
        let output = self.session.output(id);
        let link = &mut self.links[usize::from(publisher)];
        let bytes = if link.established { bytes.min(output.len()) } else { 0 };
        link.heard.extend_from_slice(&output[..bytes]);
        self.session.written(id, bytes);
        link.understand();
    }

    /// Answers one command as a server would.
    fn answer(&mut self, publisher: bool) {
        let Some(command) = self.links[usize::from(publisher)].commands.pop_front() else { return };
        let answer = match &command[0][..] {
            b"HELLO" => HELLO_REPLY.to_vec(),
            b"PING" => b"+PONG\r\n".to_vec(),
            b"ROLE" => ROLES[usize::from(self.now.as_millis().is_multiple_of(16))].to_vec(),
            b"PUBLISH" => {
                // It hears every other one of its own.
                let number = command[2].last().filter(|_| command[1].starts_with(b"fanfare:\x01"));
                if number.is_some_and(|digit| digit.is_multiple_of(2)) {
                    let message = [b"message", &command[1][..], &command[2][..]].map(bulk).concat();
                    self.hear(false, &[b">3\r\n", &message[..]].concat());
                }
                b":1\r\n".to_vec()
            }
            b"SCRIPT" => {
                let loaded = Script::ALL.into_iter().find(|script| script.source().as_bytes() == command[2]);
                let name = loaded.map(Script::sha1).or_else(|| presence::loaded(&command[2])).expect("one of them");
                format!("$40\r\n{name}\r\n").into_bytes()
            }
            b"EVALSHA" if command[1] == Script::Read.sha1().as_bytes() => PAGE.to_vec(),
            b"EVALSHA" => {
                presence::answer(&command[1], self.now.as_millis() + self.ids).unwrap_or_else(|| STORED.to_vec())
            }
            kind @ (b"SUBSCRIBE" | b"UNSUBSCRIBE") => {
                let kind = String::from_utf8_lossy(kind).to_lowercase();
                let channels = command[1..].iter().map(|channel| String::from_utf8_lossy(channel));
                channels.flat_map(|channel| confirmation(&kind, &channel)).collect()
            }
            _ => b"+OK\r\n".to_vec(),
        };
        self.hear(publisher, &answer);
    }

    /// The hub's part: one operation per room at most.
    fn wish(&mut self, room: &str, wanted: bool) {
        if !self.up[0] || self.asked.contains_key(room) || self.held.contains(room) == wanted {
            return;
        }
        self.asked.insert(room.to_owned(), wanted);
        if wanted { self.session.subscribe(room) } else { self.session.unsubscribe(room) }
    }

    fn listen(&mut self, events: impl FnOnce(&mut RedisBroker, &mut dyn FnMut(BrokerEvent<'_>))) {
        let History { session, up, down, asked, held, waiting, reads, presence, refusing, passwords, .. } = self;
        let check_down = |up: &mut bool, down: &mut String, reason: &str| {
            check_reason(reason, *passwords);
            let told = std::mem::replace(down, reason.to_owned());
            assert!(std::mem::take(up) || told != reason, "told twice: {reason}");
        };
        events(session, &mut |event| match event {
            BrokerEvent::Up => assert!(!std::mem::replace(&mut up[0], true), "up twice"),
            BrokerEvent::PublisherUp => assert!(!std::mem::replace(&mut up[1], true), "up twice"),
            BrokerEvent::Down { reason } => {
                check_down(&mut up[0], &mut down[0], reason);
                asked.clear();
                held.clear();
            }
            BrokerEvent::PublisherDown { reason } => {
                check_down(&mut up[1], &mut down[1], reason);
                reads.clear();
                presence.publisher_down(false);
            }
            BrokerEvent::Refusing { reason } => {
                check_reason(reason, *passwords);
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
                assert!(asked.remove(room).is_some(), "{room} was not asked for");
                check_reason(reason, *passwords);
                held.remove(room);
            }
            BrokerEvent::Message { payload, .. } => assert!(up[0] && payload.len() <= 64 * 1024),
            BrokerEvent::Published { id, .. } | BrokerEvent::PublishFailed { id, .. } => {
                assert!(waiting.remove(&id.number()), "{id:?} is answered once");
            }
            BrokerEvent::Read { id, .. } | BrokerEvent::ReadFailed { id, .. } => {
                assert!(reads.remove(&id.number()), "{id:?} is answered once");
            }
            BrokerEvent::PresenceKept { id, .. } => presence.kept(id),
            BrokerEvent::Roster { id, .. } => presence.read(id),
            BrokerEvent::PresenceFailed { id, .. } => presence.failed(id),
            BrokerEvent::PresenceLost => presence.lost(),
            other => panic!("no event of a Redis session: {other:?}"),
        });
    }

    /// Everything breaks: then everything is answered.
    fn end(&mut self) {
        // Before what is told of it is overwritten.
        check_reason(&format!("{:?}", self.session), self.passwords);
        for publisher in [false, true] {
            self.take(Step::Break(publisher));
        }
        self.listen(|session, sink| session.poll_events(sink));
        assert_eq!((&self.waiting, self.up, self.refusing), (&BTreeSet::new(), [false; 2], false));
        assert!(self.reads.is_empty(), "never answered: {:?}", self.reads);
        assert!(self.presence.is_empty(), "never answered: {:?}", self.presence);
        self.session.take_presence_complaint().iter().for_each(|reason| check_reason(reason, self.passwords));
        self.session.take_complaint().iter().for_each(|reason| check_reason(reason, self.passwords));
    }
}

pub(super) fn check_reason(reason: &str, passwords: Passwords) {
    let mut passwords = passwords.into_iter().flatten();
    assert!(passwords.all(|password| !reason.contains(password)), "a password is told: {reason}");
}

fn is_in_use(state: LinkState) -> bool {
    matches!(state, LinkState::Up | LinkState::Refusing)
}

/// Errors of every kind, and what a master and a replica answer to `ROLE`.
const REFUSALS: [&[u8]; 8] = [
    b"-NOSCRIPT No matching script.\r\n",
    b"-NOHISTORY INFO is refused\r\n",
    b"-BUSY Redis is busy running a script.\r\n",
    b"-LOADING Redis is loading the dataset in memory\r\n",
    b"-MISCONF Redis is configured to save RDB snapshots\r\n",
    b"-NOPERM No permissions to access a channel\r\n",
    b"-READONLY You can't write against a read only replica.\r\n",
    b"-NOAUTH Authentication required.\r\n",
];
/// What scripts reply.
const STORED: &[u8] = b"*6\r\n$18\r\n1-00000000000000ff\r\n:7\r\n:1\r\n:1000\r\n:1\r\n$0\r\n\r\n";
const PAGE: &[u8] = b"*7\r\n$18\r\n1-00000000000000ff\r\n:0\r\n:1\r\n$5\r\nexact\r\n:0\r\n:1000\r\n:0\r\n";
const ROLES: [&[u8]; 2] = [b"*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n", b"*1\r\n$5\r\nslave\r\n"];

fn room_name(choice: u8) -> String {
    format!("room{}", choice % 8)
}

/// Of a room, or of none.
fn channel(choice: u8) -> String {
    if choice & 0x78 == 0x78 { "elsewhere".to_owned() } else { format!("fanfare:{}", room_name(choice)) }
}

pub(super) fn confirmation(kind: &str, channel: &str) -> Vec<u8> {
    format!(">3\r\n${}\r\n{kind}\r\n${}\r\n{channel}\r\n:1\r\n", kind.len(), channel.len()).into_bytes()
}

pub(super) fn bulk(bytes: &[u8]) -> Vec<u8> {
    [format!("${}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

fn argument(reply: Reply<'_>) -> Vec<u8> {
    match reply {
        Reply::Bulk(bytes) => bytes.to_vec(),
        other => panic!("not an argument: {other:?}"),
    }
}
