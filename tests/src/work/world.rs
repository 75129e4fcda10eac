//! A core with a large room, clients that make much work, and an embedded broker, driven as an adapter drives them. After every turn
//! the work that it has done is held against [`Bounds`]; in the end nothing is left, and nothing that a client has sent is lost.

use super::Bounds;
use super::sender::{Kind, LARGE, Sender, Tongue, room_name};
use crate::{Frame, code, head_bytes, inflated, opcode, upgrade_request};
use fanfare_core::broker;
use fanfare_core::broker::memory::MemoryBroker;
use fanfare_core::time::Time;
use fanfare_core::{Action, Config, ConnId, Core, Event, Turn};
use std::collections::BTreeMap;
use std::time::Duration;

/// Clients that make work, at the same time.
pub const SENDERS: usize = 3;
/// When it begins.
const START: Time = Time::from_millis(5_000);
/// Turns at once after which a core should have come to rest.
const TURNS_MAX: usize = 10_000;

/// What a client does.
#[derive(Clone, Debug)]
pub enum Step {
    /// One of them says so many messages of a kind, back to back.
    Say(usize, Kind, usize),
    /// One of them begins a message and does not end it; it says nothing more.
    Begin(usize),
    /// One of them goes, whatever it has yet to be answered, and comes back as another.
    Return(usize),
    /// The broker says nothing from here on, or again.
    Hold(bool),
    /// So many milliseconds pass.
    Wait(u64),
}

/// What a turn has done.
#[derive(Clone, Copy, Debug, Default)]
struct Done {
    /// Bytes of publishes.
    published: usize,
    /// Bytes said to clients that make work, but for messages of rooms.
    said: usize,
    /// Bytes of rooms to members that only listen.
    given: usize,
    /// Bytes that must have been inflated beyond those that were read.
    inflated: usize,
}

/// One thing that a connection is told.
#[derive(Clone, Debug)]
enum Told {
    /// A message of a room.
    Message(usize, u64),
    /// A reply to this message, and its bytes where it is charged.
    Reply(Option<u64>, usize),
    /// A pong to this message.
    Pong(u64),
    /// The end, with this code.
    Close(Option<u16>),
}

/// The core and who it works for.
#[derive(Debug)]
pub struct CostlyWorld {
    core: Core,
    bounds: Bounds,
    broker: MemoryBroker,
    is_held: bool,
    now: Time,
    message_bytes_max: usize,
    /// What is read of a connection in a turn.
    read_bytes: usize,
    /// What is heard of the broker in a turn.
    broker_bytes: usize,
    /// All that ever were, by number; the last of each place is there now.
    senders: Vec<Sender>,
    places: [usize; SENDERS],
    by_conn: BTreeMap<ConnId, usize>,
    /// Members that only listen: how many messages of the large room each has been given.
    members: BTreeMap<ConnId, usize>,
    /// What the broker has reported of the large room, in order.
    large: Vec<(usize, u64)>,
    /// The longest frame of a room so far.
    frame: usize,
}

impl CostlyWorld {
    /// A core with so many members in the large room, that is given so many bytes at once of a connection, and of the
    /// broker.
    pub fn new(config: Config, members: usize, (read_bytes, broker_bytes): (usize, usize)) -> CostlyWorld {
        let mut world = CostlyWorld {
            bounds: Bounds::new(&config),
            message_bytes_max: config.limits.message_bytes_max,
            read_bytes,
            broker_bytes,
            core: Core::new(config),
            broker: MemoryBroker::default(),
            is_held: false,
            now: START,
            senders: Vec::new(),
            places: [0; SENDERS],
            by_conn: BTreeMap::new(),
            members: BTreeMap::new(),
            large: Vec::new(),
            frame: 0,
        };
        for number in 0..members {
            // Of every form some.
            let (path, further) = match number % 4 {
                0 => ("/broadcast/large", ""),
                1 => ("/?room=large", "Sec-WebSocket-Extensions: permessage-deflate\r\n"),
                _ => ("/?room=large", ""),
            };
            let conn = world.connect(path, further);
            world.members.insert(conn, 0);
            world.settle();
        }
        for place in 0..SENDERS {
            world.seat(place);
        }
        world
    }

    /// Does this, and all that follows from it at once.
    pub fn apply(&mut self, step: &Step) {
        match *step {
            Step::Say(place, kind, times) => {
                let sender = &mut self.senders[self.places[place]];
                let bytes = (0..times).flat_map(|_| sender.say(kind, self.message_bytes_max)).collect::<Vec<_>>();
                self.read(self.places[place], &bytes);
            }
            Step::Begin(place) => {
                let number = self.places[place];
                self.read(number, &Frame::text("begun ").unfinished().masked());
                self.seat_anew(place, false);
            }
            Step::Return(place) => self.seat_anew(place, true),
            Step::Hold(is_held) => self.is_held = is_held,
            Step::Wait(millis) => self.now = self.now + Duration::from_millis(millis),
        }
        self.settle();
    }

    /// The broker answers, time passes, and everything must have become of what was sent that should; then all leave.
    pub fn end(&mut self) {
        self.is_held = false;
        for _ in 0..TURNS_MAX {
            self.settle();
            if !self.core.has_unread() && !self.broker.has_events() {
                break;
            }
            self.now = self.now + Duration::from_millis(100);
        }
        assert!(!self.core.has_unread(), "what is kept unread is never looked at");
        self.settle();
        for sender in self.senders.iter().filter(|sender| !sender.is_over) {
            assert!(sender.awaited.is_empty(), "something is lost: {}", sender.bill());
        }
        for (conn, given) in &self.members {
            assert_eq!(*given, self.large.len(), "{conn:?} has been given all that the broker said");
        }
        let metrics = self.core.metrics();
        assert_eq!((metrics.publishes_deferred_now, metrics.unsent_bytes_now), (0, 0));
        // Messages that have not become whole do so no more.
        self.now = self.now + Duration::from_secs(60);
        self.settle();
        assert_eq!(self.core.metrics().unfinished_bytes_now, 0);
        let conns: Vec<ConnId> = self.members.keys().chain(self.by_conn.keys()).copied().collect();
        self.members.clear();
        self.turn(0, |turn, _| {
            conns.iter().for_each(|conn| turn.feed(Event::Closed { conn: *conn }));
            0
        });
        for _ in 0..10 {
            self.now = self.now + Duration::from_secs(10);
            self.settle();
        }
        self.core.check_idle();
    }

    fn seat(&mut self, place: usize) {
        let number = self.senders.len();
        let (tongue, path) = match (place, number % 2) {
            (0, _) => (Tongue::Fanfare, "/".to_owned()),
            (1, _) => (Tongue::Classic, "/classic".to_owned()),
            (_, 0) => (Tongue::Broadcast, "/broadcast/large".to_owned()),
            (..) => (Tongue::Broadcast, format!("/broadcast/{}", room_name(1).replace('"', "%22"))),
        };
        let conn = self.connect(&path, "Sec-WebSocket-Extensions: permessage-deflate\r\n");
        self.by_conn.insert(conn, number);
        self.senders.push(Sender::new(number as u64, conn, tongue, self.now));
        self.places[place] = number;
        self.settle();
    }

    /// Another comes to this place; the one before goes, or is forgotten.
    fn seat_anew(&mut self, place: usize, goes: bool) {
        let sender = &mut self.senders[self.places[place]];
        let conn = sender.conn;
        sender.is_over = true;
        if goes {
            self.finish_reading(conn);
            self.turn(0, |turn, _| {
                turn.feed(Event::Closed { conn });
                0
            });
        }
        self.seat(place);
    }

    fn connect(&mut self, path: &str, further: &str) -> ConnId {
        let mut conn = None;
        self.turn(0, |turn, _| {
            conn = Some(turn.open().expect("there is a place"));
            0
        });
        let conn = conn.expect("set above");
        self.turn(0, |turn, _| {
            turn.feed(Event::Bytes { conn, data: &mut upgrade_request(path, further).into_bytes() });
            0
        });
        conn
    }

    /// Has a client's bytes read, a piece in a turn, and none while some are kept unread.
    fn read(&mut self, number: usize, bytes: &[u8]) {
        let conn = self.senders[number].conn;
        for piece in bytes.chunks(self.read_bytes) {
            self.finish_reading(conn);
            self.wait_for_the_others();
            if self.senders[number].is_over {
                return;
            }
            self.senders[number].read += piece.len();
            self.turn(1, |turn, _| {
                turn.feed(Event::Bytes { conn, data: &mut piece.to_vec() });
                0
            });
        }
    }

    fn finish_reading(&mut self, conn: ConnId) {
        for _ in 0..TURNS_MAX {
            if !self.core.keeps_unread(conn) {
                return;
            }
            self.rest();
            self.turn(0, |_, _| 0);
        }
        panic!("what is kept unread is never looked at");
    }

    /// Waits until all together have not made too much work any more. What others have had read before may make it too much again
    /// and again: a few kilobytes can inflate to millions, of characters that JSON escapes.
    fn wait_for_the_others(&mut self) {
        for _ in 0..TURNS_MAX {
            if !self.core.is_strained() {
                return;
            }
            match self.core.has_unread() {
                true => self.rest(),
                false => self.now = self.now + Duration::from_millis(1),
            }
            self.turn(0, |_, _| 0);
        }
        panic!("it is too much work for ever");
    }

    /// Waits as long as the core says.
    fn rest(&mut self) {
        let next = self.core.next_timeout().expect("what is kept has its turn");
        assert!(self.core.is_strained() || next <= self.now, "what is kept has its turn at once");
        self.now = self.now.max(next);
    }

    /// Turns until nothing more happens without time passing.
    fn settle(&mut self) {
        for _ in 0..TURNS_MAX {
            let events = !self.is_held && self.broker.has_events() && !self.core.is_congested();
            if !events && self.core.next_timeout().is_none_or(|next| next > self.now) {
                assert!(self.core.is_strained() || !self.core.has_unread(), "what is kept has its turn at once");
                return;
            }
            if events { self.hear_the_broker() } else { self.turn(0, |_, _| 0) }
        }
        panic!("it does not come to rest");
    }

    fn hear_the_broker(&mut self) {
        let broker_bytes = self.broker_bytes;
        self.turn(0, |turn, broker| {
            let mut events = 0;
            broker.poll_some(broker_bytes, |event| {
                events += 1;
                turn.feed(Event::Broker(event));
            });
            events
        });
    }

    /// One turn in which so many connections are read once, and what `feed` says is fed, of it so many events of the broker.
    fn turn(&mut self, reads: usize, feed: impl FnOnce(&mut Turn<'_>, &mut MemoryBroker) -> usize) {
        let deferred = if self.core.metrics().publishes_deferred_now > 0 { self.bounds.deferred() } else { 0 };
        let inflated = self.inflated();
        let mut core = std::mem::replace(&mut self.core, Core::new(Config::default()));
        let mut turn = core.turn(self.now);
        let events = feed(&mut turn, &mut self.broker);
        turn.feed(Event::Timeout);
        let (mut actions, mut done) = (turn.finish(), Done::default());
        while let Some(action) = actions.next() {
            self.carry_out(action, &mut done);
        }
        drop(actions);
        core.check_invariants();
        self.core = core;
        done.inflated = self.inflated() - inflated;
        // One look more, of the timeout. An event of the broker can confirm a room to all who wait for it.
        let looks = reads + 1;
        let late = if events > 0 { (events + self.waiting()) * self.bounds.reply() } else { 0 };
        let said_max = self.bounds.said(looks, looks * self.read_bytes) + deferred + late;
        assert!(done.published + done.said <= said_max, "{done:?}, and at most {said_max} are said");
        let given_max = self.bounds.given(self.frame);
        assert!(done.given <= given_max, "{done:?}, and at most {given_max} are given");
        if events == 0 && !self.is_held {
            let inflated_max = self.bounds.inflated(looks);
            assert!(done.inflated <= inflated_max, "{done:?}, and at most {inflated_max} are inflated");
        }
        self.senders.iter().for_each(|sender| self.check_bill(sender));
        if let Some(surplus) = self.bounds.charged_surplus(self.now.since(START)) {
            // What was read when it was not too much yet, and what was kept then.
            let (made, most) = (self.surplus(), surplus + 2 * self.bounds.surplus_of_look());
            assert!(made <= most, "all together have made {made}, and at most {most} is allowed");
        }
    }

    fn surplus(&self) -> usize {
        self.senders.iter().map(|sender| sender.inflated + sender.said).sum()
    }

    /// What a client has made is what it could be charged.
    fn check_bill(&self, sender: &Sender) {
        let age = self.now.since(sender.since);
        if let Some(charged) = self.bounds.charged_bytes(age) {
            // The last read, for which it went, has not been looked at; the surplus of the last look has been made.
            let most = charged + self.read_bytes + self.bounds.surplus_of_look();
            assert!(sender.read + sender.inflated + sender.said <= most, "{most}: {}", sender.bill());
            assert!(sender.published <= most + self.bounds.headers(sender.publishes), "{most}: {}", sender.bill());
        }
        if let Some(charged) = self.bounds.charged_deliveries(age) {
            assert!(sender.deliveries <= charged, "{charged}: {}", sender.bill());
        }
        if let Some(charged) = self.bounds.charged_messages(age) {
            assert!(sender.publishes <= charged, "{charged}: {}", sender.bill());
        }
    }

    fn inflated(&self) -> usize {
        self.senders.iter().map(|sender| sender.inflated).sum()
    }

    /// Messages that have no answer yet.
    fn waiting(&self) -> usize {
        self.senders.iter().map(|sender| sender.awaited.len()).sum()
    }

    fn carry_out(&mut self, action: Action<'_>, done: &mut Done) {
        match action {
            Action::Send(mut delivery) => {
                let told = told(delivery.bytes(), &mut self.frame);
                while let Some(conn) = delivery.next_target() {
                    told.iter().for_each(|(told, bytes)| self.hear(conn, told, *bytes, done));
                }
            }
            Action::Shutdown { conn } | Action::Close { conn } => {
                if let Some(number) = self.by_conn.get(&conn) {
                    self.senders[*number].is_over = true;
                }
            }
            Action::Ask(broker::Ask::Publish { room, payload, id, .. }) => {
                let (number, message) = token(&String::from_utf8_lossy(payload)).expect("every message has its token");
                let sender = &mut self.senders[number];
                sender.see(message);
                sender.published += payload.len();
                sender.publishes += 1;
                done.published += payload.len();
                if room == LARGE {
                    self.large.push((number, message));
                }
                self.broker.publish(room, payload, id);
            }
            Action::Ask(broker::Ask::Subscribe { room }) => self.broker.subscribe(room),
            Action::Ask(broker::Ask::Unsubscribe { room }) => self.broker.unsubscribe(room),
            Action::Ask(broker::Ask::Fence { .. }) => panic!("nobody has to go"),
            Action::Ask(broker::Ask::Read { .. }) => panic!("no room keeps history"),
            Action::Ask(broker::Ask::Present { .. } | broker::Ask::Roster { .. }) => panic!("no room has presence"),
            Action::Authenticate(_) => panic!("nobody is asked who they are"),
            Action::Propose(_) => panic!("nobody is asked about messages"),
        }
    }

    fn hear(&mut self, conn: ConnId, told: &Told, bytes: usize, done: &mut Done) {
        if let Told::Message(number, message) = *told {
            if let Some(given) = self.members.get_mut(&conn) {
                assert_eq!(self.large.get(*given), Some(&(number, message)), "{conn:?} is given messages in order");
                *given += 1;
                done.given += bytes;
            }
            let bounds = &self.bounds;
            let Sender { sent, deliveries, .. } = &mut self.senders[number];
            let sent = sent.get_mut(&message).expect("it has been sent");
            // Those who have come since it was charged do not count.
            let charged = |given: usize| bounds.deliveries(given.saturating_sub(SENDERS), sent.json_bytes);
            *deliveries += charged(sent.given + 1) - charged(sent.given);
            sent.given += 1;
            return;
        }
        let Some(sender) = self.by_conn.get(&conn).map(|number| &mut self.senders[*number]) else { return };
        done.said += bytes;
        match *told {
            Told::Reply(message, charged) => {
                sender.said += charged;
                message.into_iter().for_each(|message| sender.see(message));
            }
            Told::Pong(message) => sender.see(message),
            Told::Close(why) => {
                sender.is_over = true;
                if why == Some(code::TOO_BIG) {
                    // It was inflated to the last byte that may be, in vain.
                    sender.inflated += self.message_bytes_max;
                }
            }
            Told::Message(..) => {}
        }
    }
}

/// Everything in these bytes, each with its own; `longest` is that of the longest message of a room so far.
fn told(bytes: &[u8], longest: &mut usize) -> Vec<(Told, usize)> {
    let head = match bytes.starts_with(b"HTTP/") {
        true => head_bytes(bytes).expect("a whole head"),
        false => 0,
    };
    let (mut rest, mut all) = (&bytes[head..], Vec::new());
    while let Some((frame, bytes)) = Frame::parse(rest) {
        rest = &rest[bytes..];
        let frame = inflated(frame);
        let text = String::from_utf8_lossy(&frame.payload);
        let told = match frame.opcode {
            opcode::CLOSE => Told::Close(frame.payload.first_chunk().map(|code| u16::from_be_bytes(*code))),
            opcode::PONG => Told::Pong(token(&text).expect("pings have tokens").1),
            _ if text.starts_with(r#"{"type":""#) && !text.starts_with(r#"{"type":"MESSAGE""#) => reply(&text),
            _ => {
                let (number, message) = token(&text).expect("every message has its token");
                *longest = (*longest).max(bytes);
                Told::Message(number, message)
            }
        };
        all.push((told, bytes));
    }
    assert!(rest.is_empty(), "only whole frames are sent");
    all
}

fn reply(text: &str) -> Told {
    let value: serde_json::Value = serde_json::from_str(text).expect("replies are JSON");
    // What comes when the broker has answered is not charged.
    let is_at_once = matches!(value["type"].as_str(), Some("ERROR" | "PONG"));
    Told::Reply(value["id"].as_u64(), if is_at_once { text.len() } else { 0 })
}

/// The sender and the number of a message, in a text that has its token.
fn token(text: &str) -> Option<(usize, u64)> {
    let (sender, message) = text.split('#').nth(1)?.split_once(':')?;
    Some((sender.parse().ok()?, message.parse().ok()?))
}
