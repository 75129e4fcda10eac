//! `Core`: which machine hears which event, and in which order. What events mean is said in the machines: `transport`
//! (connections), `session` (what clients say), `hub` (rooms and their broker), `fanout` (bytes on their way).

use crate::broker::BrokerEvent;
use crate::close::CloseReason;
use crate::config::Config;
use crate::context::{Context, WallClock};
use crate::dialect::Dialect;
use crate::drain::Departures;
use crate::error::Refused;
use crate::fanout::place::{GROUP_MEMBERS_MAX, MEMBERSHIPS_MAX};
use crate::fanout::{FanOut, Rest};
use crate::framing::Framing;
use crate::hub::{self, Hub, Told};
use crate::id::ConnId;
use crate::identity::{Denied, Identity};
use crate::journal::{Entry, Journal};
use crate::limits::Limits;
use crate::limits::meter::Limit;
use crate::metrics::Metrics;
use crate::notices::{Notice, Notices};
use crate::proposal::{Decision, ProposalId};
use crate::protocol::command::Start;
use crate::protocol::reply;
use crate::session::{self, Left, Session};
use crate::slots::{Ending, Phase, Slots, mark};
use crate::sse;
use crate::time::Time;
use crate::transport::{Answered, Caller, End, Head, Opened, Readiness, Transport};
use crate::ws::Message;
use crate::ws::decoder::Decoded;
use core::net::IpAddr;
use std::borrow::Cow;

mod invariants;
#[cfg(test)]
mod tests;
mod turn;

pub use turn::{Actions, Turn};

/// Unfinished messages whose time is over that are acted upon in a turn; the next turns do the rest at once.
const ENDS_PER_TURN: usize = 256;
/// Clients that are told in a turn when they have to go; the next turns tell the others at once. Each is a write to a socket.
const TOLD_PER_TURN: usize = 256;

/// The state machine of one instance. See the [crate's guide](crate).
#[derive(Debug)]
pub struct Core {
    cx: Context,
    transport: Transport,
    session: Session,
    hub: Hub,
    departures: Departures,
    /// Why the others that make up the server with this core are not ready.
    unready_elsewhere: Option<Box<str>>,
    /// Changes of the bans are not seen, as [`Event::BansUnseen`](crate::Event::BansUnseen) has told.
    bans_unseen: bool,
    /// The slot of the program that it is a part of, once that has had a command.
    backend: Option<u32>,
}

/// What is asked of it from outside.
impl Core {
    /// A core without connections, whose broker is down until [`BrokerEvent::Up`](crate::broker::BrokerEvent::Up).
    ///
    /// # Panics
    /// If `rooms_per_connection_max` is above 32,767, the level of compression is not from 1 to 9, or `group_members_max` is not
    /// from 1 to 256.
    pub fn new(config: Config) -> Core {
        assert!(
            usize::from(config.limits.rooms_per_connection_max) <= MEMBERSHIPS_MAX,
            "rooms_per_connection_max is at most 32,767"
        );
        let level = config.compression.map(|compression| compression.level);
        assert!(level.is_none_or(|level| (1..=9).contains(&level)), "compression has the levels 1 to 9");
        assert!(
            (1..=GROUP_MEMBERS_MAX as u16).contains(&config.limits.group_members_max),
            "a group has 1 to 256 members"
        );
        Core {
            transport: Transport::new(&config),
            session: Session::new(&config),
            hub: Hub::new(&config),
            departures: Departures::new(config.seed),
            unready_elsewhere: None,
            bans_unseen: false,
            backend: None,
            cx: Context {
                now: Time::ZERO,
                wall_clock: WallClock::default(),
                slots: Slots::new(),
                fanout: FanOut::new(&config),
                limits: Limits::new(&config),
                metrics: Metrics::default(),
                journal: Journal::new(config.journal, config.seed),
                notices: Notices::new(&config),
                replies: Vec::new(),
                config,
            },
        }
    }

    /// When to feed [`Event::Timeout`](crate::Event::Timeout) at the latest, if nothing happens before. A time in the past means at once.
    pub fn next_timeout(&self) -> Option<Time> {
        if self.cx.fanout.is_waiting() {
            return Some(Time::ZERO);
        }
        let usual = earlier(self.transport.next_timeout(&self.cx), self.hub.next_timeout(&self.cx.slots));
        let usual = earlier(usual, self.session.next_timeout());
        match self.departures.is_idle() {
            true => usual,
            false => earlier(usual, self.departures.next_timeout()),
        }
    }

    /// Whether bytes of this connection are kept that have not been looked at yet, because those before them made much work. They are
    /// looked at in the next turns. Until then leave unread what else its socket has: it would only wait here instead of there.
    pub fn keeps_unread(&self, conn: ConnId) -> bool {
        self.transport.keeps_unread()
            && self.cx.slots.slot(conn).is_some_and(|slot| self.transport.keeps_unread_of(slot))
    }

    /// Whether [`Core::keeps_unread`] holds for any connection: then a turn without an event has something to do as well.
    pub fn has_unread(&self) -> bool {
        self.transport.keeps_unread()
    }

    /// Whether the messages of all clients together have made more work lately than [`Limits::surplus`](crate::Limits::surplus)
    /// allows. Until that has passed, what is kept unread waits, and clients that make much work are best left unread.
    pub fn is_strained(&self) -> bool {
        self.cx.limits.strain().is_over(self.cx.now)
    }

    /// Whether so much waits to be written to members of rooms that the broker's messages are best left with it for the moment. The
    /// next turns write; a driver that goes on reading nevertheless gets longer turns.
    pub fn is_congested(&self) -> bool {
        self.cx.fanout.is_congested()
    }

    /// Whether newcomers are taken. They are not any more after [`Event::Shutdown`](crate::Event::Shutdown), nor when
    /// [`Drain::delay`](crate::Drain::delay) has passed after [`Event::Drain`](crate::Event::Drain): close the listener then. There is
    /// nothing left to be done when [`Core::connections`] is 0.
    pub fn takes_newcomers(&self) -> bool {
        !self.transport.is_draining()
    }

    /// Connections of every kind: WebSockets, request heads coming in, and those that are ending.
    pub fn connections(&self) -> usize {
        self.cx.slots.live()
    }

    /// Whether new work should be sent here: what `GET /readyz` answers, unless others are not ready, of which
    /// [`Event::ReadyElsewhere`](crate::Event::ReadyElsewhere) tells.
    ///
    /// # Errors
    /// Why not, for those who run the server. Clients are told less: the broker's own words may name machines and users.
    pub fn readiness(&self) -> Result<(), &str> {
        if self.departures.is_stopping() {
            return Err(if self.departures.is_at_once() { "shutting down" } else { "draining" });
        }
        if self.session.awaits_bans() {
            return Err("it is not known yet who is banned");
        }
        if self.bans_unseen {
            return Err("changes of the bans are not seen");
        }
        self.hub.readiness()
    }

    /// Counters and gauges as of now.
    pub fn metrics(&self) -> Metrics {
        let mut metrics = self.cx.metrics;
        self.transport.describe(&mut metrics);
        self.session.describe(&mut metrics);
        self.cx.fanout.describe(&mut metrics);
        self.hub.describe(&self.cx, &mut metrics);
        self.cx.limits.describe(&mut metrics);
        metrics.draining_now = u64::from(self.departures.is_stopping());
        metrics
    }

    /// Takes what became of connections since it was last asked, in order; nothing, unless
    /// [`Config::journal`](crate::Config::journal) says that it is to be kept. To be asked after every turn: beyond 65,536 entries
    /// nothing is kept.
    pub fn journal(&mut self) -> impl Iterator<Item = Entry> + '_ {
        self.cx.journal.take()
    }

    /// Takes what others are to be told of since it was last asked, in order: who has connected and disconnected, if
    /// [`Config::notices`](crate::Config::notices) says so, and which rooms have members, where rules have
    /// [`Rule::occupancy`](crate::rules::Rule::occupancy). To be asked after every turn: beyond 65,536 notices nothing is kept.
    pub fn notices(&mut self) -> impl Iterator<Item = Notice> + '_ {
        self.cx.notices.take()
    }

    /// Takes what the commands of [`Event::Command`](crate::Event::Command) have been answered since it was last asked: JSON texts as
    /// clients get them, each with the `id` of its command. To be asked after every turn, where there are such commands.
    pub fn replies(&mut self) -> impl Iterator<Item = Vec<u8>> + '_ {
        self.cx.replies.drain(..)
    }

    /// How many upgrades, other requests and subscriptions have been refused, for whatever reason: whether it has grown tells whether
    /// [`Core::metrics`] has anything new of that.
    pub fn refusals(&self) -> u64 {
        let metrics = &self.cx.metrics;
        metrics.upgrades_refused_full
            + metrics.upgrades_refused_draining
            + metrics.upgrades_refused_origin
            + metrics.upgrades_refused_address
            + metrics.upgrades_refused_user
            + metrics.upgrades_refused_auth
            + metrics.upgrades_evicted
            + metrics.upgrades_timed_out
            + metrics.upgrades_invalid
            + metrics.subscriptions_refused
    }

    /// How many messages of other programs have come for rooms whose messages are stored, as these are not, and the room of the last one;
    /// cut at 200 characters, which may be any.
    pub fn foreign_in_histories(&self) -> (u64, &str) {
        (self.cx.metrics.history_foreign, self.cx.journal.last_not_stored_room())
    }

    /// The `Origin` of the page that was refused last because of it; cut at 200 characters, which may be any.
    pub fn refused_origin(&self) -> Option<&str> {
        self.cx.journal.last_refused_origin()
    }

    /// The room whose subscription the broker refused last, and what the broker said; each cut at 200 characters.
    pub fn refused_room(&self) -> Option<(&str, &str)> {
        self.cx.journal.last_refused_room()
    }
}

/// The earlier of two times that there may be.
fn earlier(one: Option<Time>, other: Option<Time>) -> Option<Time> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// Connections.
impl Core {
    fn open_websocket(
        &mut self,
        dialect: Dialect,
        rooms: &[&str],
        peer: Option<IpAddr>,
        identity: Option<&Identity>,
    ) -> Result<ConnId, Refused> {
        if let Some(identity) = identity
            && !self.session.has_place_of(&mut self.cx, identity)
        {
            self.cx.metrics.upgrades_refused_user += 1;
            return Err(Refused::User);
        }
        let conn = self.transport.open_websocket(&mut self.cx, dialect, rooms, peer)?;
        let slot = conn.slot() as u32;
        let judged = identity.map(|identity| self.session.judge(&mut self.cx, slot, Ok(identity))).transpose();
        let identity = match judged {
            Ok(identity) => identity,
            Err(denied) => {
                self.end(slot, CloseReason::denied(denied));
                return Ok(conn);
            }
        };
        let rooms = if rooms.is_empty() { dialect.own_rooms() } else { rooms };
        let rooms = rooms.iter().map(|room| (*room, Start::Live));
        if let Err(reason) = self.begin(slot, identity, rooms, false, |_| Start::Live) {
            self.end(slot, reason);
        }
        Ok(conn)
    }

    /// A connection has opened: who it is, the rooms that it wants, and whether it wants to know who is there; and where it begins in the
    /// messages of its user's own rooms.
    fn begin<'r>(
        &mut self,
        slot: u32,
        identity: Option<&Identity>,
        rooms: impl Iterator<Item = (&'r str, Start)>,
        presence: bool,
        start_of_own: impl Fn(&str) -> Start,
    ) -> Result<(), CloseReason<'static>> {
        match identity {
            None => self.session.begin(&self.cx, slot)?,
            Some(identity) => {
                self.session.identify(&mut self.hub, &mut self.cx, slot, identity)?;
                self.session.join_own(&mut self.hub, &mut self.cx, slot, identity, start_of_own)?;
            }
        }
        for (room, start) in rooms {
            self.session.subscribe(&mut self.hub, &mut self.cx, slot, room, (start, presence), None)?;
        }
        Ok(())
    }

    fn bytes(&mut self, slot: u32, data: &mut [u8]) {
        let conn = self.cx.slots.get(slot);
        // No bytes are no sign of life, and not the start of a head.
        if data.is_empty() || conn.by_message {
            return;
        }
        let (phase, is_events) = (conn.phase, conn.framing.is_events());
        self.transport.hear(&mut self.cx, slot, data.len());
        match phase {
            Phase::Head => self.head(slot, data),
            Phase::Open if is_events => self.said_to_a_stream(slot, data.len()),
            Phase::Open | Phase::Closing => self.frames(slot, data),
            Phase::Backend | Phase::Refused | Phase::Discarding | Phase::Ended | Phase::Free => {}
        }
    }

    fn head(&mut self, slot: u32, data: &mut [u8]) {
        if let Some(whole) = self.transport.head(&mut self.cx, slot, data) {
            self.answer(slot, whole, Caller::Unknown, None);
        }
    }

    /// Answers a whole request head, whose caller may be known already, or be refused.
    fn answer(&mut self, slot: u32, mut whole: Head<'_>, caller: Caller, identity: Option<&Identity>) {
        let readiness = self.told_readiness();
        let (head, rest) = whole.split();
        let Opened { rooms, presence, last_event_id } =
            match self.transport.answer(&mut self.cx, slot, head, readiness, (caller, identity)) {
                Answered::Over => return,
                Answered::Asks(found) => {
                    self.session.ask_for_upgrade(&self.cx, slot, found, head);
                    return self.transport.hold(slot, whole);
                }
                Answered::Opened(opened) => opened,
            };
        self.cx.limits.forget_owed();
        let framing = self.cx.slots.get(slot).framing;
        let begun = match caller {
            Caller::Denied(denied) => Err(CloseReason::denied(denied)),
            Caller::Known | Caller::Unknown | Caller::Nobody => {
                let identity = identity.filter(|_| caller == Caller::Known);
                let rooms = rooms.iter().map(|(room, start)| (&**room, *start));
                self.begin(slot, identity, rooms, presence, |room| {
                    let seen =
                        last_event_id.and_then(|id| sse::position_in(id, room, framing == Framing::EventsOfSeveral));
                    seen.map_or(Start::Live, Start::Since)
                })
            }
        };
        if let Err(reason) = begun {
            return self.end(slot, reason);
        }
        let is_events = framing.is_events();
        if is_events && !self.is_about_what_it_asks(slot, &rooms) {
            return self.refuse_stream(slot);
        }
        match self.transport.charge_owed(&mut self.cx, slot) {
            Ok(()) if is_events => {}
            Ok(()) => self.frames(slot, rest),
            Err(limit) => self.end(slot, CloseReason::TooFast(limit)),
        }
    }

    /// A client of an event stream has nothing to say. That it says something nevertheless is work all the same.
    fn said_to_a_stream(&mut self, slot: u32, bytes: usize) {
        if let Err(limit) = self.transport.charge_bytes(&mut self.cx, slot, bytes) {
            self.end(slot, CloseReason::TooFast(limit));
        }
    }

    /// Whether an event stream is about any of the rooms that it asks for; where it names none, those of its user.
    fn is_about_what_it_asks(&self, slot: u32, rooms: &[(Cow<'_, str>, Start)]) -> bool {
        let is_in = |room: &str| self.hub.is_in(&self.cx, slot, room);
        if rooms.is_empty() {
            self.cx.slots.get(slot).rooms.len() > 0
        } else {
            rooms.iter().any(|(room, _)| is_in(room))
        }
    }

    /// An event stream that is about nothing is none: a browser would come back to it for ever.
    #[cold]
    fn refuse_stream(&mut self, slot: u32) {
        self.session.depart(&mut self.hub, &mut self.cx, slot, Rest::Nothing);
        self.transport.refuse_stream(&mut self.cx, slot);
    }

    /// It has been found out about a credential.
    fn authenticated(&mut self, slot: u32, outcome: Result<&Identity, Denied>) {
        match self.cx.slots.get(slot).phase {
            Phase::Head => {
                let Some((shown, judged)) = self.session.take_upgrade(&mut self.cx, slot, outcome) else { return };
                let is_crowded =
                    judged.is_ok() && outcome.is_ok_and(|identity| !self.session.has_place_of(&mut self.cx, identity));
                if is_crowded {
                    return self.transport.refuse_crowded(&mut self.cx, slot);
                }
                let Some(whole) = self.transport.take_held(slot) else { return };
                let caller = match judged {
                    Ok(()) => Caller::Known,
                    // Whoever looked at the request found nobody in it.
                    Err(Denied::Unauthorised) if !shown => Caller::Nobody,
                    Err(denied) => Caller::Denied(denied),
                };
                self.answer(slot, whole, caller, outcome.ok());
            }
            Phase::Open => {
                if let Err(reason) = self.session.authenticated(&mut self.hub, &mut self.cx, slot, outcome) {
                    self.end(slot, reason);
                }
                self.end_overdue();
            }
            _ => {}
        }
    }

    fn told_readiness(&self) -> Readiness {
        match self.readiness() {
            Err(_) if self.departures.is_at_once() => Readiness::Stopping,
            Err(_) if self.departures.is_stopping() => Readiness::Draining,
            Err(_) => Readiness::BrokerAway,
            Ok(()) if self.unready_elsewhere.is_some() => Readiness::OthersAway,
            Ok(()) => Readiness::Ready,
        }
    }

    fn frames(&mut self, slot: u32, data: &mut [u8]) {
        match self.transport.admit(&mut self.cx, slot, data) {
            Ok(true) => self.read_frames(slot, data),
            Ok(false) => {}
            Err(limit) => self.end(slot, CloseReason::TooFast(limit)),
        }
    }

    /// Looks at frames, until all are read or they have made so much work that it is somebody else's turn.
    fn read_frames(&mut self, slot: u32, data: &mut [u8]) {
        let mut reading = self.transport.read(&mut self.cx, slot);
        while let Some(heard) = reading.next(&mut self.cx, data) {
            match heard {
                Ok(Some(Decoded::Message(message))) => self.message(slot, message),
                Ok(Some(Decoded::Fragment)) => self.fragment(slot),
                Ok(None) => {}
                Err(violation) => self.end(slot, CloseReason::Violation(violation)),
            }
        }
        if let Err(limit) = self.transport.stop_reading(&mut self.cx, reading, data) {
            self.end(slot, CloseReason::TooFast(limit));
        }
        while let Some(excess) = self.transport.next_excess(&self.cx) {
            self.end(excess, CloseReason::Unfinished("too many messages are unfinished"));
        }
    }

    /// A message of a connection whose frames someone else reads.
    fn whole_message(&mut self, slot: u32, message: Message<'_>) {
        let conn = self.cx.slots.get(slot);
        if !conn.by_message {
            return;
        }
        let (phase, bytes) = (conn.phase, message.payload_bytes());
        self.transport.hear(&mut self.cx, slot, bytes);
        match phase {
            Phase::Open | Phase::Closing => {
                if let Err(reason) = self.admitted_message(slot, message, bytes) {
                    self.end(slot, reason);
                }
            }
            // No end of file follows it.
            Phase::Discarding if matches!(message, Message::Close(_)) => {
                self.transport.end_when_written(&mut self.cx, slot, Ending::Close);
            }
            Phase::Head | Phase::Backend | Phase::Refused | Phase::Discarding | Phase::Ended | Phase::Free => {}
        }
    }

    fn admitted_message(&mut self, slot: u32, message: Message<'_>, bytes: usize) -> Result<(), CloseReason<'static>> {
        self.transport.charge_bytes(&mut self.cx, slot, bytes).map_err(CloseReason::TooFast)?;
        message.check(self.cx.config.limits.message_bytes_max).map_err(CloseReason::Violation)?;
        self.cx.limits.forget_owed();
        self.message(slot, message);
        self.transport.charge_owed(&mut self.cx, slot).map_err(CloseReason::TooFast)
    }

    fn closed(&mut self, slot: u32) {
        match self.cx.slots.get(slot).phase {
            Phase::Backend | Phase::Ended | Phase::Free => {}
            // A client may half-close after its request and still read the answer.
            Phase::Refused | Phase::Discarding => self.transport.end_when_written(&mut self.cx, slot, Ending::Close),
            Phase::Head | Phase::Open | Phase::Closing => {
                // What it said before it went counts.
                while let Some(mut kept) = self.transport.take_unread(&mut self.cx, slot) {
                    self.read_frames(slot, &mut kept);
                }
                if matches!(self.cx.slots.get(slot).phase, Phase::Refused | Phase::Discarding) {
                    return self.transport.end_when_written(&mut self.cx, slot, Ending::Close);
                }
                self.session.depart(&mut self.hub, &mut self.cx, slot, Rest::Nothing);
                self.transport.hang_up(&mut self.cx, slot);
            }
        }
    }

    /// The one way in which a WebSocket ends, for every reason. One that is ending already is not listened to any more.
    fn end(&mut self, slot: u32, reason: CloseReason<'_>) {
        if self.cx.slots.get(slot).phase != Phase::Open {
            return self.transport.discard(&mut self.cx, slot);
        }
        reason.count(&mut self.cx.metrics);
        self.cx.journal.ends(slot, reason.code(), reason.text());
        self.cx.notices.ends(slot, reason.code());
        self.session.depart(&mut self.hub, &mut self.cx, slot, reason.rest());
        self.transport.close(&mut self.cx, slot, reason);
    }
}

/// What clients say, and the program that the core is a part of.
impl Core {
    /// The slot of the program.
    fn backend(&mut self) -> u32 {
        *self.backend.get_or_insert_with(|| self.cx.slots.insert_backend(self.cx.now))
    }

    fn command(&mut self, text: &str, user: Option<&str>) {
        let slot = self.backend();
        let Core { session, hub, cx, transport, .. } = self;
        match session.command(hub, cx, slot, (text, user), |cx, slot| transport.address(cx, slot)) {
            Left::Nothing => {}
            Left::End { slots, code, reason } => {
                for slot in slots {
                    self.end(slot, CloseReason::Program(code, &reason));
                }
            }
            Left::Shed(share) => self.shed(share),
        }
    }

    /// Somebody has decided about a message; others of its sender may have waited for that.
    fn decided(&mut self, proposal: ProposalId, decision: Decision<'_>) {
        let absent = self.backend();
        self.session.decide(&self.cx, proposal, decision);
        while let Some(settled) = self.session.settle(&mut self.hub, &mut self.cx, proposal.conn, absent) {
            if let (Err(reason), Some(slot)) = (settled, self.cx.slots.slot(proposal.conn)) {
                self.end(slot, reason);
            }
        }
    }

    fn fragment(&mut self, slot: u32) {
        // Nothing can be refused of a message that is not whole.
        let Context { slots, limits, now, .. } = &mut self.cx;
        if slots.get(slot).phase == Phase::Open && limits.charge_message(slots, slot, *now).is_err() {
            self.end(slot, CloseReason::TooFast(Limit::Messages));
        }
    }

    fn message(&mut self, slot: u32, message: Message<'_>) {
        if self.cx.slots.get(slot).phase == Phase::Closing {
            if let Message::Close(_) = message {
                self.transport.closed_by_both(&mut self.cx, slot);
            }
            return;
        }
        if matches!(message, Message::Text(_) | Message::Binary(_)) {
            self.cx.journal.heard(slot);
            if self.is_deaf(slot) {
                // It is told to come back in a moment.
                return;
            }
        }
        if let Err(reason) = self.session.hear(&mut self.hub, &mut self.cx, slot, message) {
            self.end(slot, reason);
        }
    }
}

/// The broker, time, and the end of a turn.
impl Core {
    fn broker_event(&mut self, event: BrokerEvent<'_>) {
        match event {
            BrokerEvent::Fenced { id } => return self.departures.fenced(Some(id)),
            BrokerEvent::Down { .. } => self.departures.fenced(None),
            _ => {}
        }
        let refused = self.hub.broker_event(&mut self.cx, event);
        self.end_who_missed();
        self.end_the_excess();
        let Some(mut refused) = refused else { return };
        while let Some(told) = self.hub.next_refused(&mut self.cx, &mut refused) {
            if let Told::NoWordFor(slot) = told {
                self.end(slot, CloseReason::TryAgainLater(hub::REFUSED));
            }
        }
    }

    /// Ends connections that have missed a part of a room's history, and whose dialect cannot tell them, so that they come back.
    fn end_who_missed(&mut self) {
        if !self.hub.has_missed() {
            return;
        }
        for slot in self.hub.take_missed() {
            self.end(slot, CloseReason::Missed);
        }
    }

    /// Ends connections by which their users have more on all instances than allowed.
    fn end_the_excess(&mut self) {
        if !self.hub.has_excess() {
            return;
        }
        for slot in self.hub.take_excess() {
            self.cx.metrics.quota_connections_refused += 1;
            self.end(slot, CloseReason::TryAgainLater(session::CROWDED));
        }
    }

    /// Ends connections whose credentials count no more.
    fn end_overdue(&mut self) {
        while let Some((slot, reason)) = self.session.next_overdue(&mut self.cx) {
            self.end(slot, reason);
        }
    }

    fn timeout(&mut self, has_unread: &mut dyn FnMut(ConnId) -> bool) {
        if let Some((slot, mut kept)) = self.transport.next_unread(&mut self.cx) {
            self.read_frames(slot, &mut kept);
        }
        self.transport.fire(self.cx.now);
        while let Some(slot) = self.transport.next_silent(&mut self.cx, has_unread) {
            self.end(slot, CloseReason::Silent);
        }
        for _ in 0..ENDS_PER_TURN {
            let Some(slot) = self.transport.next_unfinished(&self.cx, has_unread) else { break };
            self.end(slot, CloseReason::Unfinished("a message did not end in time"));
        }
        self.session.fire(&self.cx);
        self.end_overdue();
        while let Some((slot, reason)) = self.session.next_expired(&mut self.cx, has_unread) {
            self.end(slot, reason);
        }
        self.hub.timeout(&mut self.cx);
        self.end_who_missed();
        self.cx.limits.sweep(&mut self.cx.slots, self.cx.now);
    }

    /// Refuses requests that have not been answered yet. WebSockets are told at the end of this turn, or when no answer is owed to
    /// them any more. What they say from here on is not acted upon.
    fn shutdown(&mut self) {
        let until = self.cx.now + self.cx.config.timeouts.drain;
        if self.departures.stop(&mut self.cx.slots, until) {
            self.cx.metrics.departing_now = self.cx.metrics.connections_now;
            if self.takes_newcomers() {
                self.transport.drain(&mut self.cx);
            }
        }
    }

    /// A share of the connections has to go.
    fn shed(&mut self, share: f64) {
        // What is no number is none; and a share that is small is one connection.
        let count = (self.cx.metrics.connections_now as f64 * share.clamp(0.0, 1.0)).ceil() as usize;
        self.give_slots(count);
    }

    fn give_slots(&mut self, count: usize) {
        let Core { departures, cx: Context { slots, config, metrics, now, .. }, .. } = self;
        metrics.departing_now += departures.give_slots(slots, count, &config.drain, *now) as u64;
    }

    /// Whether what the client says has no effect any more. One that cannot be told what has become of it is heard to its end, unless
    /// everything ends.
    fn is_deaf(&self, slot: u32) -> bool {
        self.cx.slots.is_marked(slot, mark::DUE)
            && (self.cx.slots.get(slot).dialect.has_replies() || self.departures.is_at_once())
    }

    /// Tells those who have to go, and closes those whose time has come.
    fn let_go(&mut self) {
        if self.departures.takes_nobody(self.cx.now) {
            self.transport.drain(&mut self.cx);
            self.give_slots(usize::MAX);
        }
        for _ in 0..TOLD_PER_TURN {
            let Some((slot, after)) = self.departures.next_untold(&self.cx.slots, self.cx.now) else { break };
            self.cx.metrics.drains_told += 1;
            self.cx.reply(slot, |out| reply::drain(out, after));
        }
        let Core { departures, session, hub, cx, .. } = self;
        if let Some(fence) = departures.pass(&mut cx.slots, cx.now, cx.config.timeouts.drain, !hub.is_cut_off()) {
            hub.ask_fence(fence);
        }
        let reason = if departures.is_stopping() { CloseReason::Restart } else { CloseReason::Shed };
        for slot in departures.take_settled(&cx.slots, cx.now, || {
            let mut owed = hub.owed(&cx.slots);
            owed.extend(session.proposers(&cx.slots));
            owed
        }) {
            self.cx.metrics.drain_closes += 1;
            self.end(slot, reason);
        }
    }

    /// All has been fed: what is left to be decided before anything is said.
    fn finish(&mut self) {
        self.transport.make_room(&mut self.cx);
        if !self.departures.is_idle() {
            self.let_go();
        }
        let Context { fanout, slots, config, .. } = &mut self.cx;
        fanout.choose(slots, config.limits.members_per_turn_max);
        fanout.tell_ids(slots, |room| self.hub.name_of(room));
    }

    /// What has to wait until everything has been handed out: see [`Actions`].
    fn end_turn(&mut self) {
        self.cx.fanout.end_turn(&mut self.cx.slots, self.transport.end_writing());
        for slot in self.cx.fanout.take_gone() {
            if self.cx.slots.get(slot).phase != Phase::Free {
                self.session.depart(&mut self.hub, &mut self.cx, slot, Rest::Nothing);
                self.cx.fanout.drop_queue(&mut self.cx.slots, slot);
                self.transport.free(&mut self.cx, slot);
            }
        }
        if self.cx.fanout.has_behind() {
            self.leave_behind();
        }
        while let Some(slot) = self.cx.fanout.next_slow(&mut self.cx.slots) {
            match self.cx.slots.get(slot).phase {
                Phase::Open => self.end(slot, CloseReason::TooSlow),
                // It is closing already, or never was a WebSocket.
                _ => self.transport.end_now(&mut self.cx, slot),
            }
        }
        self.transport.end_the_written(&mut self.cx);
    }

    /// Members that did not keep up are given later what they did not take.
    #[cold]
    fn leave_behind(&mut self) {
        for (conn, room, from) in self.cx.fanout.take_behind() {
            if let Some(slot) = self.cx.slots.slot(conn).filter(|slot| self.cx.slots.get(*slot).phase == Phase::Open) {
                self.hub.fall_behind(&mut self.cx, slot, room, from);
            }
        }
    }

    /// The adapter has carried out the first `done` ends of sockets.
    fn forget_ended(&mut self, done: usize) {
        for end in &self.transport.ends()[..done] {
            if let End::Close(conn) = end
                && let Some(slot) = self.cx.slots.slot(*conn)
            {
                self.session.forget(&mut self.cx, slot);
            }
        }
        self.transport.forget_ended(&mut self.cx, done);
    }
}
