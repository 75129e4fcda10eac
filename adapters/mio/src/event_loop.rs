//! The loop: one thread, one poll, one core. It sleeps until something is ready or due, and has a turn. What a turn does is in
//! `steps.rs`.

use crate::admission::Admission;
use crate::broker::Broker;
use crate::exchange::ExchangeLink;
use crate::redis_link::RedisLinks;
use crate::sockets::{READ_BYTES, Sockets};
use crate::steps::{Adapter, LISTENER, REDIS, SIGNALS, SignalPipe, TurnSteps, WAKER};
use crate::worker::WorkerContext;
use fanfare_adapter::api::Counter;
use fanfare_adapter::authentication::Desk;
use fanfare_adapter::config::Config;
use fanfare_adapter::drive::{self, Telling, is_pressed};
use fanfare_adapter::hooks::HookDesk;
use fanfare_adapter::journal::Refusals;
use fanfare_adapter::program::StartError;
use fanfare_adapter::redis_tls::RedisTls;
use fanfare_adapter::settings::{Drawn, core_config, session_config};
use fanfare_adapter::sign_in::SignIns;
use fanfare_adapter::signals::Signal;
use fanfare_adapter::stopping::Stopping;
use fanfare_core::Core;
use fanfare_core::broker::memory::MemoryBroker;
use fanfare_core::time::Time;
use fanfare_turn::turn;
use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Waker};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Readiness events per turn. More wait in the kernel, first come first served.
const EVENTS_PER_TURN: usize = 1_024;
/// Redis, which brings the messages of all, is read with a larger buffer than a client.
const BUFFER_BYTES: usize = 64 * 1024;
const _: () = assert!(READ_BYTES <= BUFFER_BYTES, "a client is read into the same buffer");

/// A worker hears nothing of connections that others open and close. So often it looks whether there are places again, or whether
/// pending connections of its own have to make room.
const PLACES_RECHECK: Duration = Duration::from_millis(100);

/// While the broker is behind, clients that make much work wait: so often the loop looks whether it still is.
const PRESSED_RECHECK: Duration = Duration::from_millis(1);

/// The running server, or one worker of it.
#[derive(Debug)]
pub struct Server {
    poll: Poll,
    core: Core,
    adapter: Adapter,
    started: Instant,
    refusals: Refusals,
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
        // A poll has one waker.
        let needs_waker = context.exchange.is_some()
            || context.authenticator.is_some()
            || context.link.is_some()
            || context.hooks.is_some()
            || config.redis.target.is_some();
        let waker = match needs_waker {
            true => Some(Arc::new(Waker::new(registry, WAKER).map_err(failed("cannot make a waker"))?)),
            false => None,
        };
        let credentials = context.authenticator.as_ref().zip(waker.clone()).map(|(authenticator, waker)| {
            authenticator.desk(context.worker, move || {
                // A poll that cannot be woken looks by itself when its next deadline comes.
                let _ = waker.wake();
            })
        });
        let counter = context.link.as_ref().zip(waker.clone()).map(|(link, waker)| {
            Counter::new(link, context.worker, move || {
                let _ = waker.wake();
            })
        });
        let hooks = context.hooks.as_ref().zip(waker.clone()).map(|(hooks, waker)| {
            hooks.desk(context.worker, drawn, move || {
                let _ = waker.wake();
            })
        });
        let core = core_config(config, context.places, drawn, context.page);
        let broker = match (&config.redis.target, &context.exchange, waker) {
            (None, Some(exchange), Some(waker)) => {
                Broker::Exchange(ExchangeLink::new(Arc::clone(exchange), context.worker, waker))
            }
            (None, ..) => Broker::Memory(MemoryBroker::new(&core)),
            (Some(target), _, waker) => {
                let session = session_config(config, target, drawn);
                let waker = waker.expect("Redis needs one");
                let (sign_ins, tls) = (SignIns::new(config), RedisTls::of(config)?);
                let links = RedisLinks::new(session, sign_ins, tls, REDIS, waker);
                Broker::Redis(Box::new(links.map_err(failed("cannot start the resolver"))?))
            }
        };
        let core = Core::new(core);
        let admission = Admission::new(listener, context.places, Arc::clone(&context.counts));
        let adapter = Adapter {
            sockets: Sockets::new(context.tls.clone()),
            context,
            admission,
            broker,
            credentials,
            counter,
            hooks,
            signals,
            buffer: vec![0; BUFFER_BYTES].into(),
            stopping: Stopping::new(config),
            reads_until: None,
            heavy_read_at: Time::ZERO,
        };
        Ok(Server { poll, core, adapter, started: Instant::now(), refusals: Refusals::default() })
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
            let now = self.now();
            let mut steps = TurnSteps::new(&mut self.adapter, self.poll.registry(), &events, now);
            turn(&mut self.core, &mut steps, now);
            if let Some(counter) = &mut self.adapter.counter {
                counter.collect(&mut self.core);
            }
            if let Some(hooks) = &mut self.adapter.hooks {
                hooks.collect(&mut self.core);
            }
            self.tell(began);
            let now = self.now();
            if drive::has_stopped(&self.core, &mut self.adapter.broker, self.adapter.stopping.stop_at(), now) {
                return Ok(self.core.connections());
            }
        }
    }

    fn now(&self) -> Time {
        Time::from_micros(self.started.elapsed().as_micros() as u64)
    }

    /// How long the poll may sleep.
    fn timeout(&mut self) -> Option<Duration> {
        let now = self.now();
        let Adapter { admission, broker, sockets, stopping, reads_until, credentials, counter, hooks, .. } =
            &mut self.adapter;
        if hooks.as_ref().is_some_and(HookDesk::is_ready) {
            return Some(Duration::ZERO);
        }
        if credentials.as_ref().is_some_and(Desk::is_ready) || counter.as_ref().is_some_and(Counter::is_ready) {
            return Some(Duration::ZERO);
        }
        if admission.is_ready() || reads_until.is_some() || broker.is_ready() || sockets.ready_light() > 0 {
            return Some(Duration::ZERO);
        }
        let waits = sockets.ready() > 0;
        if waits && !is_pressed(&self.core, broker) {
            return Some(Duration::ZERO);
        }
        let pressed = waits.then(|| now + PRESSED_RECHECK);
        let recheck = admission.depends_on_others().then(|| now + PLACES_RECHECK);
        let (core, broker) = (self.core.next_timeout(), broker.next_timeout());
        let next = [core, broker, admission.next_timeout(), recheck, stopping.stop_at(), pressed];
        let next = next.into_iter().flatten().min().map(|next| next.since(now));
        let look = self.refusals.next_look().map(|at| at.saturating_duration_since(Instant::now()));
        next.into_iter().chain(look).min()
    }

    /// Publishes figures and readiness.
    fn tell(&mut self, began: Instant) {
        let Adapter { context, admission, broker, credentials, hooks, .. } = &mut self.adapter;
        let WorkerContext { worker, readiness, board, tls, .. } = context;
        let telling = Telling { worker: *worker, readiness, refusals: &mut self.refusals, board: board.as_deref() };
        telling.tell(&mut self.core, broker, began, |snapshot| {
            snapshot.auth_not_looked_at = credentials.as_ref().map_or(0, Desk::not_looked_at);
            snapshot.auth_bans_unseen_s = credentials.as_ref().map_or(0, Desk::bans_unseen_s);
            snapshot.accept_errors = admission.errors();
            snapshot.accepts_paused = admission.is_paused();
            if let Some(hooks) = hooks {
                hooks.describe(snapshot);
            }
            if let Some(tls) = tls {
                tls.describe(snapshot);
            }
        });
    }
}
