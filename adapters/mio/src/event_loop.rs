//! The loop: one thread, one poll, one read buffer. Each turn takes what is ready, within bounds, feeds it to the core, and
//! carries out what the core says, each connection written to once.

use crate::accept::Gate;
use crate::broker::Broker;
use crate::config::Config;
use crate::descriptors;
use crate::exchange::ExchangeLink;
use crate::ops::Snapshot;
use crate::redis_link::{RedisLinks, session_config};
use crate::share::Share;
use crate::signals::Signal;
use crate::sockets::{READ_BYTES, Sockets, Taken};
use crate::workers::Seat;
use fanfare_core::broker::memory::MemoryBroker;
use fanfare_core::time::Time;
use fanfare_core::{Action, Actions, ConnId, Core, Delivery, Event, Rate, Turn};
use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Token, Waker};
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

// A connection's token is its id. No id comes near these: the generation would have to reach 2^32 - 1.
const LISTENER: Token = Token(usize::MAX);
const SIGNALS: [Token; 2] = [Token(usize::MAX - 1), Token(usize::MAX - 2)];
const REDIS: [Token; 2] = [Token(usize::MAX - 3), Token(usize::MAX - 4)];
const WAKER: Token = Token(usize::MAX - 5);
const _: () = assert!(usize::BITS >= 64, "a token has to hold the generation of an id, too");

/// Readiness events per turn. More wait in the kernel, first come first served.
const EVENTS_PER_TURN: usize = 1_024;
/// How long a turn takes new connections: a storm of them must not hold up those who are here.
const ACCEPT_TIME: Duration = Duration::from_micros(100);
/// How long a turn reads, for a message waits until the turn that reads it has ended, and before that, at worst, for the end of
/// the one it came in. Long enough for a hundred clients' commands.
const READ_TIME: Duration = Duration::from_micros(200);
/// Whoever was read is also written to, which takes longer, or closed: so reads are counted as well.
const READS_PER_TURN: usize = 256;
/// Redis, which brings the messages of all, is read with a larger buffer than a client.
const BUFFER_BYTES: usize = 64 * 1024;
const _: () = assert!(READ_BYTES <= BUFFER_BYTES, "a client is read into the same buffer");

/// A worker hears nothing of connections that others open and close. So often it looks whether there are places again, or whether
/// pending connections of its own have to make room.
const PLACES_RECHECK: Duration = Duration::from_millis(100);

/// The server cannot start.
#[derive(Debug)]
pub struct StartError(pub(crate) String);

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for StartError {}

/// The running server, or one worker of it.
#[derive(Debug)]
pub struct Server {
    seat: Seat,
    poll: Poll,
    core: Core,
    sockets: Sockets,
    /// `None` once the server is stopping.
    gate: Option<Gate>,
    broker: Broker,
    signals: [Signal; 2],
    started: Instant,
    buffer: Box<[u8]>,
    /// What all workers were told last.
    readiness: Option<Result<(), String>>,
    /// The version of the other workers' readiness that the core was told last.
    others_seen: Option<u64>,
    shutdown_timeout: Duration,
    stop_at: Option<Time>,
    accept_errors: u64,
}

impl Server {
    /// Opens what is its own.
    ///
    /// # Errors
    /// What could not be opened, and why.
    pub fn start(
        config: &Config,
        page: &'static [u8],
        mut listener: TcpListener,
        mut signals: [Signal; 2],
        seat: Seat,
    ) -> Result<Server, StartError> {
        let failed = |what: &'static str| move |error: io::Error| StartError(format!("{what}: {error}"));
        let seeds = random().map_err(failed("cannot draw random numbers"))?;
        let poll = Poll::new().map_err(failed("cannot make a poll"))?;
        let registry = poll.registry();

        registry.register(&mut listener, LISTENER, Interest::READABLE).map_err(failed("cannot poll the listener"))?;

        for (signal, token) in signals.iter_mut().zip(SIGNALS) {
            registry
                .register(&mut signal.pipe, token, Interest::READABLE)
                .map_err(failed("cannot poll for signals"))?;
        }
        let [node, seed, jitter] = seeds;
        let waker = || Waker::new(registry, WAKER).map_err(failed("cannot make a waker"));
        let broker = match (&config.redis.target, &seat.exchange) {
            (None, None) => Broker::Memory(MemoryBroker::default()),
            (None, Some(exchange)) => Broker::Exchange(ExchangeLink::new(Arc::clone(exchange), seat.worker, waker()?)),
            (Some(target), _) => {
                let session = session_config(&config.redis, target, node, jitter);
                let links = RedisLinks::new(session, target.address.clone(), REDIS, Arc::new(waker()?));
                Broker::Redis(Box::new(links.map_err(failed("cannot start the resolver"))?))
            }
        };
        let core = Core::new(core_config(config, seat.places, node, seed, page));
        let gate = Gate::new(listener, seat.places).sharing(Arc::clone(&seat.shortage));
        Ok(Server {
            seat,
            poll,
            core,
            sockets: Sockets::default(),
            gate: Some(gate),
            broker,
            signals,
            started: Instant::now(),
            buffer: vec![0; BUFFER_BYTES].into(),
            readiness: None,
            others_seen: None,
            shutdown_timeout: config.timeouts.shutdown,
            stop_at: None,
            accept_errors: 0,
        })
    }

    /// Runs until a signal has ended it in order. Returns how many connections are left to be cut off.
    ///
    /// # Errors
    /// If the poll itself fails.
    pub fn run(&mut self) -> io::Result<usize> {
        let mut events = Events::with_capacity(EVENTS_PER_TURN);
        loop {
            let timeout = self.timeout();
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                outcome => outcome?,
            }
            let began = Instant::now();
            self.turn(&events, self.now());
            self.tell(began);
            if self.has_stopped() {
                return Ok(self.core.connections());
            }
        }
    }

    fn now(&self) -> Time {
        Time::from_micros(self.started.elapsed().as_micros() as u64)
    }

    /// How long the poll may sleep.
    fn timeout(&mut self) -> Option<Duration> {
        let accepts = self.gate.as_ref().is_some_and(Gate::is_ready);
        if accepts || self.sockets.ready() > 0 || self.broker.is_ready() {
            return Some(Duration::ZERO);
        }
        let gate = self.gate.as_ref().and_then(Gate::next_timeout);
        let paused = self.gate.as_ref().is_some_and(Gate::is_paused);
        let concerned = self.seat.share.as_ref().is_some_and(|share| paused || share.has_pending());
        let recheck = concerned.then(|| self.now() + PLACES_RECHECK);
        let next = [self.core.next_timeout(), self.broker.next_timeout(), gate, recheck, self.stop_at];
        let next = next.into_iter().flatten().min()?;
        Some(next.since(self.now()))
    }

    fn turn(&mut self, events: &Events, now: Time) {
        let Server { poll, core, sockets, gate, broker, signals, buffer, seat, others_seen, .. } = self;
        let share = &mut seat.share;
        let mut heads = share.as_ref().map_or(0, |_| core.metrics().pending_upgrades_now as usize);
        let registry = poll.registry();
        let mut signalled = None;
        let mut turn = core.turn(now);
        for event in events {
            match event.token() {
                LISTENER => gate.iter_mut().for_each(Gate::edge),
                WAKER => {}
                token if REDIS.contains(&token) => broker.event(token, event),
                token if SIGNALS.contains(&token) => {
                    signalled = signals.iter_mut().filter_map(Signal::take).next().or(signalled);
                }
                Token(bits) => {
                    let conn = ConnId::from_bits(bits as u64);
                    if sockets.event(conn, event) {
                        turn.feed(Event::Writable { conn });
                    }
                }
            }
        }
        // The broker first: whoever joins in this turn finds every subscription as new as can be.
        broker.read(buffer, registry, now, |event| turn.feed(Event::Broker(event)));
        if let Some(gate) = gate {
            heads += accept(gate, sockets, share, registry, &mut turn, now);
        }
        if let Some(share) = share {
            turn.feed(Event::Elsewhere(share.reserve(heads.min(sockets.ready()))));
            if let Some(readiness) = seat.readiness.of_others(seat.worker, others_seen) {
                turn.feed(Event::ReadyElsewhere(readiness.as_ref().copied().map_err(String::as_str)));
            }
        }
        read(sockets, &mut buffer[..READ_BYTES], &mut turn);
        turn.feed(Event::Timeout);
        if let Some(signal) = signalled
            && let Some(mut closed) = gate.take()
        {
            if seat.readiness.stop() {
                tracing::info!(signal, connections = open(sockets, share.as_ref()), "shutting down");
            }
            self.accept_errors = closed.errors();
            // Closing the listener, which dropping it does, takes it off the poll as well; this only makes it plain.
            let _ = registry.deregister(closed.listener());
            self.stop_at = Some(now + self.shutdown_timeout);
            turn.feed(Event::Shutdown);
        }
        carry_out(turn.finish(), sockets, broker, registry, now);
        if broker.answers_at_once() {
            // Messages need not wait until others have been read.
            let mut turn = core.turn(now);
            broker.read(buffer, registry, now, |event| turn.feed(Event::Broker(event)));
            carry_out(turn.finish(), sockets, broker, registry, now);
        }
        if let Some(share) = share {
            share.settle(sockets.len(), core.metrics().connections_now as usize);
        }
        if let Some(gate) = gate {
            // Whoever left in this turn made room for someone in the backlog.
            let lasting = share.as_ref().map_or(sockets.len(), Share::lasting);
            gate.update(open(sockets, share.as_ref()), lasting, now);
        }
        broker.drive(registry, now);
    }

    /// Publishes figures and readiness.
    fn tell(&mut self, began: Instant) {
        let readiness = self.core.readiness();
        let changed = match (&self.readiness, readiness) {
            (Some(Ok(())), Ok(())) => false,
            (Some(Err(before)), Err(now)) => before != now,
            _ => true,
        };
        if changed {
            let readiness = readiness.map_err(str::to_owned);
            self.seat.readiness.tell(self.seat.worker, readiness.clone());
            self.readiness = Some(readiness);
        }
        if let Some(board) = &self.seat.board {
            let mut snapshot = Snapshot { core: self.core.metrics(), ..Snapshot::default() };
            self.broker.describe(&mut snapshot);
            snapshot.accept_errors = self.gate.as_ref().map_or(self.accept_errors, Gate::errors);
            snapshot.accepts_paused = self.gate.as_ref().is_none_or(Gate::is_paused);
            let board = board.worker(self.seat.worker);
            board.publish(&snapshot);
            board.observe_turn(began.elapsed());
        }
    }

    /// Whether everything has been said, or there was time enough for it.
    fn has_stopped(&mut self) -> bool {
        let Some(stop_at) = self.stop_at else { return false };
        let done = self.core.connections() == 0 && self.broker.publishes_in_flight() == 0;
        done || self.now() >= stop_at
    }
}

/// How many connections all workers have.
fn open(sockets: &Sockets, share: Option<&Share>) -> usize {
    share.map_or(sockets.len(), Share::connections)
}

/// Numbers for the node's id and the seeds of hashing and jitter.
fn random() -> io::Result<[u64; 3]> {
    let mut seeds = [0; 3];
    for seed in &mut seeds {
        *seed = getrandom::u64().map_err(io::Error::other)?;
    }
    Ok(seeds)
}

fn core_config(
    config: &Config,
    places: descriptors::Places,
    node: u64,
    seed: u64,
    page: &'static [u8],
) -> fanfare_core::Config {
    let (limits, timeouts, compression) = (&config.limits, &config.timeouts, &config.compression);
    let rate = |per_second: usize, burst: usize| Rate { per_second: per_second as u64, burst: burst as u64 };
    let mut core = fanfare_core::Config::default();
    core.seed = seed;
    core.node = node;
    core.connections_max = places.connections_max;
    core.surplus_connections_max = places.surplus_max;
    core.message_bytes_max = limits.message_bytes_max;
    core.frames_per_message_max = limits.frames_per_message_max as u32;
    core.rooms_per_connection_max = limits.rooms_per_connection_max as u16;
    core.room_name_bytes_max = limits.room_name_bytes_max;
    core.request_head_bytes_max = limits.request_head_bytes_max;
    core.outbox_bytes_max = limits.outbox_bytes_max;
    core.outbox_total_bytes_max = limits.outbox_total_bytes_max.div_ceil(config.workers);
    core.errors_max = limits.errors_max as u16;
    core.messages = rate(limits.messages_per_second, limits.messages_burst);
    core.bytes = rate(limits.bytes_per_second, limits.bytes_burst);
    core.pings = rate(limits.pings_per_second, limits.pings_burst);
    core.pending_upgrades_max = limits.pending_upgrades_max.div_ceil(config.workers);
    core.connections_per_address_max = limits.connections_per_address_max;
    core.connects_per_address = rate(limits.connects_per_address_per_second, limits.connects_per_address_burst);
    core.origins = config.origins.clone();
    core.proxies = config.proxies.clone();
    core.handshake_timeout = timeouts.handshake;
    core.ping_interval = timeouts.ping_interval;
    core.pong_timeout = timeouts.pong_timeout;
    core.close_timeout = timeouts.close;
    core.room_linger = timeouts.room_linger;
    core.compression = compression.enabled.then(|| {
        let mut settings = fanfare_core::Compression::default();
        (settings.threshold_bytes, settings.level) = (compression.threshold_bytes, compression.level as u8);
        settings
    });
    core.default_dialect = config.default_dialect;
    core.echo = config.echo;
    core.publish_format = config.redis.format;
    core.page = page;
    core
}

/// Takes new connections, at least one, until the time for it is up. Returns how many there were.
fn accept(
    gate: &mut Gate,
    sockets: &mut Sockets,
    share: &mut Option<Share>,
    registry: &mio::Registry,
    turn: &mut Turn<'_>,
    now: Time,
) -> usize {
    let (mut began, mut accepted) = (None, 0);
    while let Some((mut stream, peer)) = gate.accept(open(sockets, share.as_ref()), now) {
        // The gate lets in no more than the core takes.
        let Ok(conn) = turn.open_from(peer.ip()) else { return accepted };
        accepted += 1;
        let interest = Interest::READABLE | Interest::WRITABLE;
        match registry.register(&mut stream, Token(conn.to_bits() as usize), interest) {
            Ok(()) => {
                sockets.insert(conn, stream);
                share.iter_mut().for_each(Share::opened);
                // Most clients' requests are here by now: reading at once saves a turn.
                sockets.make_ready(conn);
            }
            Err(error) => {
                tracing::warn!(%error, "cannot poll a connection");
                turn.feed(Event::Closed { conn });
            }
        }
        if began.get_or_insert_with(Instant::now).elapsed() >= ACCEPT_TIME {
            return accepted;
        }
    }
    accepted
}

/// Reads from those who are ready, each once, until the time for it is up.
fn read(sockets: &mut Sockets, buffer: &mut [u8], turn: &mut Turn<'_>) {
    if sockets.ready() == 0 {
        return;
    }
    let (began, mut reads, mut round) = (Instant::now(), 0, sockets.round());
    let mut time_is_up = false;
    while let Some(conn) = sockets.next_ready(&mut round, time_is_up) {
        reads += 1;
        match sockets.read(conn, buffer) {
            Taken::Last(taken) => turn.feed(Event::Bytes { conn, data: &mut buffer[..taken] }),
            Taken::Some(taken) => {
                turn.feed(Event::Bytes { conn, data: &mut buffer[..taken] });
                sockets.make_ready(conn);
            }
            Taken::Nothing => {}
            Taken::End => turn.feed(Event::Closed { conn }),
        }
        time_is_up = reads >= READS_PER_TURN || began.elapsed() >= READ_TIME;
    }
}

fn carry_out(
    mut actions: Actions<'_>,
    sockets: &mut Sockets,
    broker: &mut Broker,
    registry: &mio::Registry,
    now: Time,
) {
    let mut asked = false;
    while let Some(action) = actions.next() {
        match action {
            Action::Send(delivery) => {
                if std::mem::take(&mut asked) {
                    // Redis works on it while the members of a large room are being written to.
                    broker.drive(registry, now);
                }
                send(delivery, sockets);
            }
            Action::Shutdown { conn } => sockets.shutdown(conn),
            Action::Close { conn } => sockets.close(conn),
            Action::Publish { room, payload, id } => {
                asked = true;
                broker.publish(room, payload, id);
            }
            Action::Subscribe { room } => {
                asked = true;
                broker.subscribe(room);
            }
            Action::Unsubscribe { room } => broker.unsubscribe(room),
        }
    }
}

/// One system call per target: the loop that everything else is for.
fn send(mut delivery: Delivery<'_>, sockets: &mut Sockets) {
    let bytes = delivery.bytes();
    while let Some(conn) = delivery.next_target() {
        match sockets.write(conn, bytes) {
            Some(written) if written == bytes.len() => {}
            Some(written) => delivery.short(conn, written),
            None => {
                sockets.close(conn);
                delivery.gone(conn);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Limits, Timeouts};
    use crate::descriptors::Places;
    use fanfare_core::{Dialect, PublishFormat};

    /// Whoever embeds the core has the same limits as whoever runs the server, unless they say otherwise.
    #[test]
    fn the_documented_defaults_are_those_of_the_core() {
        let of_the_core = fanfare_core::Config::default();
        let fanfare_core::Config { connections_max, surplus_connections_max, seed, node, page, .. } = of_the_core;
        let places = Places { connections_max, surplus_max: surplus_connections_max };
        let documented = core_config(&Config::default(), places, node, seed, page);
        assert_eq!(format!("{documented:#?}"), format!("{of_the_core:#?}"));
    }

    /// The core's configuration can gain a field without a word of the compiler here. One that is not assigned would keep its
    /// default, whatever is configured.
    #[test]
    fn every_field_of_the_core_is_told() {
        const NOT_AN_OPERATORS: [&str; 2] = ["members_per_turn_max", "group_members_max"];
        let of_the_core = fanfare_core::Config::default();
        let mut config = Config { default_dialect: Dialect::Classic, echo: true, ..Config::default() };
        config.origins = vec!["https://example.com".parse().expect("an origin")];
        config.proxies.protocol = true;
        config.compression.enabled = false;
        config.redis.format = PublishFormat::Classic;
        // No default is 3, and no duration 3 s.
        config.limits = Limits {
            connections_max: 3,
            descriptors_reserve: 3,
            message_bytes_max: 3,
            frames_per_message_max: 3,
            rooms_per_connection_max: 3,
            room_name_bytes_max: 3,
            request_head_bytes_max: 3,
            outbox_bytes_max: 3,
            outbox_total_bytes_max: 3,
            errors_max: 3,
            messages_per_second: 3,
            messages_burst: 3,
            bytes_per_second: 3,
            bytes_burst: 3,
            pings_per_second: 3,
            pings_burst: 3,
            pending_upgrades_max: 3,
            connections_per_address_max: 3,
            connects_per_address_per_second: 3,
            connects_per_address_burst: 3,
        };
        let three = Duration::from_secs(3);
        config.timeouts = Timeouts {
            handshake: three,
            ping_interval: three,
            pong_timeout: three,
            close: three,
            room_linger: three,
            shutdown: three,
        };
        let told = core_config(&config, Places { connections_max: 3, surplus_max: 3 }, 3, 3, b"");
        let fields = |config: &fanfare_core::Config| {
            // Each field begins a line that is indented once.
            let text = format!("{config:#?}");
            let fields: Vec<String> = text.split("\n    ").fold(Vec::new(), |mut fields, line| {
                match fields.last_mut() {
                    Some(field) if line.starts_with([' ', ']', '}', ')']) => *field += line,
                    _ => fields.push(line.to_owned()),
                }
                fields
            });
            fields[1..].to_vec()
        };
        for (before, after) in fields(&of_the_core).iter().zip(fields(&told)) {
            let name = before.split(':').next().expect("a name");
            assert_eq!(*before == after, NOT_AN_OPERATORS.contains(&name), "{after}");
        }
    }
}
