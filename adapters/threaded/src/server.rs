//! The thread that owns the core: it takes what the others have for it as one turn, and carries out what the core says.

use crate::accept;
use crate::broker::Broker;
use crate::connections::{Connections, Threads};
use crate::gate::{Gate, Lack};
use crate::inbox::{Inbound, Inbox, Senders};
use crate::redis::Report;
use fanfare_adapter::config::Config;
use fanfare_adapter::descriptors::{self, Places};
use fanfare_adapter::drive::{self, Telling, is_pressed};
use fanfare_adapter::journal::{self, Refusals};
use fanfare_adapter::listen::listen;
use fanfare_adapter::ops::Board;
use fanfare_adapter::page::page;
use fanfare_adapter::program::{Server, StartError};
use fanfare_adapter::readiness::{Readiness, RedisName};
use fanfare_adapter::settings::{Drawn, core_config};
use fanfare_adapter::signals::{self, Signal, last_round};
use fanfare_core::time::Time;
use fanfare_core::{ConnId, Core, Event, Turn};
use std::io::{self, Read};
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// Of clients' events in one turn: a message waits until the turn that reads it has ended.
const EVENTS_PER_TURN: usize = 64;
/// How long a turn takes clients' events, at least one: a client that floods the server must not hold up what Redis brings.
const CLIENTS_TIME: Duration = Duration::from_micros(200);
/// Of the broker's reports in one turn: a message costs a write to each member.
const REPORTS_PER_TURN: usize = 64;
/// How long a turn takes the broker's reports, at least one: a message may have to be compressed for members of several forms.
const BROKER_TIME: Duration = Duration::from_micros(500);
/// While there is so much to do that clients who make much work have to wait, one of them is heard so often all the same: who makes
/// much work and keeps the rules must not wait for those who do not.
const HEAVY_PAUSE: Duration = Duration::from_millis(2);
/// While the broker is behind, clients that make much work wait: so often the server looks whether it still is.
const PRESSED_RECHECK: Duration = Duration::from_millis(1);

/// The running server.
#[derive(Debug)]
pub struct ThreadedServer {
    address: SocketAddr,
    core: Core,
    inbox: Inbox,
    connections: Connections,
    gate: Arc<Gate>,
    broker: Broker,
    board: Option<Arc<Board>>,
    readiness: Readiness,
    started: Instant,
    shutdown_timeout: Duration,
    stop_at: Option<Time>,
    refusals: Refusals,
    last_round: Option<LastRound>,
    /// When one of those who make much work was heard last.
    heavy_read_at: Time,
    /// Connections that have ended, whose bytes have not all been looked at: until they have, their end is not told.
    ending: Vec<ConnId>,
}

/// Reads what clients had sent before the server was told to stop.
#[derive(Clone, Copy, Debug)]
struct LastRound {
    /// If nobody has said anything by then, everything has been read.
    quiet_at: Time,
    /// No longer than this.
    until: Time,
}

/// The silence that ends the last round: long enough for a thread that has read something to hand it over.
const QUIET: Duration = Duration::from_millis(20);

impl ThreadedServer {
    /// Opens everything and starts the threads. With a board, figures are published on it.
    ///
    /// # Errors
    /// What could not be opened, and why.
    pub fn start(config: &Config, board: Option<Arc<Board>>) -> Result<ThreadedServer, StartError> {
        let failed = StartError::of::<io::Error>;
        let threads = Threads::within_the_mappings();
        let places = descriptors::places(&config.limits, 1, descriptors::raise_limit()).map_err(StartError)?;
        let places = within(&threads, places, config.limits.connections_max);
        board.iter().for_each(|board| board.set_limits(config, places));
        let listener = listen(config.listen)?;
        let address = listener.local_addr().map_err(failed("cannot read the listener's address"))?;
        let drawn = Drawn::new().map_err(failed("cannot draw random numbers"))?;
        let (inbox, senders) = Inbox::new();
        for signal in signals::install(1).map_err(failed("cannot handle signals"))?.into_iter().flatten() {
            await_signal(signal, &senders).map_err(failed("cannot wait for signals"))?;
        }
        let broker = Broker::start(config, drawn, &senders).map_err(failed("cannot start the threads for Redis"))?;
        let gate = Gate::new(listener, places).map_err(failed("cannot make the listener non-blocking"))?;
        accept::start(&gate, senders.clients.clone()).map_err(failed("cannot start the thread that accepts"))?;
        Ok(ThreadedServer {
            address,
            core: Core::new(core_config(config, places, drawn, page(&config.limits))),
            inbox,
            connections: Connections::new(senders, threads),
            gate,
            broker,
            readiness: Readiness::alone(RedisName::of(&config.redis), board.clone()),
            board,
            started: Instant::now(),
            shutdown_timeout: config.timeouts.shutdown,
            stop_at: None,
            refusals: Refusals::default(),
            last_round: None,
            heavy_read_at: Time::ZERO,
            ending: Vec::new(),
        })
    }

    fn now(&self) -> Time {
        Time::from_micros(self.started.elapsed().as_micros() as u64)
    }

    /// How long there is nothing to do unless somebody says something.
    fn timeout(&self) -> Option<Duration> {
        if self.broker.is_ready() {
            return Some(Duration::ZERO);
        }
        let round = self.last_round.map(|round| round.quiet_at.min(round.until));
        let next = [self.core.next_timeout(), self.stop_at, round].into_iter().flatten().min();
        let next = next.map(|next| next.since(self.now()));
        let pressed = is_pressed(&self.core, &self.broker).then_some(PRESSED_RECHECK);
        let look = self.connections.look_again_at().map(|at| at.saturating_duration_since(Instant::now()));
        let refusals = self.refusals.next_look().map(|at| at.saturating_duration_since(Instant::now()));
        next.into_iter().chain(look).chain(pressed).chain(refusals).min()
    }

    fn turn(&mut self) {
        let now = self.now();
        let ThreadedServer { core, inbox, connections, gate, broker, readiness, heavy_read_at, ending, .. } = self;
        let (mut signalled, mut spoke) = (None, false);
        let mut turn = core.turn(now);
        // The broker first: whoever joins in this turn finds every subscription as new as can be.
        let congested = turn.core().is_congested();
        if !congested {
            broker.read(reports(inbox), |event| {
                turn.feed(Event::Broker(event));
                // Before any request is answered: what `/readyz` says here, the operations port says as well. And after each event:
                // a connection may have gone and come back since the last turn, which is worth its lines in the log.
                readiness.tell(turn.core().readiness());
            });
        }
        let began = Instant::now();
        // What is kept unread in the core has its turn below, and is as much work as what makes much.
        let pressed = is_pressed(turn.core(), broker);
        for inbound in inbox.clients().take(EVENTS_PER_TURN) {
            spoke |= matches!(inbound, Inbound::Accepted(..) | Inbound::Bytes(..));
            feed(inbound, &mut turn, connections, gate, (&mut signalled, ending), now);
            if began.elapsed() >= CLIENTS_TIME {
                break;
            }
        }
        // One at least of those, too.
        let heavy_max = match pressed {
            false => EVENTS_PER_TURN,
            true => usize::from(now.since(*heavy_read_at) >= HEAVY_PAUSE),
        };
        for inbound in inbox.heavy().take(heavy_max) {
            *heavy_read_at = now;
            spoke |= matches!(inbound, Inbound::Bytes(..));
            feed(inbound, &mut turn, connections, gate, (&mut signalled, ending), now);
            if began.elapsed() >= CLIENTS_TIME {
                break;
            }
        }
        // In the order in which they ended; what came of them last may just have been kept.
        for conn in std::mem::take(ending) {
            match turn.core().keeps_unread(conn) {
                true => ending.push(conn),
                false if connections.is_open(conn) => turn.feed(Event::Closed { conn }),
                false => {}
            }
        }
        for conn in connections.look_again().into_iter().filter(|conn| connections.is_open(*conn)) {
            turn.feed(Event::Writable { conn });
        }
        turn.timeout(|conn| connections.has_unread(conn));
        if let Some(signal) = signalled
            && self.stop_at.is_none()
        {
            readiness.stop();
            tracing::info!(signal, connections = gate.open(), "shutting down");
            gate.stop();
            self.stop_at = Some(now + self.shutdown_timeout);
            let until = now + last_round(self.shutdown_timeout);
            self.last_round = Some(LastRound { quiet_at: now + QUIET, until });
        }
        if let Some(round) = &mut self.last_round
            && (spoke || round.quiet_at <= now && connections.have_unread())
        {
            round.quiet_at = now + QUIET;
        }
        if self.last_round.take_if(|round| round.quiet_at.min(round.until) <= now).is_some() {
            turn.feed(Event::Shutdown);
            // Before the clients are told.
            readiness.tell(turn.core().readiness());
        }
        drive::carry_out(turn.finish(), connections, broker, |_| {});
    }

    /// Publishes figures and readiness.
    fn tell(&mut self, began: Instant) {
        let ThreadedServer { core, broker, gate, readiness, refusals, board, .. } = self;
        Telling { worker: 0, readiness, refusals, board: board.as_deref() }.tell(core, broker, began, |snapshot| {
            snapshot.accept_errors = gate.errors();
            snapshot.accepts_paused = gate.is_paused();
        });
    }
}

impl Server for ThreadedServer {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn run(mut self) -> io::Result<usize> {
        // What is known before anybody has said anything is worth telling, too.
        self.tell(Instant::now());
        loop {
            let now = self.now();
            if drive::has_stopped(&self.core, &mut self.broker, self.stop_at, now) {
                return Ok(self.core.connections());
            }
            self.inbox.wait(self.timeout(), !is_pressed(&self.core, &self.broker));
            let began = Instant::now();
            self.turn();
            self.tell(began);
        }
    }
}

/// What the broker's threads have said, as much as a turn takes.
fn reports(inbox: &Inbox) -> impl Iterator<Item = Report> {
    let (began, mut taken) = (Instant::now(), 0);
    std::iter::from_fn(move || {
        taken += 1;
        let in_time = taken == 1 || taken <= REPORTS_PER_TURN && began.elapsed() < BROKER_TIME;
        in_time.then(|| inbox.broker().next()).flatten()
    })
}

/// No more places than there can be threads: whoever comes later is told so, and is not cut off.
fn within(threads: &Threads, places: Places, wanted: usize) -> Places {
    let possible = threads.connections_max();
    if wanted > possible {
        tracing::warn!(wanted, possible, "limits.connections_max is more than vm.max_map_count allows threads for");
    }
    Places { connections_max: places.connections_max.min(possible), ..places }
}

/// Starts a thread that waits for the first of this signal; the next one ends the process.
fn await_signal(mut signal: Signal, inbox: &Senders) -> io::Result<()> {
    let inbox = inbox.clients.clone();
    thread::Builder::new()
        .name("fanfare-signal".to_owned())
        .spawn(move || {
            if signal.pipe.read_exact(&mut [0]).is_ok() {
                // Nobody listens any more where the server has ended by itself.
                let _ = inbox.send(Inbound::Signal(signal.name));
            }
        })
        .map(drop)
}

fn feed(
    inbound: Inbound,
    turn: &mut Turn<'_>,
    connections: &mut Connections,
    gate: &Gate,
    (signalled, ending): (&mut Option<&'static str>, &mut Vec<ConnId>),
    now: Time,
) {
    match inbound {
        Inbound::Accepted(client, peer) => {
            // The gate lets in no more than the core takes.
            let Ok(conn) = turn.open_from(peer.ip()) else { return };
            journal::accepted(0, conn, peer);
            match connections.insert(conn, client) {
                Ok(()) => gate.granted(Lack::Thread),
                Err(error) => {
                    gate.refused(Lack::Thread, &error);
                    turn.feed(Event::Closed { conn });
                }
            }
        }
        // Its thread may have spoken just before it was closed here.
        Inbound::Bytes(conn, mut data) if connections.is_open(conn) => {
            connections.taken(conn);
            let began = Instant::now();
            turn.feed(Event::Bytes { conn, data: &mut data });
            connections.charge(conn, began.elapsed(), now);
        }
        Inbound::Ended(conn) if connections.is_open(conn) => ending.push(conn),
        Inbound::Writable(conn) if connections.is_open(conn) => turn.feed(Event::Writable { conn }),
        // A turn ends with the figures.
        Inbound::Bytes(..) | Inbound::Ended(_) | Inbound::Writable(_) | Inbound::Figures => {}
        Inbound::Signal(name) => *signalled = Some(name),
    }
}
