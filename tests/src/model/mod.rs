//! A whole instance without a system: a core, sockets that take as much as they are told to, and a broker that answers when
//! it is told to. Beside it a reference model says what each client must have been sent, room by room.
//!
//! [`World::apply`] does one turn and checks all that can be checked after it; [`World::heal`] demands what must be true once
//! everything is quiet.

mod client;
mod draining;
mod history;
mod publishes;
mod received;
mod socket;

pub use history::{Bounds, Step};

use client::{Client, ERRORS_MAX, ERRORS_PER_MINUTE, Membership, without_repeated};
use draining::{Draining, SPREAD};
use publishes::Publishes;
use received::{Token, frames, ids_of, rooms_of};
use socket::{Socket, say};

use crate::{Frame, code, compression, config, opcode, path_joining, upgrade_request};
use fanfare_core::broker;
use fanfare_core::broker::{BrokerEvent, FenceId, Partitions, PublishError, PublishId};
use fanfare_core::time::Time;
use fanfare_core::{Action, Config, ConnId, Core, Dialect, Event, Rate, Refused, Turn};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// Room names that steps refer to by index.
const ROOMS: [&str; 4] = ["a", "b", "c", "d"];
/// Of the broker. Each has some of the rooms.
pub const PARTITIONS: u16 = 2;
/// From the word to stop to the close of those who wait for an answer.
const DRAIN: Duration = Duration::from_secs(3);
/// Small, so that the limit is met.
const ROOMS_PER_CONNECTION_MAX: u16 = 3;

#[derive(Debug)]
enum Ask {
    Subscribe(String),
    Unsubscribe(String),
    Publish(String, Vec<u8>, Option<PublishId>),
    Fence(FenceId),
}

/// The instance, its surroundings, and the model.
pub struct World {
    /// The core under test.
    pub core: Core,
    now: Time,
    clients: Vec<ConnId>,
    sockets: BTreeMap<ConnId, Socket>,
    asks: VecDeque<Ask>,
    /// Publishes made while the broker was away.
    refused: Vec<PublishId>,
    /// What the broker delivers; lost when it goes away.
    subscriptions: BTreeSet<String>,
    up: bool,
    model: BTreeMap<ConnId, Client>,
    /// Rooms whose subscription the core has been told of.
    held: BTreeSet<String>,
    /// The broker has just confirmed a room without members.
    unneeded: bool,
    /// It refuses for a while, and has said so.
    refusing: bool,
    draining: Draining,
    /// It was told to stop, and tells everybody by then.
    drained_at: Option<Time>,
    /// Who is to be told the outcome of what the broker was asked to publish.
    owed: BTreeMap<PublishId, ConnId>,
    sent: u64,
    publishes: Publishes,
    /// Who may have been closed without a word so far.
    lagged: BTreeSet<ConnId>,
    commands: u64,
    /// The bytes of all targets of everything said, in order: equal runs give equal logs.
    pub log: Vec<u8>,
}

impl World {
    /// An instance without clients, its broker up.
    pub fn new(bounds: Bounds) -> World {
        let config = config(|config| {
            config.limits.outbox_bytes_max = bounds.outbox_bytes_max;
            config.limits.outbox_total_bytes_max = bounds.outbox_total_bytes_max;
            config.limits.members_per_turn_max = bounds.members_per_turn_max;
            config.limits.group_members_max = bounds.group_members_max;
            config.limits.errors_max = ERRORS_MAX;
            config.limits.errors_per_minute = ERRORS_PER_MINUTE;
            config.limits.rooms_per_connection_max = ROOMS_PER_CONNECTION_MAX;
            config.timeouts.ping_interval = Duration::from_secs(1_000_000);
            config.timeouts.room_linger = Duration::from_millis(500);
            config.timeouts.drain = DRAIN;
            config.drain.spread = SPREAD;
            config.compression = Some(compression(0, 1));
            // How fast clients are is not what the model is about.
            config.limits.messages = Rate::NONE;
            config.limits.bytes = Rate::NONE;
            config.limits.pings = Rate::NONE;
        });
        let mut world = World {
            core: Core::new(config),
            now: Time::ZERO,
            clients: Vec::new(),
            sockets: BTreeMap::new(),
            asks: VecDeque::new(),
            refused: Vec::new(),
            subscriptions: BTreeSet::new(),
            up: false,
            model: BTreeMap::new(),
            held: BTreeSet::new(),
            unneeded: false,
            refusing: false,
            draining: Draining::default(),
            drained_at: None,
            owed: BTreeMap::new(),
            sent: 0,
            publishes: Publishes::default(),
            lagged: BTreeSet::new(),
            commands: 0,
            log: Vec::new(),
        };
        world.apply(&[Step::Up]);
        world
    }

    /// Does these steps in one turn of the loop, carries out what the core says, and checks it.
    ///
    /// Where the broker confirms a room that nobody needs any more, the turn ends early and another does the rest: the core
    /// then gives the room up at once, which the model sees only from the action.
    pub fn apply(&mut self, steps: &[Step]) {
        let mut steps = steps;
        while let Some(rest) = self.turn(steps) {
            steps = rest;
        }
    }

    fn turn<'s>(&mut self, steps: &'s [Step]) -> Option<&'s [Step]> {
        let mut core = std::mem::replace(&mut self.core, Core::new(Config::default()));
        for step in steps {
            if let Step::Wait(millis) = step {
                self.now = self.now + Duration::from_millis(*millis);
            }
        }
        let mut turn = core.turn(self.now);
        for id in std::mem::take(&mut self.refused) {
            self.told(id);
            turn.feed(Event::Broker(BrokerEvent::PublishFailed { id, error: PublishError::Unavailable }));
        }
        let mut done = 0;
        while let Some(step) = steps.get(done)
            && !std::mem::take(&mut self.unneeded)
        {
            self.step(&mut turn, step);
            done += 1;
        }
        turn.feed(Event::Timeout);
        self.draining.end_turn(self.up, self.now);
        self.publishes.pass(self.now);
        self.end_the_settled();
        let dropped = steps[..done].iter().find_map(|step| match step {
            Step::Drop(actions, targets) => Some((*actions, *targets)),
            _ => None,
        });
        self.carry_out(turn, dropped.unwrap_or((usize::MAX, 0)));
        core.check_invariants();
        if dropped.is_some() {
            let mut turn = core.turn(self.now);
            self.lagged.extend(self.sockets.keys());
            for (conn, socket) in &mut self.sockets {
                // Whether anything is queued is not known to an adapter that has not tried.
                socket.blocked = socket.takes.is_some();
                if !socket.blocked {
                    turn.feed(Event::Writable { conn: *conn });
                }
            }
            self.carry_out(turn, (usize::MAX, 0));
            core.check_invariants();
        }
        self.core = core;
        self.check();
        steps.get(done..).filter(|rest| !rest.is_empty())
    }

    /// Feeds one client's bytes in these pieces, all in one turn.
    pub fn feed_pieces(&mut self, pieces: &[&[u8]]) {
        let mut core = std::mem::replace(&mut self.core, Core::new(Config::default()));
        let mut turn = core.turn(self.now);
        let conn = turn.open().expect("there is a place");
        self.sockets.insert(conn, Socket::default());
        for piece in pieces {
            turn.feed(Event::Bytes { conn, data: &mut piece.to_vec() });
        }
        self.carry_out(turn, (usize::MAX, 0));
        while !self.asks.is_empty() {
            let mut turn = core.turn(self.now);
            self.answer(&mut turn);
            self.carry_out(turn, (usize::MAX, 0));
        }
        while core.next_timeout().is_some_and(|timeout| timeout <= self.now) {
            let turn = core.turn(self.now);
            self.carry_out(turn, (usize::MAX, 0));
        }
        core.check_invariants();
        self.core = core;
    }

    /// Heals everything: sockets take all, the broker is up and answers, lingering and waiting for peers end. Then what was
    /// expected is there, to the last message; each command with an id has had its one reply; who was to go is gone; and the
    /// broker's subscriptions are the rooms that have members.
    pub fn heal(&mut self) {
        let steps: Vec<Step> = (0..self.clients.len()).map(|client| Step::Take(client, usize::MAX)).collect();
        self.apply(&steps);
        if !self.up {
            self.apply(&[Step::Up]);
        }
        for _ in 0..4 {
            self.apply(&[Step::Wait(6_000)]);
            while !self.asks.is_empty() || self.is_behind() {
                self.apply(&[Step::Answer(16)]);
            }
        }
        let is_over = |client: &Client| client.over;
        assert!(!self.draining.has_begun() || self.model.values().all(is_over), "all have been let go");
        let metrics = self.core.metrics();
        assert_eq!((metrics.unsent_bytes_now, metrics.stored_frame_bytes_now), (0, 0), "nothing is left unsent");
        let populated: BTreeSet<String> =
            self.model.values().filter(|client| !client.over).flat_map(|client| client.rooms.keys().cloned()).collect();
        assert_eq!(self.subscriptions, populated, "subscriptions equal the rooms with members");
        self.publishes.check_all(|conn| !self.lagged.contains(&conn));
        for (conn, _) in self.model.iter().filter(|(_, client)| client.over) {
            assert!(!self.sockets.contains_key(conn), "{conn:?} is closed in the end");
        }
        for (conn, client) in self.model.iter().filter(|(_, client)| !client.over) {
            assert_eq!(ids_of(&frames(&self.sockets[conn].received)), client.ids, "{conn:?} had its replies");
            let received = rooms_of(&frames(&self.sockets[conn].received));
            // As many tokens, and those that have a place in the order of their room in this order.
            let all = |(room, tokens): (&String, &Vec<Token>)| (room.clone(), tokens.len(), without_repeated(tokens));
            let expected = client.expected.iter().filter(|(_, tokens)| !tokens.is_empty());
            assert!(received.iter().map(all).eq(expected.map(all)), "{conn:?} got everything");
        }
    }

    fn step(&mut self, turn: &mut Turn<'_>, step: &Step) {
        match *step {
            Step::Connect => self.connect(turn, "/", ""),
            Step::ConnectCompressed(window_bits) => {
                let offer = format!("permessage-deflate; server_max_window_bits={window_bits}");
                self.connect(turn, "/", &format!("Sec-WebSocket-Extensions: {offer}\r\n"));
            }
            Step::ConnectClassic => {
                self.connect(turn, "/classic", "Sec-WebSocket-Extensions: permessage-deflate\r\n");
            }
            Step::ConnectBroadcast => self.connect(turn, "/broadcast/a", ""),
            Step::ConnectEvents(rooms) => self.connect_events(turn, &ROOMS[..rooms.clamp(1, 2)]),
            Step::ConnectByMessage { broadcasts } => self.connect_by_message(turn, broadcasts),
            Step::Subscribe(..) | Step::Unsubscribe(..) | Step::Send(..) | Step::Nonsense(_)
                if self.draining.may_be_deaf(self.now) => {}
            Step::Subscribe(client, room) => self.subscribe(turn, client, ROOMS[room % ROOMS.len()]),
            Step::Unsubscribe(client, room) => self.unsubscribe(turn, client, ROOMS[room % ROOMS.len()]),
            Step::Send(client, room, echo) => {
                let Some(conn) = self.client(client).filter(|conn| !self.model[conn].reads) else { return };
                self.sent += 1;
                if self.model[&conn].broadcasts {
                    self.broadcast(turn, conn);
                    return self.note_send(conn, ROOMS[0], false);
                }
                let (room, sent) = (ROOMS[room % ROOMS.len()], self.sent);
                let spared = if echo { "null".to_owned() } else { conn.to_bits().to_string() };
                // Some that pay to be compressed, and some that do not.
                let padding = " ".repeat(sent as usize % 3 * 20);
                let fields = format!(r#""room":"{room}","message":[{sent},{spared},"{room}"{padding}],"echo":{echo}"#);
                self.command(turn, conn, "SEND_MESSAGE", &fields);
                self.note_send(conn, room, self.commands.is_multiple_of(2));
            }
            Step::Nonsense(client) => {
                let Some(conn) = self.client(client) else { return };
                if self.model[&conn].reads {
                    return turn.feed(Event::Bytes { conn, data: &mut b"nonsense".to_vec() });
                }
                let model = self.model.get_mut(&conn).expect("every client has a model");
                model.over |= self.drained_at.is_none() && model.err(self.now);
                let opcode = if model.broadcasts { opcode::BINARY } else { opcode::TEXT };
                self.say(turn, conn, &Frame::new(opcode, "nonsense"));
            }
            Step::Violate(client) => {
                let Some(conn) = self.client(client).filter(|conn| !self.model[conn].reads) else { return };
                self.over(conn);
                match self.model[&conn].by_message {
                    true => self.say(turn, conn, &Frame::close(1005, "")),
                    false => turn.feed(Event::Bytes { conn, data: &mut Frame::text("not masked").unmasked() }),
                }
            }
            Step::Close(client) => {
                let Some(conn) = self.client(client).filter(|conn| !self.model[conn].reads) else { return };
                self.over(conn);
                self.say(turn, conn, &Frame::close(1000, ""));
            }
            Step::Vanish(client) => {
                let Some(conn) = self.client(client) else { return };
                self.over(conn);
                turn.feed(Event::Closed { conn });
            }
            Step::Break(client) => {
                let Some(conn) = self.client(client) else { return };
                if let Some(socket) = self.sockets.get_mut(&conn) {
                    socket.broken = true;
                }
            }
            Step::Take(client, bytes) => {
                let Some(conn) = self.client(client) else { return };
                let Some(socket) = self.sockets.get_mut(&conn) else { return };
                socket.takes = (bytes != usize::MAX).then_some(bytes);
                if std::mem::take(&mut socket.blocked) {
                    turn.feed(Event::Writable { conn });
                }
            }
            Step::Answer(asks) => {
                for _ in 0..asks {
                    if !self.unneeded {
                        self.answer(turn);
                    }
                }
            }
            Step::Refuse => self.refuse(turn),
            Step::RefuseForAWhile(refuses) => {
                // What was asked stays outstanding, and is answered in its time.
                turn.feed(Event::Broker(match refuses {
                    true => BrokerEvent::Refusing { reason: "busy" },
                    false => BrokerEvent::Willing,
                }));
                self.refusing = refuses;
            }
            Step::Down => self.down(turn),
            Step::Lose(partition) => self.lose(turn, partition),
            Step::Up => {
                if !std::mem::replace(&mut self.up, true) {
                    turn.feed(Event::Broker(BrokerEvent::Up));
                    turn.feed(Event::Broker(BrokerEvent::PublisherUp));
                }
            }
            Step::Drain => {
                self.draining.begin(self.now);
                turn.feed(Event::Drain);
            }
            Step::Shutdown => {
                self.drained_at.get_or_insert(self.now + DRAIN);
                turn.feed(Event::Shutdown);
            }
            Step::Wait(_) | Step::Drop(..) => {}
        }
    }

    /// Whether nobody is taken any more.
    fn is_closed(&self) -> bool {
        self.drained_at.is_some() || self.draining.is_closed()
    }

    /// At the end of a turn, whoever is owed nothing is told to come back.
    fn end_the_settled(&mut self) {
        let Some(drained_at) = self.drained_at else { return };
        for (conn, client) in &mut self.model {
            let is_owed = self.publishes.is_due(*conn)
                || self.owed.values().any(|owed| owed == conn)
                || self.up && client.waits_for_a_room();
            client.over |= self.now >= drained_at || client.bare || !is_owed;
        }
    }

    /// The outcome of a publish is told.
    fn told(&mut self, id: PublishId) {
        self.owed.remove(&id);
    }

    fn client(&self, number: usize) -> Option<ConnId> {
        self.clients.get(number.checked_rem(self.clients.len())?).copied()
    }

    fn connect(&mut self, turn: &mut Turn<'_>, path: &str, fields: &str) {
        let conn = turn.open().expect("there is a place");
        let broadcasts = path == "/broadcast/a";
        let bare = broadcasts || path == "/classic";
        self.begin(conn, Socket::default(), Client { over: self.is_closed(), bare, broadcasts, ..Client::default() });
        turn.feed(Event::Bytes { conn, data: &mut upgrade_request(path, fields).into_bytes() });
    }

    fn connect_events(&mut self, turn: &mut Turn<'_>, rooms: &[&str]) {
        let conn = turn.open().expect("there is a place");
        let mut client = Client { over: self.is_closed(), reads: true, ..Client::default() };
        for room in rooms {
            let held = self.held.contains(*room);
            client.rooms.insert((*room).to_owned(), Membership { waiting: !held });
            if held {
                client.expect(room, Token::Subscribed);
            }
        }
        self.begin(conn, Socket::default(), client);
        let path = path_joining("/sse", rooms.iter().copied());
        let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        turn.feed(Event::Bytes { conn, data: &mut head.into_bytes() });
    }

    fn connect_by_message(&mut self, turn: &mut Turn<'_>, broadcasts: bool) {
        let (dialect, rooms) = if broadcasts { (Dialect::Broadcast, &ROOMS[..1]) } else { (Dialect::Fanfare, &[][..]) };
        match turn.open_websocket(dialect, rooms, None) {
            Ok(conn) => {
                let client = Client { bare: broadcasts, broadcasts, by_message: true, ..Client::default() };
                self.begin(conn, Socket::by_message(), client);
            }
            Err(refused) => assert_eq!((refused, self.is_closed()), (Refused::ShuttingDown, true)),
        }
    }

    fn begin(&mut self, conn: ConnId, socket: Socket, mut client: Client) {
        if client.broadcasts {
            client.rooms.insert(ROOMS[0].to_owned(), Membership { waiting: !self.held.contains(ROOMS[0]) });
        }
        self.clients.push(conn);
        self.sockets.insert(conn, socket);
        self.model.insert(conn, client);
    }

    fn say(&self, turn: &mut Turn<'_>, conn: ConnId, frame: &Frame) {
        say(turn, conn, self.model[&conn].by_message, frame);
    }

    /// Sends what every member of the first room gets.
    fn broadcast(&mut self, turn: &mut Turn<'_>, conn: ConnId) {
        let model = self.model.get_mut(&conn).expect("every client has a model");
        model.forgive();
        self.say(turn, conn, &Frame::text(format!(r#"[{},null,"{}"]"#, self.sent, ROOMS[0])));
    }

    /// Sends a well-formed command; every other one has an id.
    fn command(&mut self, turn: &mut Turn<'_>, conn: ConnId, kind: &str, fields: &str) {
        self.commands += 1;
        let mut id = String::new();
        let model = self.model.get_mut(&conn).expect("every client has a model");
        model.forgive();
        if self.commands.is_multiple_of(2) {
            if !model.bare {
                model.ids.insert(self.commands);
            }
            id = format!(r#","id":{}"#, self.commands);
        }
        self.say(turn, conn, &Frame::text(format!(r#"{{"type":"{kind}",{fields}{id}}}"#)));
    }

    fn subscribe(&mut self, turn: &mut Turn<'_>, client: usize, room: &str) {
        let Some(conn) = self.client(client) else { return };
        let held = self.held.contains(room);
        let model = self.model.get_mut(&conn).expect("every client has a model");
        if model.broadcasts || model.reads {
            return;
        }
        if !model.over && self.drained_at.is_none() {
            let members = model.rooms.len();
            match model.rooms.get_mut(room) {
                Some(membership) if membership.waiting => {}
                Some(_) if held => model.expect(room, Token::Subscribed),
                Some(membership) => membership.waiting = true,
                None if members >= usize::from(ROOMS_PER_CONNECTION_MAX) => {}
                None => {
                    model.rooms.insert(room.to_owned(), Membership { waiting: !held });
                    if held {
                        model.expect(room, Token::Subscribed);
                    }
                }
            }
        }
        self.command(turn, conn, "SUBSCRIBE", &format!(r#""room":"{room}""#));
    }

    fn unsubscribe(&mut self, turn: &mut Turn<'_>, client: usize, room: &str) {
        let Some(conn) = self.client(client) else { return };
        let model = self.model.get_mut(&conn).expect("every client has a model");
        if model.broadcasts || model.reads {
            return;
        }
        if !model.over && self.drained_at.is_none() {
            model.rooms.remove(room);
            model.expect(room, Token::Unsubscribed);
        }
        // What is said while it ends is not acted upon.
        if self.drained_at.is_none() {
            self.publishes.left(conn, room);
        }
        self.command(turn, conn, "UNSUBSCRIBE", &format!(r#""roomId":"{room}""#));
    }

    fn over(&mut self, conn: ConnId) {
        self.model.get_mut(&conn).expect("every client has a model").over = true;
    }

    fn answer(&mut self, turn: &mut Turn<'_>) {
        if !self.up {
            return;
        }
        match self.asks.pop_front() {
            None => {}
            Some(Ask::Subscribe(room)) => {
                self.subscriptions.insert(room.clone());
                self.held.insert(room.clone());
                self.publishes.answered(&room);
                self.unneeded = !self.model.values().any(|client| !client.over && client.rooms.contains_key(&room));
                for client in self.model.values_mut().filter(|client| !client.over) {
                    // Who is a member already was one before an outage.
                    match client.rooms.get_mut(&room).map(|membership| std::mem::take(&mut membership.waiting)) {
                        Some(true) => client.expect(&room, Token::Subscribed),
                        Some(false) => client.expect(&room, Token::Gap),
                        None => {}
                    }
                }
                turn.feed(Event::Broker(BrokerEvent::Subscribed { room: &room }));
            }
            Some(Ask::Unsubscribe(room)) => {
                self.subscriptions.remove(&room);
                turn.feed(Event::Broker(BrokerEvent::Unsubscribed { room: &room }));
            }
            Some(Ask::Fence(id)) => {
                self.draining.answered(id);
                turn.feed(Event::Broker(BrokerEvent::Fenced { id }));
            }
            Some(Ask::Publish(room, payload, id)) => {
                if self.subscriptions.contains(&room) {
                    self.expect_message(&room, &payload);
                    turn.feed(Event::Broker(BrokerEvent::Message { room: &room, payload: &payload }));
                }
                if let Some(id) = id {
                    self.told(id);
                    turn.feed(Event::Broker(BrokerEvent::Published { id, position: None, receivers: None }));
                }
            }
        }
    }

    fn refuse(&mut self, turn: &mut Turn<'_>) {
        if !matches!(self.asks.front(), Some(Ask::Subscribe(_))) {
            return;
        }
        let Some(Ask::Subscribe(room)) = self.asks.pop_front() else { return };
        self.publishes.answered(&room);
        for client in self.model.values_mut().filter(|client| !client.over) {
            let membership = client.rooms.remove(&room);
            let was_member = membership.is_some();
            if let Some(Membership { waiting: false }) = membership {
                client.expect(&room, Token::Unsubscribed);
            }
            // Who gets no replies is told by a close.
            client.over |= client.bare && was_member;
        }
        turn.feed(Event::Broker(BrokerEvent::SubscribeFailed { room: &room, reason: "refused" }));
    }

    fn expect_message(&mut self, room: &str, payload: &[u8]) {
        if !self.held.contains(room) {
            return;
        }
        // A message that is none of the model's own is of no interest to it.
        let message = publishes::published_message(payload);
        let Some(number) = message[0].as_u64() else { return };
        let spared = message[1].as_u64().map(ConnId::from_bits);
        for (conn, client) in self.model.iter_mut().filter(|(_, client)| !client.over) {
            if client.rooms.contains_key(room) && spared != Some(*conn) {
                client.expect(room, Token::Message(number));
            }
        }
    }

    fn down(&mut self, turn: &mut Turn<'_>) {
        if !std::mem::take(&mut self.up) {
            return;
        }
        self.draining.voided(self.now);
        self.subscriptions.clear();
        self.held.clear();
        let (model, lagged) = (&self.model, &self.lagged);
        self.publishes.outage(|conn| model[&conn].over || lagged.contains(&conn));
        for ask in std::mem::take(&mut self.asks) {
            if let Ask::Publish(_, _, Some(id)) = ask {
                self.told(id);
                turn.feed(Event::Broker(BrokerEvent::PublishFailed { id, error: PublishError::Unconfirmed }));
            }
        }
        turn.feed(Event::Broker(BrokerEvent::PublisherDown { reason: "down" }));
        turn.feed(Event::Broker(BrokerEvent::Down { reason: "down" }));
    }

    /// The broker loses a part of what it holds, and takes new subscriptions.
    fn lose(&mut self, turn: &mut Turn<'_>, partition: u16) {
        if !self.up {
            return;
        }
        let mut partitions = Partitions::none_of(PARTITIONS);
        partitions.insert(partition);
        self.subscriptions.retain(|room| !partitions.has_room(room));
        self.held.retain(|room| !partitions.has_room(room));
        self.asks.retain(|ask| match ask {
            Ask::Subscribe(room) | Ask::Unsubscribe(room) => !partitions.has_room(room),
            Ask::Publish(..) | Ask::Fence(_) => true,
        });
        turn.feed(Event::Broker(BrokerEvent::Lost { partitions: &partitions }));
    }

    /// Carries out so many actions, and of the one after them so many targets.
    fn carry_out(&mut self, turn: Turn<'_>, (actions_max, targets_max): (usize, usize)) {
        let mut actions = turn.finish();
        for number in 0.. {
            let Some(action) = (number <= actions_max).then(|| actions.next()).flatten() else { return };
            if let Action::Ask(broker::Ask::Publish { payload, id, .. }) = &action {
                self.note_publish(payload, *id);
            }
            match action {
                Action::Send(mut delivery) => {
                    let bytes = delivery.bytes();
                    let mut targets = if number < actions_max { usize::MAX } else { targets_max };
                    while targets > 0
                        && let Some(conn) = delivery.next_target()
                    {
                        targets -= 1;
                        self.log.extend_from_slice(bytes);
                        let socket = self.sockets.get_mut(&conn).expect("no action names a closed socket");
                        if socket.broken {
                            self.lagged.insert(conn);
                            self.sockets.remove(&conn);
                            self.model.get_mut(&conn).expect("every client has a model").over = true;
                            delivery.gone(conn);
                            continue;
                        }
                        socket.take(&mut delivery, conn);
                        if socket.blocked {
                            self.lagged.insert(conn);
                        }
                    }
                }
                Action::Shutdown { conn } => {
                    assert!(
                        self.sockets.contains_key(&conn)
                            && !self.model.get(&conn).is_some_and(|model| model.by_message)
                    );
                }
                Action::Close { conn } => {
                    let socket = self.sockets.remove(&conn).expect("a socket is closed once");
                    self.log.extend_from_slice(b"close");
                    // What it received stays checked, up to here.
                    if let Some(model) = self.model.get_mut(&conn) {
                        model.over = true;
                        model.check(conn, &socket.received);
                    }
                }
                Action::Ask(broker::Ask::Subscribe { room }) if self.up => {
                    assert!(!self.is_asked(room) && !self.subscriptions.contains(room), "{room} is asked for once");
                    self.asks.push_back(Ask::Subscribe(room.to_owned()));
                }
                Action::Ask(broker::Ask::Unsubscribe { room }) if self.up => {
                    assert!(!self.is_asked(room) && self.subscriptions.contains(room), "{room} is given up once");
                    // From here on a new member cannot rely on it any more.
                    self.held.remove(room);
                    self.asks.push_back(Ask::Unsubscribe(room.to_owned()));
                }
                // A session that is down forgets subscriptions, and refuses publishes in the next turn.
                Action::Ask(broker::Ask::Subscribe { .. }) | Action::Ask(broker::Ask::Unsubscribe { .. }) => {}
                Action::Ask(broker::Ask::Publish { room, payload, id, .. }) if self.up => {
                    self.asks.push_back(Ask::Publish(room.to_owned(), payload.to_vec(), id));
                }
                Action::Ask(broker::Ask::Publish { id, .. }) => self.refused.extend(id),
                Action::Ask(broker::Ask::Fence { id }) => {
                    self.draining.asked(id, self.now);
                    self.asks.push_back(Ask::Fence(id));
                }
                Action::Ask(broker::Ask::Read { .. }) => panic!("no room keeps history"),
                Action::Ask(broker::Ask::Present { .. } | broker::Ask::Roster { .. }) => panic!("no room has presence"),
                Action::Authenticate(_) => panic!("nobody is asked who they are"),
                Action::Propose(_) => panic!("nobody is asked about messages"),
            }
        }
    }

    fn is_asked(&self, room: &str) -> bool {
        self.asks.iter().any(|ask| match ask {
            Ask::Subscribe(asked) | Ask::Unsubscribe(asked) => asked == room,
            Ask::Publish(..) | Ask::Fence(_) => false,
        })
    }

    /// Whether the core has more to say than went into its last turn.
    fn is_behind(&self) -> bool {
        self.core.next_timeout().is_some_and(|timeout| timeout <= self.now)
    }

    /// What was received is the beginning of what was expected, in every room, and in whole frames but for the last.
    fn check(&mut self) {
        let is_ready = self.up && !self.refusing && self.drained_at.is_none() && !self.draining.has_begun();
        assert_eq!(self.core.readiness().is_ok(), is_ready, "ready: {:?}", self.core.readiness());
        let behind = self.is_behind();
        let owed: BTreeSet<ConnId> = self.owed.values().copied().collect();
        for (conn, model) in &mut self.model {
            let Some(socket) = self.sockets.get(conn) else { continue };
            let frames = frames(&socket.received);
            if let Some(close) = frames.iter().find(|frame| frame.opcode == opcode::CLOSE) {
                let restarts = close.payload.starts_with(&code::RESTART.to_be_bytes());
                if restarts && !model.over && self.drained_at.is_none() {
                    let is_owed = owed.contains(conn) || self.up && model.waits_for_a_room();
                    // Of one that lags the close is seen later than it was said.
                    let is_owed = is_owed && !self.lagged.contains(conn);
                    self.draining.check_let_go(*conn, model.bare, is_owed, self.now);
                    let received = rooms_of(&frames);
                    for (room, expected) in model.expected.iter().filter(|_| !self.lagged.contains(conn)) {
                        let got = received.get(room).map_or(0, Vec::len);
                        assert_eq!(got, expected.len(), "{conn:?} is let go, and lacks something in {room}");
                    }
                    model.over = true;
                }
                let is_late = self.draining.has_begun() && self.lagged.contains(conn);
                let is_settled = model.over || is_late || self.publishes.is_uncertain(*conn);
                assert!(is_settled || !restarts, "{conn:?} is told to come back, and has an answer to get");
                let errs = close.payload.starts_with(&4509_u16.to_be_bytes());
                assert!(model.errs || !errs, "{conn:?} is closed for errors that time forgives");
                model.over = true;
            }
            model.check(*conn, &socket.received);
            if !socket.blocked && !model.over && !behind {
                let received = rooms_of(&frames);
                for (room, expected) in &model.expected {
                    let got = received.get(room).map_or(0, Vec::len);
                    assert_eq!(got, expected.len(), "{conn:?} does not lag, and lacks something in {room}");
                }
            }
        }
    }
}
