//! The session on scripted bytes: what a server might say, and what must come of it.

mod canary;
mod cluster;
mod fencing;
mod health;
mod history;
mod presence;
mod publishing;
mod random;
mod refusing;
mod replicating;
mod scanner;
mod sentinel;
mod set_up;
mod storing;
mod subscribing;
mod waiting;

use std::time::Duration;

use super::canary::Canary;
use super::link_id::{Place, Role};
use super::*;
use crate::broker::{BrokerEvent, PublishId};
use crate::time::Time;

const HELLO_REPLY: &[u8] = b"%2\r\n$6\r\nserver\r\n$5\r\nredis\r\n$5\r\nproto\r\n:3\r\n";
const MASTER: &[u8] = b"*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n";
const REPLICA: &[u8] = b"*5\r\n$5\r\nslave\r\n$9\r\n127.0.0.1\r\n:6379\r\n$9\r\nconnected\r\n:42\r\n";
const PONG: &[u8] = b"+PONG\r\n";

/// What is answered to `INFO memory` where nothing is evicted.
const MEMORY: &[u8] = b"$46\r\nmaxmemory:1048576\r\nmaxmemory_policy:noeviction\r\n";

/// What scripts reply: a part of a room's history in which there is nothing.
const PAGE: &[u8] = b"*7\r\n$18\r\n1-00000000000000ff\r\n:0\r\n:1\r\n$5\r\nexact\r\n:0\r\n:1000\r\n:0\r\n";

/// The same of a message that was stored.
fn stored_at(offset: u64) -> Vec<u8> {
    format!("*6\r\n$18\r\n1-00000000000000ff\r\n:{offset}\r\n:1\r\n:1000\r\n:1\r\n$0\r\n\r\n").into_bytes()
}

/// A session, its clock, and the events so far, written down.
struct Script {
    session: RedisBroker,
    now: Time,
    events: Vec<String>,
}

/// A reason without what every reason begins with.
fn of_redis(reason: &str) -> &str {
    reason.strip_prefix("Redis: ").expect("a reason says whose it is")
}

/// One line per event.
fn written(event: BrokerEvent<'_>) -> String {
    match event {
        BrokerEvent::Up => "up".to_owned(),
        BrokerEvent::Down { reason } => format!("down: {}", of_redis(reason)),
        BrokerEvent::Lost { partitions } => format!("lost: {:?}", partitions.iter().collect::<Vec<_>>()),
        BrokerEvent::PublisherUp => "publisher up".to_owned(),
        BrokerEvent::PublisherDown { reason } => format!("publisher down: {}", of_redis(reason)),
        BrokerEvent::Refusing { reason } => format!("refusing: {}", of_redis(reason)),
        BrokerEvent::Willing => "willing".to_owned(),
        BrokerEvent::Subscribed { room } => format!("subscribed {room}"),
        BrokerEvent::Unsubscribed { room } => format!("unsubscribed {room}"),
        BrokerEvent::SubscribeFailed { room, reason } => format!("failed {room}: {reason}"),
        BrokerEvent::Message { room, payload } => format!("message {room}: {}", String::from_utf8_lossy(payload)),
        BrokerEvent::Published { id, .. } => format!("published {}", id.number()),
        BrokerEvent::PublishFailed { id, error } => format!("not published {}: {error:?}", id.number()),
        BrokerEvent::Read { id, page } => format!("read {}: {page:?}", id.number()),
        BrokerEvent::ReadFailed { id, passes } => format!("not read {}, {passes}", id.number()),
        BrokerEvent::PresenceKept { id, connections } => format!("kept {}: {connections}", id.number()),
        BrokerEvent::Roster { id, page } => format!("roster {}: {page:?}", id.number()),
        BrokerEvent::PresenceFailed { id, passes } => format!("not kept {}, {passes}", id.number()),
        BrokerEvent::PresenceLost => "presence lost".to_owned(),
        BrokerEvent::Fenced { id } => format!("fenced {}", id.number()),
    }
}

/// A confirmation or message as a push, or in RESP2 as an array.
fn push(kind: u8, items: &[&str]) -> Vec<u8> {
    let mut bytes = Vec::new();
    command::command(&mut bytes, &items.iter().map(|item| item.as_bytes()).collect::<Vec<_>>());
    bytes[0] = kind;
    bytes
}

fn link(role: Role) -> LinkId {
    Place::Session(role).link()
}

fn role_of(link: LinkId) -> Role {
    match link.place() {
        Place::Session(role) => role,
        Place::Sentinel(_) => panic!("there is no Sentinel"),
    }
}

/// What Redis says to a `SUBSCRIBE` or `UNSUBSCRIBE`.
fn confirmation(kind: &str, channel: &str) -> Vec<u8> {
    format!(">3\r\n${}\r\n{kind}\r\n${}\r\n{channel}\r\n:1\r\n", kind.len(), channel.len()).into_bytes()
}

/// Commands as lists of their arguments.
fn commands(mut bytes: &[u8]) -> Vec<Vec<String>> {
    let limits = resp::Limits { message_bytes_max: 1 << 30, reply_bytes_max: 1 << 30 };
    let mut commands = Vec::new();
    while !bytes.is_empty() {
        let Ok(resp::Scan::Reply { reply: resp::Reply::Array(items), len }) = resp::scan(bytes, &limits) else {
            panic!("not a whole command: {:?}", String::from_utf8_lossy(bytes));
        };
        let text = |item| match item {
            resp::Reply::Bulk(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            other => panic!("not an argument: {other:?}"),
        };
        commands.push(items.map(text).collect());
        bytes = &bytes[len..];
    }
    commands
}

impl Script {
    fn new(config: RedisConfig) -> Script {
        Script { session: RedisBroker::new(config), now: Time::from_millis(1_000), events: Vec::new() }
    }

    /// Both connections up, nothing else said.
    fn up(config: RedisConfig) -> Script {
        let mut script = Script::new(config);
        script.connect(Role::Subscriber);
        script.connect(Role::Publisher);
        assert_eq!(script.events(), ["up", "publisher up"]);
        script
    }

    /// Opens and sets up a role in RESP3, waiting for its time. The server has no canary.
    fn connect(&mut self, role: Role) {
        self.set_up(role);
        self.refuse_canary(role);
    }

    /// The server refuses the canary's channel on a subscriber that has just come up, and nothing more is said of it there.
    fn refuse_canary(&mut self, role: Role) {
        if role == Role::Subscriber {
            let said = self.sent(role);
            assert!(said.len() == 1 && said[0][0] == "SUBSCRIBE" && said[0][1].contains("\u{1}canary:"), "{said:?}");
            self.hear(role, b"-NOPERM No permissions to access a channel\r\n");
            self.session.take_canary_refusal();
        }
    }

    /// Opens and sets up a role in RESP3.
    fn set_up(&mut self, role: Role) {
        self.open(role);
        self.session.connected(link(role), self.now);
        self.sent(role);
        self.hear(role, &[HELLO_REPLY, MASTER, PONG].concat());
    }

    /// Waits until the role's connection is to be opened.
    fn open(&mut self, role: Role) {
        loop {
            while let Some(request) = self.session.poll_connection(self.now) {
                if request.0 == link(role) && request.1 != ConnectionRequest::Drop {
                    return;
                }
            }
            self.now = self.session.next_timeout().unwrap().max(self.now);
            self.session.timeout(self.now);
            self.drain();
        }
    }

    fn requests(&mut self) -> Vec<(Role, ConnectionRequest)> {
        let requests = std::iter::from_fn(|| self.session.poll_connection(self.now));
        requests.map(|(link, request)| (role_of(link), request)).collect()
    }

    /// All output as commands, taken by the kernel.
    fn sent(&mut self, role: Role) -> Vec<Vec<String>> {
        let output = self.session.output(link(role)).to_vec();
        self.session.written(link(role), output.len());
        commands(&output)
    }

    fn hear(&mut self, role: Role, data: &[u8]) {
        let events = &mut self.events;
        self.session.input(link(role), data, self.now, |event| events.push(written(event)));
    }

    fn drain(&mut self) {
        let events = &mut self.events;
        self.session.poll_events(|event| events.push(written(event)));
    }

    /// The events since the last call.
    fn events(&mut self) -> Vec<String> {
        self.drain();
        std::mem::take(&mut self.events)
    }

    fn wait(&mut self, time: Duration) {
        self.now = self.now + time;
        self.session.timeout(self.now);
    }

    fn publish(&mut self, id: u64) {
        self.session.publish("r", b"m", Some(PublishId::new(id)));
    }
}
