//! Credentials, permissions and bans: some connections, and a verifier, a broker and an operator that act in any order. Nobody is ever
//! given a message that it may not have, and whoever may is not refused.

mod reference;

use crate::lone_core::{LoneCore, Said};
use crate::{Frame, config, opcode, upgrade_request};
use fanfare_core::broker::BrokerEvent;
use fanfare_core::rules::Right;
use fanfare_core::time::Time;
use fanfare_core::{Auth, ConnId, Denied, Event, Identity};
use reference::{Credential, Order, ROOMS, bans, refusal, rules};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

const CLIENTS: usize = 4;
/// Unix, ms, of the clock's origin.
const ORIGIN_MS: u64 = 1_700_000_000_000;
/// As the core is told.
const TIMEOUT: Duration = Duration::from_secs(10);
/// A deadline is kept within a tick of the core's timers and the second to which a credential's times are rounded.
const SLACK_MS: u64 = 1_100;
/// How long a connection may stay whose credential has expired, while one is looked at.
const GRACE_MS: u64 = 36_000;

/// A connection, and what is known of it here.
#[derive(Debug)]
struct Client {
    conn: ConnId,
    opened: Time,
    /// The upgrade has been answered.
    is_open: bool,
    /// A credential that is looked at, by its number.
    pending: Option<u8>,
    /// When the last one has been.
    judged: Time,
    /// Whose it is.
    known: Option<Credential>,
    /// The user of the last one had as many connections as allowed.
    is_crowded: bool,
    /// What it has been told that it is in.
    rooms: BTreeSet<usize>,
    /// Where it is, or waits to be.
    joined: BTreeSet<usize>,
    bytes: Vec<u8>,
}

#[derive(Debug)]
struct World {
    lone: LoneCore,
    required: bool,
    /// How many connections a user may have; 0: any number.
    connections_max: usize,
    /// In how many rooms they may be; 0: any number.
    rooms_max: usize,
    clients: [Option<Client>; CLIENTS],
    /// When each credential was issued.
    issued: BTreeMap<u8, u64>,
    orders: Vec<Order>,
    /// Subscriptions and publishes that the broker has yet to do.
    asked: VecDeque<Said>,
    /// The sender of each message, by its number.
    senders: Vec<Option<&'static str>>,
    commands: u64,
}

/// What a client was told in a turn.
#[derive(Debug, Default)]
struct Told {
    texts: Vec<Value>,
    close: Option<u16>,
    /// The status of HTTP.
    status: Option<u16>,
}

/// The first byte says whether everybody has to be a user, and what a user may have. Then what is done, two bytes each. In the end all is quiet, and whoever may
/// is let.
pub fn identity(data: &[u8]) {
    let Some((first, steps)) = data.split_first() else { return };
    let mut world = World::new(first % 2 == 1, usize::from(first / 2 % 4), usize::from(first / 8 % 4));
    for [what, of] in steps.as_chunks::<2>().0 {
        world.step(*what, usize::from(*of));
    }
    world.end();
}

impl World {
    fn new(required: bool, connections_max: usize, rooms_max: usize) -> World {
        let mut lone = LoneCore::new(config(|config| {
            let mut auth = Auth::default();
            (auth.required, auth.timeout) = (required, TIMEOUT);
            (auth.recheck, auth.expiry_notice) = (Duration::from_secs(8), Duration::from_secs(5));
            config.auth = Some(auth);
            config.rules = rules();
            config.admission.connections_per_user_max = connections_max as u32;
            config.limits.rooms_per_user_max = rooms_max as u32;
            config.limits.errors_max = u16::MAX;
            config.timeouts.ping_interval = Duration::from_secs(100_000);
            config.timeouts.room_linger = Duration::ZERO;
        }));
        lone.turn(|turn| turn.feed(Event::WallClock { unix_ms: ORIGIN_MS }));
        World {
            lone,
            required,
            connections_max,
            rooms_max,
            clients: [const { None }; CLIENTS],
            issued: BTreeMap::new(),
            orders: Vec::new(),
            asked: VecDeque::new(),
            senders: Vec::new(),
            commands: 0,
        }
    }

    fn now_ms(&self) -> u64 {
        ORIGIN_MS + self.lone.now.as_millis()
    }

    fn step(&mut self, what: u8, of: usize) {
        let (client, number) = (of % CLIENTS, (of / CLIENTS) as u8);
        match what % 16 {
            0 => self.connect(client, None),
            1 => self.connect(client, Some(number)),
            2 => self.authenticate(client, number),
            3 | 4 => self.verdict(client, None),
            5 => {
                let denied = [Denied::Unauthorised, Denied::Expired, Denied::Forbidden, Denied::Unavailable];
                self.verdict(client, Some(denied[of / CLIENTS % denied.len()]));
            }
            6 | 7 => self.command(client, "SUBSCRIBE", of / CLIENTS % ROOMS.len()),
            8 => self.command(client, "UNSUBSCRIBE", of / CLIENTS % ROOMS.len()),
            9 | 10 => self.command(client, "SEND_MESSAGE", of / CLIENTS % ROOMS.len()),
            11 => (0..=of % 8).for_each(|_| self.broker_acts()),
            12 => self.wait(Duration::from_millis(500 * (of as u64 % 24))),
            13 => {
                self.orders.push(Order::new(of, self.now_ms()));
                self.tell_bans();
            }
            14 if of.is_multiple_of(4) => {
                self.orders.clear();
                self.tell_bans();
            }
            14 => self.leave(client),
            _ => self.unasked(client, number),
        }
        self.check();
    }

    fn credential(&mut self, number: u8) -> Credential {
        // One that was issued before may have ended; it is issued anew now and then.
        let now_ms = self.now_ms();
        let issued_ms = *self.issued.entry(number).or_insert(now_ms);
        Credential { number, issued_ms }
    }

    fn connect(&mut self, client: usize, credential: Option<u8>) {
        if self.clients[client].is_some() {
            return;
        }
        let conn = self.lone.connect();
        let opened = self.lone.now;
        let new = Client {
            conn,
            opened,
            is_open: false,
            pending: None,
            judged: opened,
            known: None,
            is_crowded: false,
            rooms: BTreeSet::new(),
            joined: BTreeSet::new(),
            bytes: Vec::new(),
        };
        self.clients[client] = Some(new);
        let field = credential.map(|number| format!("Authorization: Bearer {number}\r\n")).unwrap_or_default();
        let said = self.lone.bytes(conn, upgrade_request("/", &field));
        self.hear(said);
        let client = self.clients[client].as_ref().expect("it has just come");
        assert_eq!(client.pending.is_some(), credential.is_some(), "it is asked who it is");
        assert_eq!(client.is_open, credential.is_none(), "an upgrade waits for its credential");
    }

    fn authenticate(&mut self, client: usize, number: u8) {
        if let Some(Client { conn, is_open: true, .. }) = self.clients[client] {
            let said = self.lone.command(conn, &format!(r#"{{"type":"AUTH","token":"{number}"}}"#));
            self.hear(said);
        }
    }

    /// The verifier has an answer to what it was asked about this client.
    fn verdict(&mut self, client: usize, denied: Option<Denied>) {
        let Some(Client { pending: Some(number), .. }) = self.clients[client] else { return };
        if denied.is_none() && self.credential(number).expires_ms().is_some_and(|at| at <= self.now_ms()) {
            // Whoever shows it again has a new one.
            self.issued.remove(&number);
        }
        let credential = self.credential(number);
        self.outcome(client, credential, denied);
    }

    /// The verifier tells what it was not asked.
    fn unasked(&mut self, client: usize, number: u8) {
        if self.clients[client].as_ref().is_some_and(|client| client.is_open && client.pending.is_none()) {
            let credential = self.credential(number);
            self.outcome(client, credential, None);
        }
    }

    fn outcome(&mut self, index: usize, credential: Credential, denied: Option<Denied>) {
        let now_ms = self.now_ms();
        let has_place = self.connections_max == 0 || self.connections_of(credential.user()) < self.connections_max;
        let client = self.clients[index].as_mut().expect("it is here");
        client.judged = self.lone.now;
        let (conn, was_pending, was_open) = (client.conn, client.pending.take().is_some(), client.is_open);
        let is_another = client.known.is_some_and(|known| known.user() != credential.user());
        let is_over = credential.expires_ms().is_some_and(|at| at <= now_ms);
        let is_banned = self.orders.iter().any(|order| order.code_for(credential, now_ms).is_some());
        let is_good = denied.is_none() && !is_another && !is_over && !is_banned;
        // Whoever is in already has a place.
        client.is_crowded = is_good && client.known.is_none() && !has_place;
        let (is_crowded, is_good) = (client.is_crowded, is_good && !client.is_crowded);
        if is_good {
            client.known = Some(credential);
        }
        let identity: Identity = credential.identity();
        let outcome = denied.map_or(Ok(&identity), Err);
        let said = self.lone.turn(|turn| turn.feed(Event::Authenticated { conn, outcome }));
        let told = self.hear(said);
        let told = &told[index];
        if !was_open {
            assert!(was_pending, "it waited for this");
            let refused = if is_crowded { 429 } else { told.status.unwrap_or(0).max(401) };
            assert_eq!(told.status, Some(if is_good { 101 } else { refused }), "{told:?}");
        } else if is_good || is_crowded && was_pending {
            assert_eq!(told.close, None, "whoever may come in stays");
        } else if is_crowded {
            assert_eq!(told.close, Some(1013), "nobody has asked, so nothing can be answered");
        }
        let is_told = told.texts.iter().any(|text| text["code"] == "too_many_connections");
        assert_eq!(is_told, is_crowded && was_open && was_pending, "{told:?}");
        if told.close.is_some() {
            assert!(!is_good, "{told:?}");
        }
    }

    fn clients_of<'a>(&'a self, user: &'a str) -> impl Iterator<Item = &'a Client> {
        self.clients.iter().flatten().filter(move |client| client.known.is_some_and(|known| known.user() == user))
    }

    fn connections_of(&self, user: &str) -> usize {
        self.clients_of(user).count()
    }

    /// Where the connections of this user are, together, but for its own room.
    fn rooms_of(&self, user: Credential) -> BTreeSet<usize> {
        let joined = self.clients_of(user.user()).flat_map(|client| client.joined.iter().copied());
        joined.filter(|room| !user.owns(*room)).collect()
    }

    fn command(&mut self, index: usize, kind: &str, room: usize) {
        let Some(Client { conn, is_open: true, known, .. }) = self.clients[index] else { return };
        let name = ROOMS[room].0;
        let has_place = known.filter(|known| self.rooms_max > 0 && !known.owns(room)).is_none_or(|known| {
            let rooms = self.rooms_of(known);
            rooms.contains(&room) || rooms.len() < self.rooms_max
        });
        self.commands += 1;
        let id = self.commands;
        let mut text = format!(r#"{{"type":"{kind}","room":"{name}","id":{id}"#);
        let right = match kind {
            "SUBSCRIBE" => Some(Right::Subscribe),
            "SEND_MESSAGE" => {
                text += &format!(r#","message":{},"from":"a""#, self.senders.len());
                self.senders.push(known.map(Credential::user));
                Some(Right::Publish)
            }
            _ => None,
        };
        let said = self.lone.command(conn, &(text + "}"));
        let told = self.hear(said);
        let errors = told[index].texts.iter().filter(|text| text["type"] == "ERROR" && text["id"] == id);
        let codes = errors.filter_map(|text| text["code"].as_str());
        let refused: Vec<&str> =
            codes.filter(|code| matches!(*code, "unauthorised" | "forbidden" | "too_many_rooms")).collect();
        let expected = right.and_then(|right| refusal(known, self.required, right, room));
        let expected = expected.or_else(|| (kind == "SUBSCRIBE" && !has_place).then_some("too_many_rooms"));
        assert_eq!(refused, expected.into_iter().collect::<Vec<_>>(), "{kind} {name} by {known:?}");
        if let Some(client) = &mut self.clients[index] {
            match kind {
                "SUBSCRIBE" if expected.is_none() => drop(client.joined.insert(room)),
                "UNSUBSCRIBE" => drop(client.joined.remove(&room)),
                _ => {}
            }
        }
    }

    /// The broker does what it was asked first.
    fn broker_acts(&mut self) {
        let said = match self.asked.pop_front() {
            Some(Said::Subscribe(room)) => self.lone.broker(BrokerEvent::Subscribed { room: &room }),
            Some(Said::Unsubscribe(room)) => self.lone.broker(BrokerEvent::Unsubscribed { room: &room }),
            Some(Said::Publish(room, payload, id)) => {
                let mut said = id.map_or_else(Vec::new, |id| {
                    self.lone.broker(BrokerEvent::Published { id, position: None, receivers: None })
                });
                said.extend(self.lone.broker(BrokerEvent::Message { room: &room, payload: &payload }));
                said
            }
            _ => return,
        };
        self.hear(said);
    }

    fn wait(&mut self, duration: Duration) {
        let said = self.lone.wait(duration);
        self.hear(said);
    }

    fn tell_bans(&mut self) {
        let bans = bans(&self.orders);
        let said = self.lone.turn(|turn| turn.feed(Event::Bans(&bans)));
        self.hear(said);
        // What has to end does at once.
        let now_ms = self.now_ms();
        for client in self.clients.iter().flatten() {
            let known =
                client.known.filter(|known| self.orders.iter().any(|ban| ban.code_for(*known, now_ms).is_some()));
            assert_eq!(known, None, "a ban is in force at once");
        }
    }

    fn leave(&mut self, client: usize) {
        if let Some(Client { conn, .. }) = self.clients[client].take() {
            let said = self.lone.turn(|turn| turn.feed(Event::Closed { conn }));
            self.hear(said);
        }
    }

    /// What the core has said: what each client is told, and what others are asked.
    fn hear(&mut self, said: Vec<Said>) -> [Told; CLIENTS] {
        for said in said {
            match said {
                Said::Sent(conn, bytes) => {
                    if let Some(client) = self.client(conn) {
                        client.bytes.extend(bytes);
                    }
                }
                Said::Close(conn) => {
                    if let Some(index) = self.index(conn) {
                        let left = self.clients[index].take().expect("found above");
                        assert!(
                            left.bytes.is_empty() || !left.is_open,
                            "the bytes of a close frame come before the end"
                        );
                    }
                }
                Said::Authenticate(conn, _, credential) => {
                    let number = String::from_utf8(credential).ok().and_then(|text| text.parse().ok());
                    let client = self.client(conn).expect("only who is here is asked about");
                    assert_eq!(client.pending, None, "one credential of a connection is looked at at a time");
                    client.pending = Some(number.expect("a number"));
                }
                said @ (Said::Subscribe(_) | Said::Unsubscribe(_) | Said::Publish(..)) => self.asked.push_back(said),
                Said::Shutdown(_) => {}
                said => panic!("{said:?}"),
            }
        }
        std::array::from_fn(|index| self.read(index))
    }

    fn index(&self, conn: ConnId) -> Option<usize> {
        self.clients.iter().position(|client| client.as_ref().is_some_and(|client| client.conn == conn))
    }

    fn client(&mut self, conn: ConnId) -> Option<&mut Client> {
        let index = self.index(conn)?;
        self.clients[index].as_mut()
    }

    /// What this client was told.
    fn read(&mut self, index: usize) -> Told {
        let mut told = Told::default();
        let Some(client) = &mut self.clients[index] else { return told };
        if !client.is_open && !client.bytes.is_empty() {
            let end = client.bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("a whole head") + 4;
            let head: Vec<u8> = client.bytes.drain(..end).collect();
            told.status = std::str::from_utf8(&head[9..12]).ok().and_then(|status| status.parse().ok());
            if told.status != Some(101) {
                self.leave(index);
                return told;
            }
            client.is_open = true;
        }
        let mut at = 0;
        while let Some((frame, taken)) = Frame::parse(&client.bytes[at..]) {
            at += taken;
            match frame.opcode {
                opcode::TEXT => told.texts.push(serde_json::from_slice(&frame.payload).expect("JSON")),
                opcode::CLOSE => told.close = frame.payload.first_chunk().map(|code| u16::from_be_bytes(*code)),
                other => panic!("a frame {other}"),
            }
        }
        client.bytes.clear();
        let texts = told.texts.clone();
        for text in &texts {
            self.hears(index, text);
        }
        if let Some(code) = told.close {
            self.ends(index, code);
        }
        told
    }

    fn hears(&mut self, index: usize, text: &Value) {
        let required = self.required;
        let client = self.clients[index].as_mut().expect("it reads");
        let room = text["room"].as_str().and_then(|name| ROOMS.iter().position(|room| room.0 == name));
        match (text["type"].as_str().expect("a type"), room) {
            ("MESSAGE", Some(room)) => {
                let why_not = refusal(client.known, required, Right::Subscribe, room);
                assert_eq!(why_not, None, "{text} for {:?}", client.known);
                let number = text["message"].as_u64().expect("a number") as usize;
                assert_eq!(text["from"].as_str(), self.senders[number], "{text}");
            }
            ("SUBSCRIBED", Some(room)) => {
                let why_not = refusal(client.known, required, Right::Subscribe, room);
                assert_eq!(why_not, None, "{text} for {:?}", client.known);
                client.rooms.insert(room);
            }
            ("UNSUBSCRIBED", Some(room)) => {
                client.rooms.remove(&room);
                client.joined.remove(&room);
                if text["code"] == "forbidden" {
                    let why_not = refusal(client.known, required, Right::Subscribe, room);
                    assert!(why_not.is_some(), "{text} for {:?}", client.known);
                }
            }
            _ => {}
        }
    }

    /// It is closed: for a reason.
    fn ends(&mut self, index: usize, code: u16) {
        let (now, now_ms) = (self.lone.now, self.now_ms());
        let client = self.clients[index].take().expect("it is closed");
        let banned = |known: Credential| self.orders.iter().filter_map(move |order| order.code_for(known, now_ms));
        match code {
            4501 => assert!(self.required && client.known.is_none() && now.since(client.opened) >= TIMEOUT),
            4503 => {}
            // Whether its last credential is good could not be found out; or it is, and came unasked or too late.
            1013 if client.is_crowded && client.judged == now => {}
            1013 => assert!(self.required && client.known.is_none() && now.since(client.opened) >= TIMEOUT),
            4001 => {
                let Some(known) = client.known else {
                    assert_eq!(client.judged, now, "only a user's credential expires");
                    return self.gone(client.conn);
                };
                let is_over = known.expires_ms().is_some_and(|at| at <= now_ms + SLACK_MS);
                let is_refused = known.is_renewed() || banned(known).count() > 0;
                // What is told unasked may be that it is good no more.
                assert!(is_over || is_refused || client.pending.is_none(), "{client:?}");
            }
            code => panic!("closed with {code}"),
        }
        self.gone(client.conn);
    }

    /// Its socket is closed.
    fn gone(&mut self, conn: ConnId) {
        self.lone.turn(|turn| turn.feed(Event::Closed { conn }));
    }

    /// What holds after every step.
    fn check(&self) {
        let (now, now_ms) = (self.lone.now, self.now_ms());
        for client in self.clients.iter().flatten() {
            for room in &client.rooms {
                let why_not = refusal(client.known, self.required, Right::Subscribe, *room);
                assert_eq!(why_not, None, "{client:?} is in {}", ROOMS[*room].0);
            }
            let waits = client.pending.is_some();
            if let Some((known, expires_ms)) = client.known.and_then(|known| Some((known, known.expires_ms()?))) {
                // One that nobody could say anything about is asked about again.
                let latest = match waits || known.is_renewed() {
                    true => expires_ms + GRACE_MS,
                    false => expires_ms.max(ORIGIN_MS + client.judged.as_millis()) + SLACK_MS,
                };
                assert!(now_ms <= latest, "{client:?} has expired at {expires_ms}, and it is {now_ms}");
            }
            if self.required && client.is_open && client.known.is_none() && !waits {
                let latest = (client.opened + TIMEOUT).max(client.judged) + Duration::from_secs(6);
                assert!(now <= latest, "{client:?} needs a credential");
            }
        }
    }

    /// All is quiet: whoever may come in does, and may do what it may.
    fn end(&mut self) {
        self.orders.clear();
        self.tell_bans();
        self.issued.clear();
        for client in 0..CLIENTS {
            self.verdict(client, None);
            self.leave(client);
        }
        for client in 0..CLIENTS {
            for known in [None, Some(client as u8), Some(client as u8 + 4), Some(client as u8 + 8)] {
                self.connect(client, known);
                self.verdict(client, None);
                let here = self.clients[client].as_ref().expect("nothing speaks against it");
                assert_eq!(here.known.map(|known| known.number), known);
                for room in 0..ROOMS.len() {
                    self.command(client, "SUBSCRIBE", room);
                }
                while !self.asked.is_empty() {
                    self.broker_acts();
                }
                let here = self.clients[client].as_ref().expect("it stays");
                let mut places = if self.rooms_max > 0 && here.known.is_some() { self.rooms_max } else { ROOMS.len() };
                for (room, (name, ..)) in ROOMS.iter().enumerate() {
                    let is_own = here.known.is_some_and(|known| known.owns(room));
                    let may = refusal(here.known, self.required, Right::Subscribe, room).is_none();
                    let is_in = may && (is_own || places > 0);
                    assert_eq!(here.rooms.contains(&room), is_in, "{name} for {:?}", here.known);
                    places -= usize::from(is_in && !is_own);
                }
                self.leave(client);
                self.check();
            }
        }
        while !self.asked.is_empty() {
            self.broker_acts();
        }
        self.wait(Duration::from_secs(30));
        while !self.asked.is_empty() {
            self.broker_acts();
        }
        self.lone.core.check_idle();
    }
}
