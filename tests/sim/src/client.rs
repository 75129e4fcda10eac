//! A client: what it wants, what it says, and what it makes of what it hears. It follows PROTOCOL.md and RFC 6455 except where
//! a fault makes it break a rule. What it hears is judged by its `View`.

mod coming_back;
mod costly;
mod hearing;
mod leaving;
mod showing;
mod there;
mod upgrading;

use crate::cluster::Surroundings;
use crate::guard::Moment;
use crate::incoming::Incoming;
use crate::network::{Side, WireId};
use crate::options::{Options, chance, rng};
use crate::reference::{Key, ROOMS, Reference, Sent};
use crate::trace;
use crate::view::{Ask, Dialect, UNFINISHED, View};
use costly::{Made, Unfinished};
use fanfare_core::history::Position;
use fanfare_core::rules::Right;
use fanfare_wire::{COMPRESSED, Frame, deflated, opcode};
use fastrand::Rng;
use showing::{Persona, forged};
use std::collections::{BTreeMap, BTreeSet};

/// No command is so long of itself.
const INFLATING_BYTES: usize = 1_000;

/// One connection of a client.
#[derive(Debug)]
struct Connection {
    wire: WireId,
    view: View,
    incoming: Incoming,
    /// What the wire has not taken yet.
    unsent: Vec<u8>,
    /// Bytes that it has said, those that the wire has not taken yet among them.
    said: u64,
    is_upgraded: bool,
    /// It has sent a close frame, or a FIN: nothing follows.
    is_over: bool,
    /// It breaks rules, so that it may be closed for it.
    is_rude: bool,
    heard_at: u64,
    /// It asks for a sign of life since then.
    doubts_since: Option<u64>,
    opened_at: u64,
    /// A message that has begun: until it ends, only control frames may be said.
    unfinished: Option<Unfinished>,
    made: Made,
    /// The credential that it takes for the one by which it is known.
    shown: Option<String>,
    /// That is all that it will ever have.
    is_full: bool,
    /// It shows no credential by a command either.
    is_silent: bool,
    /// Rooms that came with its credential, where it does not hear of them.
    brought: BTreeSet<usize>,
    /// Rooms that are to come with its credential.
    awaited: BTreeSet<usize>,
    /// When its instance last said, at the earliest, that it is not in a room.
    left: BTreeMap<usize, Moment>,
    /// What it has asked for.
    asked: Vec<(Right, usize)>,
    /// When it was told to go.
    told: Option<leaving::Told>,
}

/// What a client does of its own accord.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// Whatever comes to mind.
    Active,
    /// It sees to it that it is connected and in its rooms.
    Settled,
    /// It goes away and stays away.
    Leaving,
}

/// A client.
#[derive(Debug)]
pub struct Client {
    number: usize,
    rng: Rng,
    dialect: Dialect,
    offers_compression: bool,
    wants: BTreeSet<usize>,
    connection: Option<Connection>,
    retry_at: u64,
    messages: u64,
    ids: u64,
    /// It does not read before.
    pub stalled_until: u64,
    /// It answers no ping before.
    pub mute_until: u64,
    /// It makes no more work than it must.
    is_healed: bool,
    /// What it has seen of rooms with history on connections that are no more.
    seen: Vec<Option<Position>>,
    options: Options,
    /// Who it is, where clients are asked.
    persona: Option<Persona>,
    shown_last: Option<String>,
    /// Rooms of which it wants to know who is there.
    observed: BTreeSet<usize>,
    /// Messages that came on connections that are no more.
    delivered: u64,
    /// Whether it goes when it is told to.
    leaving: Rng,
}

impl Client {
    /// One that is not connected yet.
    pub fn new(options: &Options, number: usize) -> Client {
        let mut rng = self::rng(options.seed, &format!("client {number}"));
        let traits = &options.clients;
        let drawn = rng.u32(0..1_000);
        let dialect = match drawn {
            _ if drawn < traits.classic => Dialect::Classic,
            _ if drawn < traits.classic + traits.broadcast => Dialect::Broadcast,
            _ => Dialect::Fanfare,
        };
        let mut wants: BTreeSet<usize> = (0..options.rooms).filter(|_| rng.bool()).collect();
        if dialect == Dialect::Broadcast {
            wants = BTreeSet::from([rng.usize(0..options.rooms)]);
        }
        let mut client = Client {
            number,
            dialect,
            offers_compression: chance(&mut rng, traits.compressed),
            wants,
            connection: None,
            retry_at: 0,
            messages: 0,
            ids: 0,
            stalled_until: 0,
            mute_until: 0,
            is_healed: false,
            seen: vec![None; options.rooms],
            options: options.clone(),
            persona: None,
            shown_last: None,
            observed: BTreeSet::new(),
            delivered: 0,
            leaving: self::rng(options.seed, &format!("client {number} leaves")),
            rng,
        };
        client.become_somebody();
        client
    }

    /// Its wire, if it has one.
    pub fn wire(&self) -> Option<WireId> {
        self.connection.as_ref().map(|connection| connection.wire)
    }

    /// Microseconds until it does something again.
    pub fn pause(&mut self, now: u64) -> u64 {
        let pause = self.options.clients.pause.draw(&mut self.rng);
        if self.connection.is_none() { pause.max(self.retry_at.saturating_sub(now)) } else { pause }
    }

    /// Messages that it got.
    pub fn delivered(&self) -> u64 {
        self.delivered + self.connection.as_ref().map_or(0, |connection| connection.view.delivered)
    }

    /// Bytes that its connection has made beyond those that it has said.
    pub fn surplus(&self) -> u64 {
        self.connection.as_ref().map_or(0, |connection| connection.made.surplus)
    }

    /// The view of its connection, if that is a WebSocket that lasts.
    pub fn view(&self) -> Option<&View> {
        self.connection.as_ref().filter(|connection| connection.is_upgraded && !connection.is_over).map(|of| &of.view)
    }

    /// The same, for the last judgements.
    pub fn view_mut(&mut self) -> Option<&mut View> {
        self.connection
            .as_mut()
            .filter(|connection| connection.is_upgraded && !connection.is_over)
            .map(|of| &mut of.view)
    }

    /// Whether it wants to be in the room.
    pub fn wants(&self, room: usize) -> bool {
        self.wants.contains(&room) && !self.is_banned()
    }

    /// An instance takes its connection.
    pub fn accepted(&mut self, incarnation: u32) {
        if let Some(connection) = &mut self.connection {
            connection.view.incarnation = Some(incarnation);
        }
    }

    /// Whether it is where it wants to be, and everything that it asked is answered.
    pub fn is_settled(&self) -> bool {
        if self.is_banned() {
            return self.has_given_up();
        }
        self.view().is_some_and(|view| {
            let awaits_none = self.connection.as_ref().is_some_and(|connection| connection.awaited.is_empty());
            awaits_none
                && !view.waits()
                && (0..self.options.rooms).all(|room| view.is_member(room) == self.wants.contains(&room))
        })
    }

    /// Whether it can send to the room.
    pub fn can_send(&self, room: usize) -> bool {
        let is_able = self.dialect != Dialect::Broadcast || self.wants.contains(&room);
        self.view().is_some() && is_able && self.is_entitled(Right::Publish, room)
    }

    /// Whether the room is to come with its credential, without being asked for.
    fn is_awaited(&self, room: usize) -> bool {
        self.connection.as_ref().is_some_and(|connection| connection.awaited.contains(&room))
    }

    /// What it lacks, for people.
    pub fn complaint(&self) -> String {
        let members =
            self.view().map(|view| (0..self.options.rooms).filter(|room| view.is_member(*room)).collect::<Vec<_>>());
        let asked = self.view().map(View::unanswered);
        let awaited = self.connection.as_ref().map(|connection| &connection.awaited);
        format!(
            "{} ({:?}) wants {:?}, is in {members:?}, not answered: {asked:?}, without asking: {awaited:?}",
            self.number, self.dialect, self.wants
        )
    }

    /// Does something.
    ///
    /// # Errors
    /// None of its own; what it reads is judged.
    pub fn act(&mut self, mood: Mood, around: &mut Surroundings<'_>) -> Result<(), String> {
        self.read(around)?;
        let now = around.timeline.now;
        if self.connection.is_none() {
            if mood != Mood::Leaving && now >= self.retry_at && !self.has_given_up() {
                self.connect(around);
            }
            return Ok(());
        }
        if self.stalled_until <= now && self.doubts(around) {
            return Ok(());
        }
        if !self.finish(mood != Mood::Active, around) {
            return Ok(());
        }
        if self.view().is_none() {
            if mood == Mood::Leaving && connection_is_idle(&self.connection) {
                self.drop_connection(around);
            }
            return Ok(());
        }
        if self.goes_in_time(mood, around) {
            return Ok(());
        }
        match mood {
            Mood::Leaving => {
                if self.rng.u32(0..4) == 0 {
                    self.drop_connection(around);
                } else {
                    self.close(around);
                }
            }
            Mood::Active => {
                for _ in 0..self.rng.u64(1..=self.options.clients.burst) {
                    self.improvise(around);
                }
            }
            Mood::Settled if self.proves_itself(around) => {}
            Mood::Settled if self.dialect == Dialect::Broadcast => {}
            Mood::Settled => {
                let Some(view) = self.view() else { return Ok(()) };
                let missing: Vec<usize> = (0..self.options.rooms)
                    .filter(|room| self.wants.contains(room) && !view.waits_for(*room))
                    .filter(|room| !view.is_member(*room) && !self.is_awaited(*room))
                    .collect();
                for room in missing {
                    self.subscribe(room, around);
                }
            }
        }
        Ok(())
    }

    /// Whatever comes to mind.
    fn improvise(&mut self, around: &mut Surroundings<'_>) {
        if self.view().is_none() || self.connection.as_ref().is_some_and(|of| of.unfinished.is_some()) {
            return;
        }
        if self.shows_itself(around) {
            return;
        }
        let room = self.think_of_a_room();
        if self.dialect == Dialect::Broadcast {
            match self.rng.u32(0..40) {
                0 => self.close(around),
                1 => self.drop_connection(around),
                2..6 => self.frame(Frame::new(opcode::PING, "?"), around),
                _ => {
                    let room = *self.wants.first().expect("a broadcaster has its room");
                    self.send(room, true, around);
                }
            }
            return;
        }
        let can_read = self.dialect == Dialect::Fanfare && self.options.histories.keeps(room);
        if can_read && chance(&mut self.rng, self.options.histories.reads) {
            return self.read_history(room, around);
        }
        if self.wonders(room, around) {
            return;
        }
        match self.rng.u32(0..100) {
            0 => self.close(around),
            1 => self.drop_connection(around),
            2..6 => self.frame(Frame::new(opcode::PING, "?"), around),
            6..9 => self.command("PING", "", Ask::Ping, around),
            9 => self.beat(around),
            10..14 => {
                self.wants.insert(room);
                self.subscribe(room, around);
            }
            14..34 => {
                if self.is_brought(room) {
                    // It stays there.
                } else if self.wants.remove(&room) {
                    self.unsubscribe(room, around);
                } else {
                    self.wants.insert(room);
                    self.subscribe(room, around);
                }
            }
            34..40 => {
                let view = self.view().expect("only who is connected improvises");
                let missing = self.wants.iter().copied().find(|room| !view.is_member(*room) && !view.waits_for(*room));
                if let Some(room) = missing {
                    self.subscribe(room, around);
                }
            }
            _ => {
                let echo = !chance(&mut self.rng, self.options.clients.without_echo);
                self.send(room, echo, around);
            }
        }
    }

    /// Asks to be a member.
    pub fn subscribe(&mut self, room: usize, around: &mut Surroundings<'_>) {
        if self.shies_away(Right::Subscribe, room, around) {
            return;
        }
        let Some(connection) = &mut self.connection else { return };
        connection.asked.push((Right::Subscribe, room));
        let waits = connection.view.waits_for(room);
        let (start, fields) = self.start(room);
        let observes = if self.observed.contains(&room) { ",\"presence\":true" } else { "" };
        let fields = room_field(room) + &fields + observes;
        self.command("SUBSCRIBE", &fields, Ask::Subscribe(room, waits, start), around);
    }

    fn unsubscribe(&mut self, room: usize, around: &mut Surroundings<'_>) {
        let Some(connection) = &self.connection else { return };
        let place = connection.view.incarnation.and_then(|number| around.reference.place(number, &around.network));
        self.command(
            "UNSUBSCRIBE",
            &room_field(room),
            Ask::Unsubscribe(room, place, around.reference.len(room)),
            around,
        );
        let left = self.connection.as_ref().and_then(|connection| connection.view.left(room));
        if let Some(left) = left.filter(|_| self.dialect == Dialect::Classic) {
            // The pong tells that what came before has been done.
            self.frame(Frame::new(opcode::PING, format!("{room} {left}")), around);
        }
    }

    /// Sends a message to a room, if it is connected.
    pub fn send(&mut self, room: usize, echo: bool, around: &mut Surroundings<'_>) -> Option<Key> {
        if self.shies_away(Right::Publish, room, around) {
            return None;
        }
        let connection = self.connection.as_mut()?;
        connection.asked.push((Right::Publish, room));
        let session = connection.view.session;
        self.messages += 1;
        let key = (Some(self.number), self.messages);
        let padding = self.options.clients.padding.draw(&mut self.rng) as usize;
        let text = Reference::text(key, room, padding);
        let json = match self.rng.bool() || self.dialect == Dialect::Broadcast {
            true => format!("\"{text}\""),
            false => format!("{{\"is\" : \"{text}\"}}"),
        };
        let joining_since = self.connection.as_ref()?.view.joining_since(room);
        let mut sent = Sent::new(room, json.clone(), (session, echo), joining_since, around.timeline.now);
        let is_kept = self.options.histories.keeps(room);
        let can_spare = is_kept && self.dialect != Dialect::Broadcast;
        sent.stores =
            is_kept && (self.is_healed || !can_spare || !chance(&mut self.rng, self.options.histories.unstored));
        let store = if is_kept && !sent.stores { ",\"store\":false" } else { "" };
        sent.can_be_refused = self.dialect == Dialect::Fanfare && !self.is_healed;
        around.reference.send(key, sent);
        trace!(around.trace, around.timeline, "client {} sends {text}", self.number);
        if self.dialect == Dialect::Broadcast {
            self.message(text.as_bytes(), true, around);
        } else {
            let echo = if echo { "" } else { ",\"echo\":false" };
            let forged = forged(&self.options, &mut self.rng);
            let fields = format!("{},\"message\":{json}{echo}{store}{forged}", room_field(room));
            self.command("SEND_MESSAGE", &fields, Ask::Send(key), around);
        }
        if let Some(connection) = &mut self.connection {
            connection.made.sends += 1;
            match &mut connection.unfinished {
                Some(unfinished) => unfinished.key = Some(key),
                None => around.reference.sent_to(key, connection.wire, connection.said),
            }
            connection.view.sent(room, key);
        }
        Some(key)
    }

    fn command(&mut self, kind: &str, fields: &str, ask: Ask, around: &mut Surroundings<'_>) {
        if self.connection.is_none() {
            return;
        }
        // Without an id nobody could tell which of several such asks is answered.
        let needs_id = match ask {
            Ask::Subscribe(room, ..) => self.options.histories.keeps(room) || self.persona.is_some(),
            // Nor which of these is refused.
            Ask::Send(_) => self.persona.is_some(),
            Ask::History(..) | Ask::Who(..) | Ask::Auth(_) => true,
            _ => false,
        };
        let id = (needs_id || !chance(&mut self.rng, self.options.clients.without_id)).then(|| {
            self.ids += 1;
            self.ids << 8 | self.number as u64
        });
        let id_field = id.map_or(String::new(), |id| format!(",\"id\":{id}"));
        trace!(around.trace, around.timeline, "client {} says {kind}{fields}{id_field}", self.number);
        let text = format!("{{\"type\":\"{kind}\"{fields}{id_field}{}}}", self.blanks());
        // What is asked of rooms takes effect where it stands.
        let inflates = self.message(text.as_bytes(), matches!(ask, Ask::Send(_) | Ask::Ping), around);
        if let Some(connection) = &mut self.connection {
            let end = if connection.unfinished.is_some() { UNFINISHED } else { connection.said };
            connection.view.ask(id, ask, (end, inflates), around.timeline.now);
        }
    }

    /// Says what clients of other servers say to keep a connection alive.
    fn beat(&mut self, around: &mut Surroundings<'_>) {
        if self.dialect == Dialect::Broadcast {
            return;
        }
        self.message(b"pong", false, around);
        self.message(b"ping", false, around);
        if let Some(connection) = &mut self.connection {
            connection.view.ask(None, Ask::Ping, (connection.said, 0), around.timeline.now);
        }
    }

    /// Says something that is no command, or no frame. Says whether it could.
    pub fn misbehave(&mut self, around: &mut Surroundings<'_>) -> bool {
        let Some(connection) = self.connection.as_mut().filter(|of| of.is_upgraded && !of.is_over) else {
            return false;
        };
        connection.is_rude = true;
        connection.view.nonsense += 1;
        trace!(around.trace, around.timeline, "client {} misbehaves", self.number);
        match self.rng.u32(0..6) {
            0 => self.write(&Frame::text("not masked").unmasked(), around),
            1 => self.frame(Frame::new(opcode::BINARY, [0xff; 9]), around),
            _ if self.dialect == Dialect::Broadcast => self.frame(Frame::new(opcode::BINARY, "binary"), around),
            2 => self.frame(Frame::text(r#"{"type":"SEND_MESSAGE","room":"tea"}"#), around),
            3 => self.frame(Frame::text(r#"{"type":"SUBSCRIBE","room":7}"#), around),
            _ => self.frame(Frame::text("nonsense"), around),
        }
        true
    }

    /// Sends a FIN and goes on reading. Says whether it could.
    pub fn half_close(&mut self, around: &mut Surroundings<'_>) -> bool {
        let able = |of: &&mut Connection| of.unsent.is_empty() && !of.is_over;
        let Some(connection) = self.connection.as_mut().filter(able) else { return false };
        connection.is_over = true;
        around.network.shutdown(connection.wire, Side::Near, &mut around.timeline);
        true
    }

    fn close(&mut self, around: &mut Surroundings<'_>) {
        self.frame(Frame::close(1000, ""), around);
        if let Some(connection) = &mut self.connection {
            connection.is_over = true;
        }
    }

    /// Sends a text message: compressed or not, in one frame or several, of which the last may come later if it `may_wait`. Returns how
    /// many more bytes than were said come out of it.
    fn message(&mut self, text: &[u8], may_wait: bool, around: &mut Surroundings<'_>) -> u64 {
        let is_long = text.len() > INFLATING_BYTES;
        let compressed =
            self.connection.as_ref().is_some_and(|of| of.incoming.is_compressed()) && (is_long || self.rng.bool());
        let (payload, rsv) = if compressed { (deflated(text), COMPRESSED) } else { (text.to_vec(), 0) };
        let inflates = text.len().saturating_sub(payload.len()) as u64;
        if let Some(connection) = &mut self.connection {
            connection.made.surplus += inflates;
        }
        let waits = may_wait && payload.len() >= 2 && self.is_slow();
        if payload.len() < 2 || !waits && !chance(&mut self.rng, self.options.clients.fragmented) {
            self.frame(Frame::new(opcode::TEXT, payload).with_rsv(rsv), around);
            return inflates;
        }
        let (first, last) = payload.split_at(self.rng.usize(1..payload.len()));
        self.frame(Frame::new(opcode::TEXT, first).with_rsv(rsv).unfinished(), around);
        if self.rng.bool() {
            self.frame(Frame::new(opcode::PING, "between"), around);
        }
        let last = Frame::new(opcode::CONTINUATION, last);
        if waits {
            self.begin(last, around);
        } else {
            self.frame(last, around);
        }
        inflates
    }

    fn frame(&mut self, frame: Frame, around: &mut Surroundings<'_>) {
        // A client draws the key of each of its frames.
        let key = self.rng.u32(..).to_be_bytes();
        let bytes = frame.masked_with(key);
        self.write(&bytes, around);
    }

    fn write(&mut self, bytes: &[u8], around: &mut Surroundings<'_>) {
        if let Some(connection) = self.connection.as_mut().filter(|of| !of.is_over) {
            connection.unsent.extend_from_slice(bytes);
            connection.said += bytes.len() as u64;
        }
        self.flush(around);
    }

    /// Writes what the wire takes.
    pub fn flush(&mut self, around: &mut Surroundings<'_>) {
        let Some(connection) = &mut self.connection else { return };
        if connection.unsent.is_empty() {
            return;
        }
        match around.network.write(connection.wire, Side::Near, &connection.unsent, &mut around.timeline) {
            Ok(taken) => drop(connection.unsent.drain(..taken)),
            // Reading will tell.
            Err(_) => connection.unsent.clear(),
        }
    }

    /// Looks whether the server is there; gives up where it is not. Says whether it did.
    fn doubts(&mut self, around: &mut Surroundings<'_>) -> bool {
        let (now, patience) = (around.timeline.now, self.options.clients.patience);
        let Some(connection) = &mut self.connection else { return false };
        let doubts_since = *connection.doubts_since.get_or_insert(now.max(connection.heard_at));
        if now < connection.heard_at + patience {
            connection.doubts_since = None;
        } else if now >= doubts_since + patience {
            trace!(around.trace, around.timeline, "client {} gives its connection up", self.number);
            self.drop_connection(around);
            return true;
        } else if doubts_since == now && connection.is_upgraded {
            self.frame(Frame::new(opcode::PING, "?"), around);
        }
        false
    }

    /// Ends its connection, and plans the next one.
    pub fn drop_connection(&mut self, around: &mut Surroundings<'_>) {
        if let Some(connection) = self.connection.take() {
            trace!(around.trace, around.timeline, "client {} drops wire {}", self.number, connection.wire);
            around.network.close(connection.wire, Side::Near, &mut around.timeline);
            self.delivered += connection.view.delivered;
            self.seen = connection.view.places();
            self.retry_at = around.timeline.now + self.options.clients.retry.draw(&mut self.rng);
        }
    }

    /// Nothing holds it up any more.
    pub fn heal(&mut self, around: &mut Surroundings<'_>) {
        (self.stalled_until, self.mute_until, self.is_healed) = (0, 0, true);
        self.be_content();
        if self.view().is_some() {
            // For the pings that it did not answer.
            self.frame(Frame::new(opcode::PONG, ""), around);
        }
        self.finish(true, around);
        self.options.clients.retry.max = self.options.clients.retry.max.min(500_000);
    }
}

fn connection_is_idle(connection: &Option<Connection>) -> bool {
    connection.as_ref().is_some_and(|connection| !connection.is_upgraded)
}

fn room_field(room: usize) -> String {
    format!(",\"room\":{}", serde_json::Value::from(ROOMS[room]))
}
