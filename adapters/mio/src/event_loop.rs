//! The loop: one thread, one poll, one read buffer. Each turn takes what is ready, within bounds, feeds it to the core, and
//! carries out what the core says, each connection written to once.

use crate::admission::Admission;
use crate::broker::Broker;
use crate::exchange::ExchangeLink;
use crate::redis_link::RedisLinks;
use crate::sockets::{READ_BYTES, Sockets, Taken};
use crate::worker::WorkerContext;
use fanfare_adapter::config::Config;
use fanfare_adapter::drive::{self, Telling, is_pressed};
use fanfare_adapter::journal::{self, Refusals};
use fanfare_adapter::program::StartError;
use fanfare_adapter::settings::{Drawn, core_config, session_config};
use fanfare_adapter::signals::{Signal, last_round};
use fanfare_core::broker::memory::MemoryBroker;
use fanfare_core::time::Time;
use fanfare_core::{ConnId, Core, Event, Turn};
use mio::net::{TcpListener, UnixStream};
use mio::{Events, Interest, Poll, Registry, Token, Waker};
use std::io::{self, Read};
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
/// Time a turn spends reading clients. A message leaves when its turn ends, and may first wait for the turn before, so this bounds its
/// delay. Long enough for a hundred clients' commands.
const READ_TIME: Duration = Duration::from_micros(200);
/// Whoever was read is also written to, which takes longer, or closed: so reads are counted as well.
const READS_PER_TURN: usize = 256;
/// Redis, which brings the messages of all, is read with a larger buffer than a client.
const BUFFER_BYTES: usize = 64 * 1024;
const _: () = assert!(READ_BYTES <= BUFFER_BYTES, "a client is read into the same buffer");

/// A worker hears nothing of connections that others open and close. So often it looks whether there are places again, or whether
/// pending connections of its own have to make room.
const PLACES_RECHECK: Duration = Duration::from_millis(100);

/// While there is so much to do that clients who make much work have to wait, one of them is read so often all the same: who makes
/// much work and keeps the rules must not wait for those who do not.
const HEAVY_PAUSE: Duration = Duration::from_millis(2);
/// While the broker is behind, clients that make much work wait: so often the loop looks whether it still is.
const PRESSED_RECHECK: Duration = Duration::from_millis(1);

/// A signal's pipe on the poll, where reading must not block.
#[derive(Debug)]
struct SignalPipe {
    name: &'static str,
    pipe: UnixStream,
}

impl SignalPipe {
    fn new(signal: Signal) -> io::Result<SignalPipe> {
        signal.pipe.set_nonblocking(true)?;
        Ok(SignalPipe { name: signal.name, pipe: UnixStream::from_std(signal.pipe) })
    }

    /// The signal's name, if it has come since the last call.
    fn take(&mut self) -> Option<&'static str> {
        matches!(self.pipe.read(&mut [0; 16]), Ok(1..)).then_some(self.name)
    }
}

/// The running server, or one worker of it.
#[derive(Debug)]
pub struct Server {
    context: WorkerContext,
    poll: Poll,
    core: Core,
    sockets: Sockets,
    admission: Admission,
    broker: Broker,
    signals: [SignalPipe; 2],
    started: Instant,
    buffer: Box<[u8]>,
    shutdown_timeout: Duration,
    stop_at: Option<Time>,
    /// Until then it reads what clients had sent before it was told to stop.
    reads_until: Option<Time>,
    refusals: Refusals,
    /// When one of those who make much work was read last.
    heavy_read_at: Time,
}

impl Server {
    /// Opens what is its own.
    ///
    /// # Errors
    /// What could not be opened, and why.
    pub fn start(
        config: &Config,
        listener: std::net::TcpListener,
        signals: [Signal; 2],
        context: WorkerContext,
    ) -> Result<Server, StartError> {
        let failed = StartError::of::<io::Error>;
        let drawn = Drawn::new().map_err(failed("cannot draw random numbers"))?;
        let poll = Poll::new().map_err(failed("cannot make a poll"))?;
        let registry = poll.registry();
        listener.set_nonblocking(true).map_err(failed("cannot make the listener non-blocking"))?;
        let mut listener = TcpListener::from_std(listener);
        registry.register(&mut listener, LISTENER, Interest::READABLE).map_err(failed("cannot poll the listener"))?;
        let [sigterm, sigint] = signals.map(SignalPipe::new);
        let mut signals =
            [sigterm.map_err(failed("cannot read signals"))?, sigint.map_err(failed("cannot read signals"))?];
        for (signal, token) in signals.iter_mut().zip(SIGNALS) {
            let registered = registry.register(&mut signal.pipe, token, Interest::READABLE);
            registered.map_err(failed("cannot poll for signals"))?;
        }
        let waker = || Waker::new(registry, WAKER).map_err(failed("cannot make a waker"));
        let broker = match (&config.redis.target, &context.exchange) {
            (None, None) => Broker::Memory(MemoryBroker::default()),
            (None, Some(exchange)) => {
                Broker::Exchange(ExchangeLink::new(Arc::clone(exchange), context.worker, waker()?))
            }
            (Some(target), _) => {
                let session = session_config(&config.redis, target, drawn);
                let links = RedisLinks::new(session, target.address.clone(), REDIS, Arc::new(waker()?));
                Broker::Redis(Box::new(links.map_err(failed("cannot start the resolver"))?))
            }
        };
        let core = Core::new(core_config(config, context.places, drawn, context.page));
        let admission = Admission::new(listener, context.places, Arc::clone(&context.counts));
        Ok(Server {
            context,
            poll,
            core,
            sockets: Sockets::default(),
            admission,
            broker,
            signals,
            started: Instant::now(),
            buffer: vec![0; BUFFER_BYTES].into(),
            shutdown_timeout: config.timeouts.shutdown,
            stop_at: None,
            reads_until: None,
            refusals: Refusals::default(),
            heavy_read_at: Time::ZERO,
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
            let now = self.now();
            if drive::has_stopped(&self.core, &mut self.broker, self.stop_at, now) {
                return Ok(self.core.connections());
            }
        }
    }

    fn now(&self) -> Time {
        Time::from_micros(self.started.elapsed().as_micros() as u64)
    }

    /// How long the poll may sleep.
    fn timeout(&mut self) -> Option<Duration> {
        if self.admission.is_ready()
            || self.reads_until.is_some()
            || self.broker.is_ready()
            || self.sockets.ready_light() > 0
        {
            return Some(Duration::ZERO);
        }
        let waits = self.sockets.ready() > 0;
        if waits && !is_pressed(&self.core, &self.broker) {
            return Some(Duration::ZERO);
        }
        let pressed = waits.then(|| self.now() + PRESSED_RECHECK);
        let recheck = self.admission.depends_on_others().then(|| self.now() + PLACES_RECHECK);
        let next = [
            self.core.next_timeout(),
            self.broker.next_timeout(),
            self.admission.next_timeout(),
            recheck,
            self.stop_at,
            pressed,
        ];
        let next = next.into_iter().flatten().min().map(|next| next.since(self.now()));
        let look = self.refusals.next_look().map(|at| at.saturating_duration_since(Instant::now()));
        next.into_iter().chain(look).min()
    }

    fn turn(&mut self, events: &Events, now: Time) {
        let Server { poll, core, sockets, admission, broker, signals, buffer, context, heavy_read_at, .. } = self;
        let mut heads = if admission.has_others() { core.metrics().pending_upgrades_now as usize } else { 0 };
        let registry = poll.registry();
        let (mut signalled, mut spoke) = (None, false);
        let mut turn = core.turn(now);
        for event in events {
            match event.token() {
                LISTENER => admission.edge(),
                WAKER => {}
                token if REDIS.contains(&token) => broker.event(token, event),
                token if SIGNALS.contains(&token) => {
                    signalled = signals.iter_mut().filter_map(SignalPipe::take).next().or(signalled);
                }
                Token(bits) => {
                    spoke = true;
                    let conn = ConnId::from_bits(bits as u64);
                    if sockets.event(conn, event) {
                        turn.feed(Event::Writable { conn });
                    }
                }
            }
        }
        // What becomes of Redis from here on is worth no line in the log.
        let is_first_to_stop = signalled.is_some() && context.readiness.stop();
        // The broker first: whoever joins in this turn finds every subscription as new as can be.
        let congested = turn.core().is_congested();
        broker.read(buffer, registry, now, congested, |event| turn.feed(Event::Broker(event)));
        // Before any request is answered, so that all workers give the same answer.
        context.readiness.tell(turn.core().readiness());
        heads += accept(admission, sockets, &mut turn, context.worker, now);
        if let Some(elsewhere) = admission.reserve(heads.min(sockets.ready())) {
            turn.feed(Event::Elsewhere(elsewhere));
            if let Some(readiness) = context.readiness.of_others() {
                turn.feed(Event::ReadyElsewhere(readiness.as_ref().copied().map_err(String::as_str)));
            }
        }
        // What is kept unread in the core has its turn below, and is as much work as one of those who make much.
        let heavy_max = match is_pressed(turn.core(), broker) {
            false => usize::MAX,
            true => usize::from(now.since(*heavy_read_at) >= HEAVY_PAUSE),
        };
        if read(sockets, &mut buffer[..READ_BYTES], registry, &mut turn, heavy_max, now) {
            *heavy_read_at = now;
        }
        turn.timeout(|conn| sockets.has_unread(conn));
        if let Some(signal) = signalled
            && admission.close(registry)
        {
            if is_first_to_stop {
                tracing::info!(signal, connections = admission.connections(), "shutting down");
            }
            self.stop_at = Some(now + self.shutdown_timeout);
            self.reads_until = Some(now + last_round(self.shutdown_timeout));
            // The poll has told of nothing that came since it was last asked.
            spoke = true;
        }
        let has_read_all = !spoke && sockets.ready() == 0;
        if self.reads_until.take_if(|until| has_read_all || *until <= now).is_some() {
            turn.feed(Event::Shutdown);
            // Before the clients are told.
            context.readiness.tell(turn.core().readiness());
        }
        // Before anybody is answered: what a request has kept at this worker must not fail one that follows it at another.
        admission.release(turn.core());
        drive::carry_out(turn.finish(), sockets, broker, |broker| broker.drive(registry, now));
        if broker.answers_at_once() {
            // Messages need not wait until others have been read.
            let congested = core.is_congested();
            let mut turn = core.turn(now);
            broker.read(buffer, registry, now, congested, |event| turn.feed(Event::Broker(event)));
            drive::carry_out(turn.finish(), sockets, broker, |broker| broker.drive(registry, now));
        }
        admission.settle(core, sockets.len(), now);
        broker.drive(registry, now);
    }

    /// Publishes figures and readiness.
    fn tell(&mut self, began: Instant) {
        let WorkerContext { worker, readiness, board, .. } = &mut self.context;
        let telling = Telling { worker: *worker, readiness, refusals: &mut self.refusals, board: board.as_deref() };
        let admission = &self.admission;
        telling.tell(&mut self.core, &mut self.broker, began, |snapshot| {
            snapshot.accept_errors = admission.errors();
            snapshot.accepts_paused = admission.is_paused();
        });
    }
}

/// Takes new connections, at least one, until the time for it is up. Returns how many there were.
fn accept(admission: &mut Admission, sockets: &mut Sockets, turn: &mut Turn<'_>, worker: usize, now: Time) -> usize {
    let (mut began, mut accepted) = (None, 0);
    while let Some((stream, peer)) = admission.accept(now) {
        // The gate lets in no more than the core takes.
        let Ok(conn) = turn.open_from(peer.ip()) else { return accepted };
        accepted += 1;
        journal::accepted(worker, conn, peer);
        sockets.insert(conn, stream);
        admission.opened();
        if began.get_or_insert_with(Instant::now).elapsed() >= ACCEPT_TIME {
            return accepted;
        }
    }
    accepted
}

/// Reads from those who are ready, each once, until the time for it is up; of those who make much work at most so many. Returns whether
/// one of these was read.
fn read(
    sockets: &mut Sockets,
    buffer: &mut [u8],
    registry: &Registry,
    turn: &mut Turn<'_>,
    heavy_max: usize,
    now: Time,
) -> bool {
    if sockets.ready() == 0 {
        return false;
    }
    let (began, mut reads, mut round) = (Instant::now(), 0, sockets.round(heavy_max));
    let (mut time_is_up, mut until) = (false, Duration::ZERO);
    while let Some(conn) = sockets.next_ready(&mut round, time_is_up) {
        if turn.core().keeps_unread(conn) {
            // What more it has stays where it is until the core has come to the end of what it has read.
            sockets.make_ready_among_heavy(conn);
            round.passed_over();
            continue;
        }
        reads += 1;
        let mut has_more = false;
        match sockets.read(conn, buffer) {
            Taken::Last(taken) => turn.feed(Event::Bytes { conn, data: &mut buffer[..taken] }),
            Taken::Some(taken) => {
                turn.feed(Event::Bytes { conn, data: &mut buffer[..taken] });
                has_more = true;
            }
            Taken::Nothing => {}
            Taken::End => turn.feed(Event::Closed { conn }),
        }
        if let Err(error) = sockets.watch(conn, registry) {
            tracing::warn!(%error, "cannot poll a connection");
            turn.feed(Event::Closed { conn });
        }
        let from = std::mem::replace(&mut until, began.elapsed());
        sockets.charge(conn, until - from, now);
        if has_more {
            // By what it costs with this read.
            sockets.make_ready(conn);
        }
        time_is_up = reads >= READS_PER_TURN || until >= READ_TIME;
    }
    round.heavy_left() < heavy_max
}
