//! Many attackers in one thread: each sends its steps in its own rhythm, and comes back when it is thrown out.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use fanfare_bench::connection::{Connection, EVENTS_MAX, End, Heard, READ_BUFFER_BYTES};
use fanfare_bench::{Context, Result};
use mio::{Events, Poll, Token};

use super::attack::{Counters, say};

/// What all of them together send in a second at most, once everybody is in: they are to harm by what they send, not by how much.
const BYTES_PER_SECOND_MAX: f64 = 8e6;
/// What they may send at once after a pause: the largest burst of one attacker, several times.
const BYTES_BURST: f64 = 2e6;
/// How long whoever was not let in waits before it tries again.
const RETRY: Duration = Duration::from_millis(10);
/// The crowd looks at the clock that often.
const LOOK: Duration = Duration::from_millis(5);
/// It is not woken more often than that by the clock.
const GRAIN: Duration = Duration::from_micros(500);

/// One attacker.
#[derive(Clone)]
pub(crate) struct Part {
    pub(crate) address: SocketAddr,
    /// The request for an upgrade, and what follows it at once.
    pub(crate) request: Rc<[u8]>,
    /// Whether it reads. Whoever does not notices only that it has been hung up on.
    pub(crate) reads: bool,
    /// What it does over and over, from `first_after` on; nothing, if it only is there.
    pub(crate) round: Rc<[Step]>,
    /// From the moment at which all are in.
    pub(crate) first_after: Duration,
}

/// One write, and what is waited for after it.
#[derive(Clone)]
pub(crate) struct Step {
    pub(crate) bytes: Rc<[u8]>,
    /// How many of the attack's units it is.
    pub(crate) units: u64,
    /// So many texts must come before the next step.
    pub(crate) replies: usize,
    /// The next step is not before that much time has passed. Being thrown out changes nothing about it.
    pub(crate) pause: Duration,
}

/// An attacker at work.
struct Actor {
    part: Part,
    connection: Option<Connection>,
    step: usize,
    /// Replies that have not come yet.
    missing: usize,
    /// The next step, or the next attempt to come in, is not before that.
    due: Instant,
    may_enter: Instant,
    /// It has come in at least once, and sent what follows the upgrade.
    been_in: bool,
}

/// Attacks until the process is ended.
pub(crate) fn run(parts: Vec<Part>, counters: &Counters) -> Result<Infallible> {
    let mut poll = Poll::new().context("cannot make an epoll")?;
    let mut events = Events::with_capacity(EVENTS_MAX);
    let mut buffer = vec![0; READ_BUFFER_BYTES];
    let now = Instant::now();
    let mut actors: Vec<Actor> = parts.into_iter().map(|part| Actor::new(part, now)).collect();
    let (mut ready, mut budget, mut looked_at) = (false, f64::INFINITY, now);
    loop {
        for event in &events {
            let actor = &mut actors[event.token().0];
            let hung_up = event.is_read_closed() || event.is_error();
            let sent = actor.turn(hung_up, &mut buffer, counters);
            budget -= sent as f64;
        }
        let now = Instant::now();
        if !ready && actors.iter().all(|actor| actor.been_in) {
            ready = true;
            budget = BYTES_BURST;
            actors.iter_mut().for_each(|actor| actor.due = now + actor.part.first_after);
            say("ready");
        }
        budget = (budget + now.duration_since(looked_at).as_secs_f64() * BYTES_PER_SECOND_MAX).min(match ready {
            true => BYTES_BURST,
            false => f64::INFINITY,
        });
        looked_at = now;
        let mut next = now + LOOK;
        for (index, actor) in actors.iter_mut().enumerate() {
            if budget > 0.0 {
                budget -= actor.act(now, ready, poll.registry(), Token(index), counters)? as f64;
            }
            next = next.min(actor.wakes_at(now).max(now + GRAIN));
        }
        poll.poll(&mut events, Some(next.duration_since(now))).context("cannot wait for events")?;
    }
}

impl Actor {
    fn new(part: Part, now: Instant) -> Actor {
        Actor { part, connection: None, step: 0, missing: 0, due: now, may_enter: now, been_in: false }
    }

    /// Takes what an event brings; the bytes that were sent.
    fn turn(&mut self, hung_up: bool, buffer: &mut [u8], counters: &Counters) -> usize {
        let Some(connection) = &mut self.connection else { return 0 };
        let mut texts = 0;
        // Until it is upgraded, one that does not read must look for the answer.
        let heard = if self.part.reads || !connection.is_upgraded() {
            connection.read(buffer, |heard, _| {
                texts += usize::from(matches!(heard, Heard::Text(_)));
                Ok(())
            })
        } else if hung_up {
            Err(End::Gone)
        } else {
            Ok(())
        };
        self.missing = self.missing.saturating_sub(texts);
        let sent = heard.and_then(|()| connection.flush());
        self.settle(sent, counters)
    }

    /// Comes in or takes the next step, if it is time; the bytes that were sent.
    fn act(
        &mut self,
        now: Instant,
        ready: bool,
        registry: &mio::Registry,
        token: Token,
        counters: &Counters,
    ) -> Result<usize> {
        let Some(connection) = &mut self.connection else {
            if now < self.may_enter {
                return Ok(0);
            }
            let mut connection =
                Connection::open(self.part.address, registry, token).context("cannot open a connection")?;
            connection.unsent().extend_from_slice(&self.part.request);
            (self.step, self.missing) = (0, 0);
            let sent = connection.flush();
            self.connection = Some(connection);
            return Ok(self.settle(sent, counters));
        };
        self.been_in |= connection.is_upgraded() && connection.is_flushed();
        let Some(step) = self.part.round.get(self.step) else { return Ok(0) };
        if !ready || !connection.is_upgraded() || !connection.is_flushed() || self.missing > 0 || now < self.due {
            return Ok(0);
        }
        connection.unsent().extend_from_slice(&step.bytes);
        self.missing = step.replies;
        // Whoever is late catches up on one step, not on all that it has missed.
        self.due = (self.due + step.pause).max(now.checked_sub(step.pause).unwrap_or(now));
        self.step = (self.step + 1) % self.part.round.len();
        counters.done.fetch_add(step.units, Ordering::Relaxed);
        let sent = connection.flush();
        Ok(self.settle(sent, counters))
    }

    /// When the clock has something for it; everything else is an event.
    fn wakes_at(&self, now: Instant) -> Instant {
        match &self.connection {
            None => self.may_enter,
            Some(_) if self.part.round.is_empty() || self.missing > 0 => now + LOOK,
            Some(_) => self.due,
        }
    }

    fn settle(&mut self, sent: std::result::Result<usize, End>, counters: &Counters) -> usize {
        match sent {
            Ok(bytes) => {
                counters.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
                bytes
            }
            Err(_) => {
                let was_in = self.connection.take().is_some_and(|connection| connection.is_upgraded());
                counters.ended.fetch_add(u64::from(was_in), Ordering::Relaxed);
                self.may_enter = if was_in { Instant::now() } else { Instant::now() + RETRY };
                0
            }
        }
    }
}
