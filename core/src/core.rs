//! `Core` and `Turn`: the boundary's order of calls, and what belongs to a turn as a whole. What events mean is said in
//! `life` (connections), `hub::commands` (clients' commands) and `hub::subscriptions` (the broker).

use crate::action::{Actions, End};
use crate::config::Config;
use crate::conn::{Conns, Ending, NONE, Phase, mark};
use crate::dialect::Dialect;
use crate::drain::Drain;
use crate::error::Refused;
use crate::event::{ConnId, Elsewhere, Event};
use crate::hub::asks::{Asks, Senders};
use crate::hub::group::GROUP_MEMBERS_MAX;
use crate::hub::joins::Joins;
use crate::hub::joint::Joint;
use crate::hub::outbox::Backlog;
use crate::hub::rooms::Rooms;
use crate::hub::run::{KEPT_BYTES_MAX, Runs};
use crate::hub::stream::Streams;
use crate::hub::subscriptions::Broker;
use crate::journal::Journal;
use crate::limits;
use crate::limits::meter::{Pace, Rates, Spares};
use crate::limits::pending::Pending;
use crate::limits::sources::Sources;
use crate::limits::unfinished::Unfinished;
use crate::limits::unread::{Strain, Unread};
use crate::metrics::Metrics;
use crate::time::Time;
use crate::wheel::Wheel;
use crate::ws::deflate::{Deflater, Inflater};
use crate::ws::encode;
use core::net::IpAddr;
use hashbrown::HashMap;
use siphasher::sip::SipHasher13;
use std::collections::VecDeque;
use std::hash::BuildHasher;

/// Close code for a client that takes too long to read or to send: in the range that means "reconnect with backoff".
pub(crate) const TOO_SLOW: u16 = 4008;

/// The state machine of one instance. See the [crate's guide](crate).
#[derive(Debug)]
pub struct Core {
    pub(crate) config: Config,
    pub(crate) now: Time,
    pub(crate) conns: Conns,
    /// Unfinished request heads, by slot.
    pub(crate) heads: HashMap<u32, Vec<u8>, Seeded>,
    /// Connections that are no WebSocket.
    pub(crate) pending: Pending,
    pub(crate) sources: Sources,
    /// Trusted proxies' addresses, by the slot of a connection whose client has still to be told; while addresses are limited.
    pub(crate) introducers: HashMap<u32, IpAddr, Seeded>,
    pub(crate) rates: Rates,
    /// Connections with a meter, each once, and some that have gone.
    pub(crate) metered: VecDeque<ConnId>,
    pub(crate) spare_meters: Spares,
    pub(crate) unfinished: Unfinished,
    pub(crate) unread: Unread,
    pub(crate) strain: Strain,
    /// Of connections with errors that are not forgiven, by slot: until when time has forgiven them.
    pub(crate) erring: HashMap<u32, Time, Seeded>,
    pub(crate) wheel: Wheel,
    pub(crate) rooms: Rooms,
    pub(crate) backlog: Backlog,
    pub(crate) broker: Broker,
    pub(crate) senders: Senders,
    pub(crate) joins: Joins,
    /// Rooms that lost their last member, in the order in which that was noticed: one that had a member in between may
    /// stand behind later deadlines, and so lingers up to twice as long.
    pub(crate) lingering: VecDeque<(Time, u32)>,
    /// Exists once it has been told to stop.
    pub(crate) drain: Option<Drain>,
    pub(crate) elsewhere: Elsewhere,
    /// Why the others that make up the server with this core are not ready.
    pub(crate) unready_elsewhere: Option<Box<str>>,
    pub(crate) metrics: Metrics,
    pub(crate) journal: Journal,
    pub(crate) deflater: Deflater,
    /// Out of its place while a connection's frames are read.
    pub(crate) inflater: Inflater,

    // What follows belongs to the turn and is empty between turns.
    pub(crate) asks: Asks,
    pub(crate) runs: Runs,
    pub(crate) streams: Streams,
    pub(crate) joint: Joint,
    /// Lagging connections whose sockets are writable again.
    pub(crate) writable: Vec<ConnId>,
    /// What is being written, where it had to be put together.
    pub(crate) gathered: Vec<u8>,
    /// Slots whose connection ends when all is written.
    pub(crate) touched: Vec<u32>,
    /// Slots whose sockets failed.
    pub(crate) gone: Vec<u32>,
    pub(crate) ends: Vec<End>,
    pub(crate) fired: Vec<u32>,
    /// Of the connection whose bytes are being read.
    pub(crate) pace: Pace,
    /// Bytes of work that it has made beyond those that were read, and has not been charged for yet.
    pub(crate) surplus_bytes: usize,
    /// For one text that is being built.
    pub(crate) scratch: Vec<u8>,
}

/// Keyed hashing without the operating system's randomness.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seeded(u64);

impl Seeded {
    pub fn new(seed: u64) -> Seeded {
        Seeded(seed)
    }
}

impl BuildHasher for Seeded {
    type Hasher = SipHasher13;

    fn build_hasher(&self) -> SipHasher13 {
        SipHasher13::new_with_keys(self.0, !self.0)
    }
}

impl Core {
    /// A core without connections, whose broker is down until [`BrokerEvent::Up`](crate::broker::BrokerEvent::Up).
    ///
    /// # Panics
    /// If `rooms_per_connection_max` is above 32,767, the level of compression is none from 1 to 9, or `group_members_max` none
    /// from 1 to 256.
    pub fn new(config: Config) -> Core {
        assert!(config.rooms_per_connection_max < 1 << 15, "rooms_per_connection_max is at most 32,767");
        let level = config.compression.map(|compression| compression.level);
        assert!(level.is_none_or(|level| (1..=9).contains(&level)), "compression has the levels 1 to 9");
        assert!((1..=GROUP_MEMBERS_MAX as u16).contains(&config.group_members_max), "a group has 1 to 256 members");
        Core {
            now: Time::ZERO,
            conns: Conns::new(),
            heads: HashMap::with_hasher(Seeded::new(config.seed)),
            pending: Pending::default(),
            sources: Sources::new(config.connections_per_address_max, config.connects_per_address, config.seed),
            introducers: HashMap::with_hasher(Seeded::new(config.seed)),
            rates: limits::rates(&config),
            metered: VecDeque::new(),
            spare_meters: Spares::default(),
            unfinished: Unfinished::new(config.seed),
            unread: Unread::new(config.seed),
            strain: Strain::new(config.surplus),
            erring: HashMap::with_hasher(Seeded::new(config.seed)),
            wheel: Wheel::default(),
            rooms: Rooms::new(config.seed, usize::from(config.group_members_max)),
            backlog: Backlog::new(config.outbox_bytes_max, config.outbox_total_bytes_max),
            broker: Broker::default(),
            senders: Senders::default(),
            joins: Joins::new(&config),
            lingering: VecDeque::new(),
            drain: None,
            elsewhere: Elsewhere::default(),
            unready_elsewhere: None,
            metrics: Metrics::default(),
            journal: Journal::new(config.journal, config.seed),
            deflater: Deflater::new(config.compression.unwrap_or_default()),
            inflater: Inflater::default(),
            asks: Asks::default(),
            runs: Runs::new(config.group_members_max, config.outbox_bytes_max),
            streams: Streams::default(),
            joint: Joint::default(),
            writable: Vec::new(),
            gathered: Vec::new(),
            touched: Vec::new(),
            gone: Vec::new(),
            ends: Vec::new(),
            fired: Vec::new(),
            pace: Pace::default(),
            surplus_bytes: 0,
            scratch: Vec::new(),
            config,
        }
    }

    /// Begins a turn: feed it what is ready, then drain it. `now` must not go backwards; an earlier time counts as the last.
    pub fn turn(&mut self, now: Time) -> Turn<'_> {
        self.now = self.now.max(now);
        if self.wheel.is_empty() {
            // Nothing fires; but the wheel's present may be far behind, in the first turn by all that the clock shows.
            self.wheel.expire(self.now, &mut self.fired);
        }
        Turn { core: self }
    }

    /// When to feed [`Event::Timeout`] at the latest, if nothing happens before. A time in the past means at once.
    pub fn next_timeout(&self) -> Option<Time> {
        // What a connection had yet to publish when its socket failed is asked for in the next turn.
        let asks = self.broker.resubscribe_from.is_some() || self.asks.len() > 0;
        if asks || self.runs.wait() || !self.unread.is_empty() && !self.is_strained() {
            return Some(Time::ZERO);
        }
        let lingering = self.lingering.front().map(|(deadline, _)| *deadline);
        let unfinished = self.unfinished.next(self.config.message_timeout);
        let strained = (!self.unread.is_empty()).then(|| self.strain.over_until(self.now));
        let deadlines = [self.wheel.next(), lingering, unfinished, self.joins.deadline(), self.drained_at(), strained];
        deadlines.into_iter().flatten().min()
    }

    /// Whether bytes of this connection are kept that have not been looked at yet, because those before them made much work. They are
    /// looked at in the next turns. Until then leave unread what else its socket has: it would only wait here instead of there.
    pub fn keeps_unread(&self, conn: ConnId) -> bool {
        !self.unread.is_empty() && self.conns.slot(conn).is_some_and(|slot| self.unread.has(slot))
    }

    /// Whether [`Core::keeps_unread`] holds for any connection: then a turn without an event has something to do as well.
    pub fn has_unread(&self) -> bool {
        !self.unread.is_empty()
    }

    /// Whether the messages of all clients together have made more work lately than [`Config::surplus`] allows. Until that has passed,
    /// what is kept unread waits, and clients that make much work are best left unread.
    pub fn is_strained(&self) -> bool {
        self.strain.is_over(self.now)
    }

    /// Whether so much waits to be written to members of rooms that the broker's messages are best left with it for the moment. The
    /// next turns write; a driver that goes on reading nevertheless gets longer turns.
    pub fn is_congested(&self) -> bool {
        self.runs.is_congested()
    }

    /// Connections of every kind: WebSockets, request heads coming in, and those that are ending.
    pub fn connections(&self) -> usize {
        self.conns.live()
    }

    /// Whether new work should be sent here: what `GET /readyz` answers, unless others are not ready, of which
    /// [`Event::ReadyElsewhere`] tells.
    ///
    /// # Errors
    /// Why not, for those who run the server. Clients are told less: the broker's own words may name machines and users.
    pub fn readiness(&self) -> Result<(), &str> {
        if self.is_draining() {
            return Err("shutting down");
        }
        self.broker.readiness()
    }

    /// Counters and gauges as of now.
    pub fn metrics(&self) -> Metrics {
        let (compression_bytes_in, compression_bytes_out) = self.deflater.bytes();
        Metrics {
            compression_bytes_in,
            compression_bytes_out,
            rooms_now: self.rooms.populated(),
            memberships_now: self.rooms.memberships(),
            publishes_deferred_now: self.joins.deferred() as u64,
            unsent_bytes_now: self.backlog.unsent_bytes() as u64,
            stored_frame_bytes_now: self.backlog.stored_bytes() as u64,
            unfinished_bytes_now: self.unfinished.bytes() as u64,
            ..self.metrics
        }
    }

    pub(crate) fn stream(&mut self, slot: u32) -> &mut Vec<u8> {
        self.streams.of(&mut self.conns, slot)
    }

    /// Ends the connection in this way once everything queued for it has been written.
    pub(crate) fn end_when_written(&mut self, slot: u32, ending: Ending) {
        self.conns.get_mut(slot).ending = ending;
        self.touched.push(slot);
    }

    /// Ends the connection in this turn, written or not. Nothing more is sent: it could follow half a frame.
    pub(crate) fn end_now(&mut self, slot: u32) {
        self.backlog.drop_all(&mut self.conns, slot);
        self.streams.hush(&mut self.conns, slot);
        self.end_when_written(slot, Ending::Close);
    }

    /// What has to wait until everything has been handed out: see [`Actions`].
    pub(crate) fn settle(&mut self) {
        self.runs.forget_due(|room, group| self.rooms.get_mut(room).group_at_mut(group).run = NONE);
        self.streams.clear(&mut self.conns);
        self.joint.clear();
        self.gathered.clear();
        self.gathered.shrink_to(KEPT_BYTES_MAX);
        self.deflater.settle();
        self.inflater.settle();
        self.writable.clear();
        for slot in std::mem::take(&mut self.gone) {
            if self.conns.get(slot).phase != Phase::Free {
                self.depart(slot, false);
                self.backlog.drop_all(&mut self.conns, slot);
                self.free(slot);
            }
        }
        self.close_the_slow();
        let mut touched = std::mem::take(&mut self.touched);
        for slot in touched.drain(..) {
            self.end_if_written(slot);
        }
        self.touched = touched;
    }

    /// Ends whoever is over a limit, and then those who lag most until all together are within the budget: first by cutting
    /// their queues, and those that are cut already without ceremony. Each round costs someone a queue, so it comes to an end.
    fn close_the_slow(&mut self) {
        loop {
            for slot in std::mem::take(&mut self.backlog.doomed) {
                self.close_slow(slot);
            }
            if !self.backlog.is_over_budget() {
                return;
            }
            self.backlog.doom_slowest(&mut self.conns);
        }
    }

    fn close_slow(&mut self, slot: u32) {
        if self.conns.is_marked(slot, mark::GONE) || !self.conns.is_marked(slot, mark::DOOMED) {
            return;
        }
        // Whoever ends now keeps its marks until the slot is free: nothing is sent to it any more.
        if self.conns.get(slot).phase != Phase::Open {
            return self.end_now(slot);
        }
        self.metrics.slow_closes += 1;
        self.journal.ends(slot, Some(TOO_SLOW), "too slow");
        self.depart(slot, false);
        if self.conns.is_marked(slot, mark::TORN) {
            self.enter_phase(slot, Phase::Discarding);
            return self.end_now(slot);
        }
        let mut last = Vec::new();
        encode::close(&mut last, Some(TOO_SLOW), "too slow");
        if self.backlog.cut(&mut self.conns, slot, &last) {
            self.await_close(slot);
        } else {
            self.enter_phase(slot, Phase::Discarding);
            self.end_now(slot);
        }
    }

    fn end_if_written(&mut self, slot: u32) {
        let id = self.conns.id(slot);
        let lags = self.conns.is_marked(slot, mark::LAGGING);
        let conn = self.conns.get_mut(slot);
        if lags || matches!(conn.phase, Phase::Free | Phase::Ended) {
            return;
        }
        match std::mem::replace(&mut conn.ending, Ending::None) {
            Ending::None => {}
            // Its close frame is the last message there is; a FIN is for those who hold the socket.
            Ending::Shutdown if conn.by_message => {}
            Ending::Shutdown => {
                debug_assert!(matches!(conn.phase, Phase::Refused | Phase::Discarding));
                self.ends.push(End::Shutdown(id));
            }
            Ending::Close => {
                self.enter_phase(slot, Phase::Ended);
                self.ends.push(End::Close(id));
            }
        }
    }

    /// Frees the slots of the first `done` endings, which the adapter has carried out.
    pub(crate) fn forget_ended(&mut self, done: usize) {
        for index in 0..done {
            if let End::Close(conn) = self.ends[index]
                && let Some(slot) = self.conns.slot(conn)
            {
                self.free(slot);
            }
        }
        self.ends.drain(..done);
    }

    fn free(&mut self, slot: u32) {
        self.enter_phase(slot, Phase::Ended);
        self.wheel.cancel(slot);
        self.heads.remove(&slot);
        self.leave_source(slot);
        self.conns.remove(slot);
    }
}

/// One turn: events in, then actions out.
#[must_use = "a turn has to be finished, and its actions carried out"]
#[derive(Debug)]
pub struct Turn<'c> {
    core: &'c mut Core,
}

impl<'c> Turn<'c> {
    /// Takes a new connection, on which a request head is expected. Nobody knows where it comes from, so the limits of
    /// addresses do not hold for it.
    ///
    /// # Errors
    /// [`Refused::Full`] where no more are taken: close the socket.
    pub fn open(&mut self) -> Result<ConnId, Refused> {
        self.core.open(None)
    }

    /// Takes a new connection from this address. If that is over one of its limits, the connection is taken all the same, to
    /// be told so.
    ///
    /// # Errors
    /// [`Refused::Full`] where no more are taken: close the socket.
    pub fn open_from(&mut self, peer: IpAddr) -> Result<ConnId, Refused> {
        self.core.open(Some(peer))
    }

    /// Takes a WebSocket whose upgrade someone else answers, and whose frames someone else reads and writes: a framework's. It is
    /// open from the start, and whole messages go in ([`Event::Message`]) and come out
    /// ([`Delivery::messages`](crate::Delivery::messages)); everything else is as for any other connection: rooms, limits,
    /// heartbeat, closing. [`Action::Shutdown`](crate::Action::Shutdown) never names it, and permessage-deflate is the
    /// framework's.
    ///
    /// It joins `rooms` at once, as with `?room=` in a URL. With [`Dialect::Broadcast`] the first of them is the one that it
    /// speaks to; with none, that is the dialect's own. `peer` is who shall be counted by the limits of addresses, so behind a
    /// proxy the client; `None` counts nobody.
    ///
    /// What the server's own upgrades are judged by as well is for the framework to ask: which pages may connect
    /// ([`Origins::allow`](crate::Origins::allow)), and which subprotocol is selected ([`Dialect::subprotocol`]).
    ///
    /// # Errors
    /// [`Refused`], best told before the upgrade is answered: [`Refused::Full`] and [`Refused::ShuttingDown`] by status 503,
    /// [`Refused::Address`] by 429, [`Refused::Rooms`] by 400.
    pub fn open_websocket(
        &mut self,
        dialect: Dialect,
        rooms: &[&str],
        peer: Option<IpAddr>,
    ) -> Result<ConnId, Refused> {
        self.core.open_websocket(dialect, rooms, peer)
    }

    /// Takes one event. There may be any number in a turn; the adapter bounds them, for latency's sake.
    pub fn feed(&mut self, event: Event<'_>) {
        let core = &mut *self.core;
        match event {
            Event::Bytes { conn, data } => match core.conns.slot(conn) {
                Some(slot) => core.bytes(slot, data),
                None => core.metrics.stale_ids += 1,
            },
            Event::Message { conn, message } => match core.conns.slot(conn) {
                Some(slot) => core.read_message(slot, message),
                None => core.metrics.stale_ids += 1,
            },
            Event::Writable { conn } => match core.conns.slot(conn) {
                Some(_) => core.writable.push(conn),
                None => core.metrics.stale_ids += 1,
            },
            Event::Closed { conn } => match core.conns.slot(conn) {
                Some(slot) => core.closed(slot),
                None => core.metrics.stale_ids += 1,
            },
            Event::Broker(event) => core.broker_event(event),
            Event::Timeout => core.timeout(&mut |_| false),
            Event::Shutdown => core.shutdown(),
            Event::Elsewhere(elsewhere) => core.elsewhere = elsewhere,
            Event::ReadyElsewhere(readiness) => core.unready_elsewhere = readiness.err().map(Into::into),
        }
    }

    /// The same as [`Event::Timeout`], for adapters that may have left bytes of clients unread in this turn: `has_unread` tells
    /// whether a connection has some, and is asked where a deadline is over that they may have met. Such a connection is looked at
    /// again a moment later, so that no client is given up for what the server has not read.
    pub fn timeout(&mut self, mut has_unread: impl FnMut(ConnId) -> bool) {
        self.core.timeout(&mut has_unread);
    }

    /// The core as of the events fed so far: what others have to hear of it before anybody is answered.
    pub fn core(&self) -> &Core {
        self.core
    }

    /// Ends the feeding. The actions must be drained before the next turn can begin.
    pub fn finish(self) -> Actions<'c> {
        self.core.make_room();
        self.core.close_the_settled();
        self.core.runs.choose_due(self.core.config.members_per_turn_max);
        self.core.give_the_late_their_part();
        Actions::new(self.core)
    }
}
