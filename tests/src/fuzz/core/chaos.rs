//! The surroundings of the core: clock, broker, and an adapter that is not to be relied on.

use super::clients::{Client, masked};
use super::work::{TurnWork, flood};
use super::{Lie, Step, Wait};
use crate::work::Bounds;
use crate::{compression, opcode, proxies, upgrade_request};
use fanfare_core::broker;
use fanfare_core::broker::{BrokerEvent, FenceId, Partitions, PublishError, PublishId};
use fanfare_core::time::Time;
use fanfare_core::{
    Action, Config, ConnId, Core, Dialect, Event, Message, Origins, Proxies, PublishFormat, Rate, Refused, Turn,
};
use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

const PATHS: [&str; 8] = ["/", "/ws", "/classic", "/broadcast", "/broadcast/r1", "/echo", "/healthz", "/nowhere"];
/// What stands in a request head besides.
const FIELDS: [&str; 8] = [
    "",
    "Sec-WebSocket-Extensions: permessage-deflate\r\n",
    "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=10\r\n",
    "X-Forwarded-For: 192.0.2.7, 10.0.0.3\r\n",
    "X-Forwarded-For: 192.0.2.8\r\nX-Forwarded-For: [2001:db8::1]:443\r\n",
    "X-Forwarded-For: unknown\r\n",
    "Origin: https://example.com\r\n",
    "Origin: https://elsewhere.example\r\n",
];
/// Two of one client, one of its neighbour in an IPv6 network, and a proxy.
const ADDRESSES: [IpAddr; 4] = [
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)),
    IpAddr::V6(Ipv4Addr::new(192, 0, 2, 7).to_ipv6_mapped()),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2)),
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)),
];
const DIALECTS: [Dialect; 4] = [Dialect::Fanfare, Dialect::Classic, Dialect::Broadcast, Dialect::Echo];
const ROOMS: u8 = 6;

/// How often a core may ask to be woken at once before that counts as a loop without end: an outage's end is worked off in
/// batches, one per turn.
const TURNS_AT_ONCE_MAX: usize = 16;

#[derive(Debug)]
enum Ask {
    Subscribe(String),
    Unsubscribe(String),
    Publish(String, Vec<u8>, Option<PublishId>),
    Fence(FenceId),
}

/// What a turn's end does.
#[derive(Clone, Copy, Debug)]
struct Carried {
    actions: usize,
    targets: usize,
}

pub(super) struct Chaos {
    core: Core,
    now: Time,
    /// All that ever were.
    ids: Vec<ConnId>,
    clients: BTreeMap<ConnId, Client>,
    asks: VecDeque<Ask>,
    /// Everything said, in order.
    log: Vec<u8>,
    work: TurnWork,
}

impl Chaos {
    /// Takes the steps and then lets everything end. What was said on the way.
    pub fn run(limits: u8, steps: &[Step<'_>]) -> Vec<u8> {
        let config = config(limits);
        let mut chaos = Chaos {
            work: TurnWork::new(Bounds::new(&config)),
            core: Core::new(config),
            now: Time::ZERO,
            ids: Vec::new(),
            clients: BTreeMap::new(),
            asks: VecDeque::new(),
            log: Vec::new(),
        };
        chaos.turn(&[Step::Lie(Lie::Up), Step::Lie(Lie::PublisherUp)], Carried::ALL);
        let mut rest = steps;
        while !rest.is_empty() {
            let end =
                rest.iter().position(|step| matches!(step, Step::EndTurn | Step::EndTurnEarly(..) | Step::Wait(_)));
            let (turn, later) = rest.split_at(end.unwrap_or(rest.len()));
            let carried = match later.first() {
                Some(Step::EndTurnEarly(actions, targets)) => {
                    Carried { actions: usize::from(actions % 8), targets: usize::from(targets % 4) }
                }
                _ => Carried::ALL,
            };
            chaos.turn(turn, carried);
            if let Some(Step::Wait(wait)) = later.first() {
                chaos.wait(*wait);
            }
            rest = later.get(1..).unwrap_or_default();
        }
        chaos.end();
        chaos.log
    }

    fn wait(&mut self, wait: Wait) {
        self.now = match wait {
            Wait::Millis(millis) => self.now + Duration::from_millis(millis.into()),
            Wait::Seconds(seconds) => self.now + Duration::from_secs(seconds.into()),
            Wait::NextTimeout => self.core.next_timeout().unwrap_or(self.now),
            // Backwards, too, which counts as standing still; and not beyond what is left to wait for in the end.
            Wait::To(millis) => Time::from_millis(millis % (1 << 42)),
        };
    }

    fn turn(&mut self, steps: &[Step<'_>], carried: Carried) {
        let mut core = std::mem::replace(&mut self.core, Core::new(Config::default()));
        self.work.begin(&core);
        let mut turn = core.turn(self.now);
        for step in steps {
            self.step(&mut turn, step);
        }
        let mut actions = turn.finish();
        let mut number = 0;
        while number <= carried.actions
            && let Some(action) = actions.next()
        {
            let targets = if number < carried.actions { usize::MAX } else { carried.targets };
            self.carry_out(action, targets);
            number += 1;
        }
        drop(actions);
        core.check_invariants();
        self.work.end(&core, number > carried.actions);
        self.core = core;
    }

    fn step(&mut self, turn: &mut Turn<'_>, step: &Step<'_>) {
        match *step {
            Step::Open => self.opened(turn.open(), Client::default()),
            Step::OpenFrom(choice) => {
                let address = ADDRESSES[usize::from(choice) % ADDRESSES.len()];
                if choice < 0x80 {
                    return self.opened(turn.open_from(address), Client::default());
                }
                let dialect = DIALECTS[usize::from(choice >> 2) % DIALECTS.len()];
                let rooms = &["r0", "", "r1"][..usize::from(choice >> 4 & 3)];
                self.opened(turn.open_websocket(dialect, rooms, Some(address)), Client::by_message());
            }
            Step::Upgrade(conn, path) => {
                let fields = FIELDS[usize::from(path) / PATHS.len() % FIELDS.len()];
                let path = PATHS[usize::from(path) % PATHS.len()];
                self.feed(turn, conn, upgrade_request(path, fields).into_bytes());
            }
            Step::Bytes(conn, size, bytes) => {
                for piece in bytes.chunks(usize::from(size).max(1)) {
                    self.feed(turn, conn, piece.to_vec());
                }
            }
            Step::Frame(conn, first, payload) => self.frame(turn, conn, first, payload),
            Step::Text(conn, bytes) => {
                let text = bytes.utf8_chunks().next().map_or("", |chunk| chunk.valid());
                self.frame(turn, conn, 0x81, text.as_bytes());
            }
            Step::Subscribe(conn, room) => self.command(turn, conn, "SUBSCRIBE", room, ""),
            Step::Unsubscribe(conn, room) => self.command(turn, conn, "UNSUBSCRIBE", room, r#","id":"u""#),
            Step::Send(conn, room, id, echo) => {
                let id = if id { r#","id":7"# } else { "" };
                // As a frame's first byte, `x` would begin a fragment: a frame that is torn does not pass for a frame.
                let message = format!("{room}{}", "x".repeat(40));
                self.command(turn, conn, "SEND_MESSAGE", room, &format!(r#","message":"{message}","echo":{echo}{id}"#));
            }
            Step::Ping(conn) => self.frame(turn, conn, 0x89, b"ping"),
            Step::Writable(conn) => {
                if let Some(conn) = self.id(conn) {
                    turn.feed(Event::Writable { conn });
                }
            }
            Step::Closed(conn) => {
                if let Some(conn) = self.id(conn) {
                    self.work.closes(turn.core().keeps_unread(conn));
                    turn.feed(Event::Closed { conn });
                }
            }
            Step::Stale(slot, generation) => {
                let conn = ConnId::new(slot % 64, generation.max(1 << 16));
                turn.feed(Event::Bytes { conn, data: &mut b"GET / HTTP/1.1\r\n\r\n".to_vec() });
                turn.feed(Event::Writable { conn });
                turn.feed(Event::Closed { conn });
            }
            Step::Takes(conn, bytes) => self.takes(turn, conn, Some(bytes.into())),
            Step::TakesAll(conn) => self.takes(turn, conn, None),
            Step::Breaks(conn) => {
                if let Some(client) = self.id(conn).and_then(|conn| self.clients.get_mut(&conn)) {
                    client.broken = true;
                }
            }
            Step::Answer(asks) => {
                for _ in 0..asks.min(16) {
                    self.answer(turn);
                }
            }
            Step::Lie(lie) => tell(turn, lie),
            Step::Foreign(room, payload) => {
                self.work.reports(payload.len());
                turn.feed(Event::Broker(BrokerEvent::Message { room: &room_name(room), payload }));
            }
            Step::Flood(conn, kind) => {
                // All in one event, as an adapter with a large buffer would have it.
                let bytes = flood(kind);
                self.feed(turn, conn, bytes);
            }
            Step::Timeout => {
                self.work.looks(0);
                turn.feed(Event::Timeout);
            }
            Step::Drain => turn.feed(Event::Drain),
            Step::Shed(share) => turn.feed(Event::Shed { share: f64::from(share) / 255.0 }),
            Step::Shutdown => turn.feed(Event::Shutdown),
            Step::Wait(_) | Step::EndTurn | Step::EndTurnEarly(..) => unreachable!("these end a turn"),
        }
    }

    fn opened(&mut self, outcome: Result<ConnId, Refused>, client: Client) {
        if let Ok(conn) = outcome {
            assert!(self.clients.insert(conn, client).is_none(), "{conn:?} is new");
            self.ids.push(conn);
        }
    }

    fn id(&self, number: u8) -> Option<ConnId> {
        self.ids.get(usize::from(number).checked_rem(self.ids.len())?).copied()
    }

    fn feed(&mut self, turn: &mut Turn<'_>, conn: u8, mut bytes: Vec<u8>) {
        if let Some(conn) = self.id(conn) {
            self.work.looks(bytes.len());
            turn.feed(Event::Bytes { conn, data: &mut bytes });
        }
    }

    fn command(&mut self, turn: &mut Turn<'_>, conn: u8, kind: &str, room: u8, more: &str) {
        let text = format!(r#"{{"type":"{kind}","room":"{}"{more}}}"#, room_name(room));
        self.frame(turn, conn, 0x81, text.as_bytes());
    }

    /// What a client says in a frame; as a message, where someone else reads its frames and this is one.
    fn frame(&mut self, turn: &mut Turn<'_>, number: u8, first_byte: u8, payload: &[u8]) {
        let Some(conn) = self.id(number) else { return };
        if !self.clients.get(&conn).is_some_and(|client| client.by_message) {
            return self.feed(turn, number, masked(first_byte, payload));
        }
        let text = |bytes| std::str::from_utf8(bytes).unwrap_or("");
        let message = match (first_byte & 0xf, payload) {
            (opcode::TEXT, _) => Message::Text(text(payload)),
            (opcode::BINARY, _) => Message::Binary(payload),
            (opcode::PING, _) => Message::Ping(payload),
            (opcode::PONG, _) => Message::Pong(payload),
            (opcode::CLOSE, [high, low, reason @ ..]) => {
                Message::Close(Some((u16::from_be_bytes([*high, *low]), text(reason))))
            }
            _ => Message::Close(None),
        };
        self.work.looks(payload.len());
        turn.feed(Event::Message { conn, message });
    }

    fn takes(&mut self, turn: &mut Turn<'_>, conn: u8, bytes: Option<usize>) {
        let Some(conn) = self.id(conn) else { return };
        let Some(client) = self.clients.get_mut(&conn) else { return };
        client.takes = bytes;
        if std::mem::take(&mut client.blocked) {
            turn.feed(Event::Writable { conn });
        }
    }

    fn answer(&mut self, turn: &mut Turn<'_>) {
        match self.asks.pop_front() {
            None => {}
            Some(Ask::Subscribe(room)) => turn.feed(Event::Broker(BrokerEvent::Subscribed { room: &room })),
            Some(Ask::Unsubscribe(room)) => turn.feed(Event::Broker(BrokerEvent::Unsubscribed { room: &room })),
            Some(Ask::Fence(id)) => turn.feed(Event::Broker(BrokerEvent::Fenced { id })),
            Some(Ask::Publish(room, payload, id)) => {
                self.work.reports(payload.len());
                turn.feed(Event::Broker(BrokerEvent::Message { room: &room, payload: &payload }));
                if let Some(id) = id {
                    turn.feed(Event::Broker(BrokerEvent::Published { id, position: None, receivers: None }));
                }
            }
        }
    }

    fn carry_out(&mut self, action: Action<'_>, mut targets: usize) {
        match action {
            Action::Send(mut delivery) => {
                let bytes = delivery.bytes();
                assert!(!bytes.is_empty(), "there is something to write");
                while targets > 0
                    && let Some(conn) = delivery.next_target()
                {
                    targets -= 1;
                    self.work.said(bytes.len());
                    self.log.extend(conn.to_bits().to_be_bytes());
                    self.log.extend_from_slice(bytes);
                    let client = self.clients.get_mut(&conn).expect("no action names a socket that is gone");
                    if client.broken {
                        self.clients.remove(&conn).expect("it is there").check();
                        delivery.gone(conn);
                        continue;
                    }
                    let taken = client.write(bytes);
                    if taken < bytes.len() {
                        delivery.short(conn, taken);
                    }
                }
            }
            Action::Shutdown { conn } => {
                self.note("shutdown", &conn.to_bits().to_be_bytes(), &[]);
                self.clients.get_mut(&conn).expect("no action names a socket that is gone").shut_down();
            }
            Action::Close { conn } => {
                self.note("close", &conn.to_bits().to_be_bytes(), &[]);
                self.clients.remove(&conn).expect("a socket is closed once").check();
            }
            Action::Ask(broker::Ask::Subscribe { room }) => {
                self.note("subscribe", room.as_bytes(), &[]);
                self.asks.push_back(Ask::Subscribe(room.to_owned()));
            }
            Action::Ask(broker::Ask::Unsubscribe { room }) => {
                self.note("unsubscribe", room.as_bytes(), &[]);
                self.asks.push_back(Ask::Unsubscribe(room.to_owned()));
            }
            Action::Ask(broker::Ask::Publish { room, payload, id, .. }) => {
                self.note("publish", room.as_bytes(), payload);
                self.work.published(payload.len());
                self.log.extend(id.map_or(0, PublishId::number).to_be_bytes());
                self.asks.push_back(Ask::Publish(room.to_owned(), payload.to_vec(), id));
            }
            Action::Ask(broker::Ask::Fence { id }) => {
                self.note("fence", &id.number().to_be_bytes(), &[]);
                self.asks.push_back(Ask::Fence(id));
            }
            Action::Ask(broker::Ask::Read { .. }) => panic!("no room keeps history"),
            Action::Ask(broker::Ask::Present { .. } | broker::Ask::Roster { .. }) => panic!("no room has presence"),
            Action::Authenticate(_) => panic!("nobody is asked who they are"),
            Action::Propose(_) => panic!("nobody is asked about messages"),
        }
    }

    fn note(&mut self, what: &str, who: &[u8], more: &[u8]) {
        self.log.extend_from_slice(what.as_bytes());
        self.log.extend_from_slice(who);
        self.log.extend_from_slice(more);
    }

    /// The server stops, and time passes: no peer that says nothing and takes nothing can hold anything up.
    fn end(&mut self) {
        self.turn(&[Step::Shutdown], Carried::ALL);
        let mut at_once = 0;
        for _ in 0..10_000 {
            self.turn(&[Step::Timeout], Carried::ALL);
            let Some(next) = self.core.next_timeout() else { break };
            at_once = if next <= self.now && !self.core.has_unread() { at_once + 1 } else { 0 };
            assert!(at_once < TURNS_AT_ONCE_MAX, "it asks again and again to be woken at once");
            self.now = self.now.max(next);
        }
        for client in self.clients.values() {
            client.check();
        }
        let metrics = self.core.metrics();
        assert_eq!((self.core.connections(), self.core.next_timeout()), (0, None), "all ends");
        assert_eq!((metrics.unsent_bytes_now, metrics.stored_frame_bytes_now, metrics.memberships_now), (0, 0, 0));
    }
}

impl Carried {
    const ALL: Carried = Carried { actions: usize::MAX, targets: 0 };
}

/// Small, so that limits are met.
fn config(choice: u8) -> Config {
    let rate = |per_second, burst| if choice & 0x40 == 0 { Rate::NONE } else { Rate { per_second, burst } };
    let addresses = choice & 0x80 != 0;
    let origins = ["https://example.com"].map(|origin| origin.parse().expect("an origin"));
    let trusted = ["10.0.0.0/8"].map(|network| network.parse().expect("a network"));
    crate::config(|config| {
        config.admission.connections_max = 6;
        config.admission.surplus_connections_max = 2;
        config.limits.message_bytes_max = 300;
        config.limits.rooms_per_connection_max = 3;
        config.limits.room_name_bytes_max = 16;
        config.limits.request_head_bytes_max = 400;
        config.limits.outbox_bytes_max = if choice & 1 == 0 { 1_000 } else { 1 << 20 };
        config.limits.outbox_total_bytes_max = if choice & 2 == 0 { 2_000 } else { 1 << 20 };
        config.limits.deferred_bytes_max = if choice & 1 == 0 { 300 } else { 1 << 16 };
        config.limits.deferred_total_bytes_max = if choice & 2 == 0 { 500 } else { 1 << 16 };
        config.limits.errors_max = 3;
        config.limits.messages = rate(2, 5);
        config.limits.bytes = rate(500, 1_000);
        config.limits.pings = rate(1, 2);
        config.limits.surplus =
            if choice & 4 == 0 { config.limits.surplus } else { Rate { per_second: 100_000, burst: 40_000 } };
        config.admission.pending_upgrades_max = if addresses { 3 } else { 100 };
        config.admission.connections_per_address_max = if addresses { 2 } else { 0 };
        config.admission.connects_per_address = if addresses { Rate { per_second: 1, burst: 3 } } else { Rate::NONE };
        config.admission.origins = if addresses { Origins::List(origins.into()) } else { Origins::SameHost };
        config.admission.proxies = if addresses { proxies(trusted, true) } else { Proxies::default() };
        config.compression = Some(compression(0, 1));
        config.timeouts.room_linger = Duration::from_millis(if choice & 4 == 0 { 500 } else { 0 });
        config.default_dialect = DIALECTS[usize::from(choice >> 3 & 3)];
        config.echo = true;
        config.journal = choice & 2 == 0;
        config.publish_format = if choice & 0x20 == 0 { PublishFormat::Fanfare } else { PublishFormat::Classic };
    })
}

fn room_name(number: u8) -> String {
    format!("r{}", number % ROOMS)
}

fn tell(turn: &mut Turn<'_>, lie: Lie) {
    let name;
    let mut partitions = Partitions::none_of(4);
    turn.feed(Event::Broker(match lie {
        Lie::Up => BrokerEvent::Up,
        Lie::Down => BrokerEvent::Down { reason: "down" },
        Lie::Lost(partition) => {
            partitions.insert(u16::from(partition % 4));
            BrokerEvent::Lost { partitions: &partitions }
        }
        Lie::PublisherUp => BrokerEvent::PublisherUp,
        Lie::PublisherDown => BrokerEvent::PublisherDown { reason: "down" },
        Lie::Subscribed(room) => {
            name = room_name(room);
            BrokerEvent::Subscribed { room: &name }
        }
        Lie::Unsubscribed(room) => {
            name = room_name(room);
            BrokerEvent::Unsubscribed { room: &name }
        }
        Lie::SubscribeFailed(room) => {
            name = room_name(room);
            BrokerEvent::SubscribeFailed { room: &name, reason: "refused" }
        }
        Lie::Refusing => BrokerEvent::Refusing { reason: "busy" },
        Lie::Willing => BrokerEvent::Willing,
        Lie::Fenced(fence) => BrokerEvent::Fenced { id: FenceId::new(fence.into()) },
        Lie::Published(id) => BrokerEvent::Published { id: PublishId::new(id.into()), position: None, receivers: None },
        Lie::PublishFailed(id, error) => BrokerEvent::PublishFailed {
            id: PublishId::new(id.into()),
            error: [PublishError::Unavailable, PublishError::Busy, PublishError::Refused, PublishError::Unconfirmed]
                [usize::from(error % 4)],
        },
    }));
}
