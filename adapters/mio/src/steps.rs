//! What a turn does, step by step, within bounds. The order of the steps is `fanfare-turn`'s.

use crate::admission::Admission;
use crate::broker::Broker;
use crate::sockets::{READ_BYTES, Sockets, Taken};
use crate::worker::WorkerContext;
use fanfare_adapter::api::Counter;
use fanfare_adapter::authentication::Desk;
use fanfare_adapter::drive::is_pressed;
use fanfare_adapter::hooks::HookDesk;
use fanfare_adapter::journal;
use fanfare_adapter::signals::Signal;
use fanfare_adapter::stopping::{Reading, Stopping};
use fanfare_core::broker::Ask;
use fanfare_core::time::Time;
use fanfare_core::{Authenticate, ConnId, Core, Event, Proposal, Turn};
use fanfare_turn::{Steps, Stop};
use mio::net::UnixStream;
use mio::{Events, Registry, Token};
use std::io::{self, Read};
use std::time::{Duration, Instant};

// A connection's token is its id. The tokens of everything else are higher than any id: its generation would have to reach 2^32 - 1.
pub(crate) const LISTENER: Token = Token(usize::MAX);
pub(crate) const SIGNALS: [Token; 2] = [Token(usize::MAX - 1), Token(usize::MAX - 2)];
pub(crate) const WAKER: Token = Token(usize::MAX - 3);
/// Of the first link to Redis. Each further link has the next below, down to the last above all ids.
pub(crate) const REDIS: Token = Token(usize::MAX - 4);
const REDIS_LAST: Token = Token(usize::MAX << 32);
const _: () = assert!(usize::BITS >= 64, "a token has to hold the generation of an id, too");

/// How long a turn takes new connections: a storm of them must not hold up those who are here.
const ACCEPT_TIME: Duration = Duration::from_micros(100);
/// Time a turn spends reading clients. A message leaves when its turn ends, and may first wait for the turn before, so this bounds its
/// delay. Long enough for a hundred clients' commands.
const READ_TIME: Duration = Duration::from_micros(200);
/// Reads are bounded as well, because a client that was read is also written to, which takes longer, or closed.
const READS_PER_TURN: usize = 256;
/// While there is too much to do, clients that make much work have to wait. One of them is read this often all the same, because a
/// client that keeps the rules must not wait for those that do not.
const HEAVY_PAUSE: Duration = Duration::from_millis(2);
/// A signal's pipe on the poll, where reading must not block.
#[derive(Debug)]
pub(crate) struct SignalPipe {
    name: &'static str,
    pub(crate) pipe: UnixStream,
}

impl SignalPipe {
    pub(crate) fn new(signal: Signal) -> io::Result<SignalPipe> {
        signal.pipe.set_nonblocking(true)?;
        Ok(SignalPipe { name: signal.name, pipe: UnixStream::from_std(signal.pipe) })
    }

    /// The signal's name, and how often it has come since the last call, if it has.
    fn take(&mut self) -> Option<(&'static str, usize)> {
        let times = self.pipe.read(&mut [0; 16]).ok()?;
        (times > 0).then_some((self.name, times))
    }
}

/// What a worker has beside its poll and its core.
#[derive(Debug)]
pub(crate) struct Adapter {
    pub(crate) context: WorkerContext,
    pub(crate) sockets: Sockets,
    pub(crate) admission: Admission,
    pub(crate) broker: Broker,
    /// Where credentials are handed in, where clients are asked who they are.
    pub(crate) credentials: Option<Desk>,
    /// Where what backends ask comes in, where they can.
    pub(crate) counter: Option<Counter>,
    /// Where webhooks are asked, where rules name any.
    pub(crate) hooks: Option<HookDesk>,
    pub(crate) signals: [SignalPipe; 2],
    pub(crate) buffer: Box<[u8]>,
    pub(crate) stopping: Stopping,
    /// Until then it reads what clients had sent before it was told to stop.
    pub(crate) reads_until: Option<Time>,
    /// When one of those who make much work was read last.
    pub(crate) heavy_read_at: Time,
}

/// One turn of a worker.
pub(crate) struct TurnSteps<'a> {
    adapter: &'a mut Adapter,
    registry: &'a Registry,
    events: &'a Events,
    now: Time,
    /// Connections that may be upgraded in this turn, as far as others are concerned.
    heads: usize,
    /// The signal that has come, and how often.
    signalled: Option<(&'static str, usize)>,
    /// The poll has told of a client.
    spoke: bool,
    /// No other worker has been told to stop before.
    is_first_to_stop: bool,
}

impl<'a> TurnSteps<'a> {
    /// The turn after these events.
    pub(crate) fn new(
        adapter: &'a mut Adapter,
        registry: &'a Registry,
        events: &'a Events,
        now: Time,
    ) -> TurnSteps<'a> {
        TurnSteps { adapter, registry, events, now, heads: 0, signalled: None, spoke: false, is_first_to_stop: false }
    }
}

impl Steps for TurnSteps<'_> {
    type Sockets = Sockets;

    fn events(&mut self, turn: &mut Turn<'_>) {
        let Adapter { sockets, admission, broker, signals, context, .. } = &mut *self.adapter;
        if admission.has_others() {
            self.heads = turn.core().metrics().pending_upgrades_now as usize;
        }
        for event in self.events {
            match event.token() {
                LISTENER => admission.edge(),
                WAKER => {}
                token if (REDIS_LAST..=REDIS).contains(&token) => broker.event(token, event),
                token if SIGNALS.contains(&token) => {
                    let signal = signals.iter_mut().filter_map(SignalPipe::take).next();
                    self.signalled = signal.or(self.signalled);
                }
                Token(bits) => {
                    self.spoke = true;
                    let conn = ConnId::from_bits(bits as u64);
                    if sockets.event(conn, event) {
                        turn.feed(Event::Writable { conn });
                    }
                }
            }
        }
        // What becomes of Redis from here on is worth no line in the log.
        self.is_first_to_stop = self.signalled.is_some() && context.readiness.stop();
    }

    fn broker(&mut self, turn: &mut Turn<'_>, congested: bool) {
        let Adapter { broker, buffer, .. } = &mut *self.adapter;
        broker.read(buffer, self.registry, self.now, congested, |event| turn.feed(Event::Broker(event)));
    }

    fn readiness(&mut self, readiness: Result<(), &str>) {
        self.adapter.context.readiness.tell(readiness);
    }

    fn accept(&mut self, turn: &mut Turn<'_>) {
        let Adapter { sockets, admission, context, .. } = &mut *self.adapter;
        self.heads += accept(admission, sockets, turn, context.worker, self.now);
    }

    fn reserve(&mut self, turn: &mut Turn<'_>) {
        let Adapter { sockets, admission, context, credentials, .. } = &mut *self.adapter;
        // Upgrades that have waited for their credential are answered in this turn, too.
        let verified = credentials.as_mut().map_or(0, Desk::collect);
        if let Some(elsewhere) = admission.reserve(self.heads.min(sockets.ready() + verified)) {
            turn.feed(Event::Elsewhere(elsewhere));
            if let Some(readiness) = context.readiness.of_others() {
                turn.feed(Event::ReadyElsewhere(readiness.as_ref().copied().map_err(String::as_str)));
            }
        }
    }

    fn credentials(&mut self, turn: &mut Turn<'_>) {
        if let Some(desk) = &mut self.adapter.credentials {
            desk.feed(turn, self.now);
        }
    }

    fn clients(&mut self, turn: &mut Turn<'_>) {
        if let Some(hooks) = &mut self.adapter.hooks {
            hooks.feed(turn);
        }
        if let Some(counter) = &mut self.adapter.counter {
            counter.feed(turn);
        }
        let Adapter { sockets, broker, buffer, heavy_read_at, .. } = &mut *self.adapter;
        // What is kept unread in the core has its turn by itself, and is as much work as one of those who make much.
        let heavy_max = match is_pressed(turn.core(), broker) {
            false => usize::MAX,
            true => usize::from(self.now.since(*heavy_read_at) >= HEAVY_PAUSE),
        };
        if read(sockets, &mut buffer[..READ_BYTES], self.registry, turn, heavy_max, self.now) {
            *heavy_read_at = self.now;
        }
    }

    fn has_unread(&mut self, conn: ConnId) -> bool {
        self.adapter.sockets.has_unread(conn)
    }

    fn stops(&mut self, _core: &Core) -> Option<Stop> {
        let (adapter, now) = (&mut *self.adapter, self.now);
        let is_told = self.is_first_to_stop || adapter.stopping.wanted().is_some() && adapter.context.worker == 0;
        if let Some((signal, times)) = self.signalled
            && let Some(reading) = adapter.stopping.signalled(signal, times, now)
        {
            if is_told {
                adapter.stopping.log(signal, adapter.admission.connections());
            }
            adapter.reads_until = Some(match reading {
                Reading::UntilTheyGo => now,
                Reading::LastRound(time) => {
                    adapter.admission.close(self.registry);
                    now + time
                }
            });
            // The poll has told of nothing that came since it was last asked.
            self.spoke = true;
        }
        let has_read_all = !self.spoke && adapter.sockets.ready() == 0;
        adapter.reads_until.take_if(|until| has_read_all || *until <= now)?;
        adapter.stopping.wanted()
    }

    fn release(&mut self, core: &Core) {
        self.adapter.admission.release(core);
    }

    fn is_answered(&self) -> bool {
        self.adapter.broker.answers_at_once()
    }

    fn settle(&mut self, core: &Core) {
        let Adapter { sockets, admission, broker, stopping, .. } = &mut *self.adapter;
        if !core.takes_newcomers() {
            admission.close(self.registry);
            if core.connections() == 0 {
                broker.stop_waiting();
                broker.give_back(stopping.presence_linger());
            }
        }
        admission.settle(core, sockets.len(), self.now);
        self.send_asks();
    }

    fn send_asks(&mut self) {
        self.adapter.broker.drive(self.registry, self.now);
    }

    fn ask(&mut self, ask: Ask<'_>) {
        self.adapter.broker.ask(ask);
    }

    fn authenticate(&mut self, asked: Authenticate<'_>) {
        let desk = self.adapter.credentials.as_mut();
        desk.expect("it is there wherever clients are asked who they are").ask(asked);
    }

    fn propose(&mut self, proposal: Proposal<'_>) {
        let desk = self.adapter.hooks.as_mut();
        desk.expect("it is there wherever a rule names a hook").propose(proposal);
    }

    fn sockets(&mut self) -> &mut Sockets {
        &mut self.adapter.sockets
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
        sockets.insert(conn, stream, peer.ip());
        admission.opened();
        if began.get_or_insert_with(Instant::now).elapsed() >= ACCEPT_TIME {
            return accepted;
        }
    }
    accepted
}

/// Reads from clients that are ready, each once, until the time for it is up. Of those that make much work, it reads at most
/// `heavy_max`. Returns whether one of these was read.
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
            Taken::Last(data) => turn.feed(Event::Bytes { conn, data }),
            Taken::Some(data) => {
                turn.feed(Event::Bytes { conn, data });
                has_more = true;
            }
            Taken::Other => has_more = true,
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
