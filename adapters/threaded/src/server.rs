//! The thread that owns the core: it takes what the others have for it as one turn. What a turn does is in `steps.rs`.

use crate::accept;
use crate::broker::Broker;
use crate::connections::{Connections, Threads};
use crate::gate::Gate;
use crate::inbox::{Inbound, Inbox, Senders};
use crate::steps::{Adapter, TurnSteps};
use fanfare_adapter::api::Counter;
use fanfare_adapter::authentication::{Authenticator, Desk};
use fanfare_adapter::config::Config;
use fanfare_adapter::descriptors::{self, Places};
use fanfare_adapter::drive::{self, Telling, is_pressed};
use fanfare_adapter::hooks::{HookDesk, Hooks};
use fanfare_adapter::journal::Refusals;
use fanfare_adapter::listen::listen;
use fanfare_adapter::ops::Board;
use fanfare_adapter::page::page;
use fanfare_adapter::program::{Server, StartError, Surroundings};
use fanfare_adapter::readiness::{Readiness, RedisName};
use fanfare_adapter::settings::{Drawn, core_config};
use fanfare_adapter::signals::{self, Signal};
use fanfare_adapter::stopping::Stopping;
use fanfare_adapter::tls::Tls;
use fanfare_core::Core;
use fanfare_core::time::Time;
use fanfare_turn::turn;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// While the broker is behind, clients that make much work wait: so often the server looks whether it still is.
const PRESSED_RECHECK: Duration = Duration::from_millis(1);

/// The running server.
#[derive(Debug)]
pub struct ThreadedServer {
    address: SocketAddr,
    core: Core,
    adapter: Adapter,
    board: Option<Arc<Board>>,
    tls: Option<Tls>,
    started: Instant,
    refusals: Refusals,
}

impl ThreadedServer {
    /// Opens everything and starts the threads.
    ///
    /// # Errors
    /// What could not be opened, and why.
    pub fn start(config: &Config, surroundings: Surroundings) -> Result<ThreadedServer, StartError> {
        let Surroundings { board, tls, link, instance } = surroundings;
        let failed = StartError::of::<io::Error>;
        let threads = Threads::within_the_mappings();
        let places = descriptors::places(config, 1, descriptors::raise_limit()).map_err(StartError)?;
        let places = within(&threads, places, config.core.admission.connections_max);
        board.iter().for_each(|board| board.set_limits(config, places));
        let listener = listen(config.listen)?;
        let address = listener.local_addr().map_err(failed("cannot read the listener's address"))?;
        let drawn = Drawn::new().map_err(failed("cannot draw random numbers"))?;
        let (inbox, senders) = Inbox::new();
        for signal in signals::install(1).map_err(failed("cannot handle signals"))?.into_iter().flatten() {
            await_signal(signal, &senders).map_err(failed("cannot wait for signals"))?;
        }
        let core = core_config(config, places, drawn, page(&config.core.limits));
        let broker = Broker::new(config, &core, drawn)?;
        let credentials = Authenticator::start(config)?.map(|authenticator| {
            let clients = senders.clients.clone();
            authenticator.desk(0, move || {
                // If the queue is full, a turn is due anyway.
                let _ = clients.try_send(Inbound::Credentials);
            })
        });
        let counter = link.map(|link| {
            let clients = senders.clients.clone();
            Counter::new(&link, 0, move || {
                // If the queue is full, a turn is due anyway.
                let _ = clients.try_send(Inbound::Ordered);
            })
        });
        let hooks = Hooks::start(config, &instance)?.map(|hooks| {
            let clients = senders.clients.clone();
            hooks.desk(0, drawn, move || {
                // If the queue is full, a turn is due anyway.
                let _ = clients.try_send(Inbound::Decided);
            })
        });
        let gate = Gate::new(listener, places).map_err(failed("cannot make the listener non-blocking"))?;
        accept::start(&gate, senders.clients.clone()).map_err(failed("cannot start the thread that accepts"))?;
        Ok(ThreadedServer {
            address,
            core: Core::new(core),
            adapter: Adapter {
                inbox,
                connections: Connections::new(senders, threads, tls.clone()),
                gate,
                broker,
                credentials,
                counter,
                hooks,
                readiness: Readiness::alone(RedisName::of(&config.redis), board.clone()),
                stopping: Stopping::new(config),
                last_round: None,
                heavy_read_at: Time::ZERO,
                ending: Vec::new(),
            },
            board,
            tls,
            started: Instant::now(),
            refusals: Refusals::default(),
        })
    }

    fn now(&self) -> Time {
        Time::from_micros(self.started.elapsed().as_micros() as u64)
    }

    /// How long there is nothing to do unless somebody says something.
    fn timeout(&self) -> Option<Duration> {
        let Adapter { broker, connections, stopping, last_round, credentials, counter, hooks, .. } = &self.adapter;
        let is_asked = credentials.as_ref().is_some_and(Desk::is_ready)
            || counter.as_ref().is_some_and(Counter::is_ready)
            || hooks.as_ref().is_some_and(HookDesk::is_ready);
        if broker.is_ready() || is_asked {
            return Some(Duration::ZERO);
        }
        let round = last_round.map(|round| round.quiet_at.min(round.until));
        let next =
            [self.core.next_timeout(), broker.next_timeout(), stopping.stop_at(), round].into_iter().flatten().min();
        let next = next.map(|next| next.since(self.now()));
        let pressed = is_pressed(&self.core, broker).then_some(PRESSED_RECHECK);
        let look = connections.look_again_at().map(|at| at.saturating_duration_since(Instant::now()));
        let refusals = self.refusals.next_look().map(|at| at.saturating_duration_since(Instant::now()));
        next.into_iter().chain(look).chain(pressed).chain(refusals).min()
    }

    /// Publishes figures and readiness.
    fn tell(&mut self, began: Instant) {
        let ThreadedServer { core, adapter, refusals, board, tls, .. } = self;
        let Adapter { broker, gate, readiness, credentials, hooks, .. } = adapter;
        Telling { worker: 0, readiness, refusals, board: board.as_deref() }.tell(core, broker, began, |snapshot| {
            snapshot.auth_not_looked_at = credentials.as_ref().map_or(0, Desk::not_looked_at);
            snapshot.auth_bans_unseen_s = credentials.as_ref().map_or(0, Desk::bans_unseen_s);
            snapshot.accept_errors = gate.errors();
            snapshot.accepts_paused = gate.is_paused();
            if let Some(hooks) = hooks {
                hooks.describe(snapshot);
            }
            if let Some(tls) = tls {
                tls.describe(snapshot);
            }
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
            if drive::has_stopped(&self.core, &mut self.adapter.broker, self.adapter.stopping.stop_at(), now) {
                return Ok(self.core.connections());
            }
            let Adapter { inbox, broker, .. } = &self.adapter;
            let queues = broker.queues(self.core.is_congested());
            inbox.wait(self.timeout(), !is_pressed(&self.core, broker), queues);
            let began = Instant::now();
            let now = self.now();
            turn(&mut self.core, &mut TurnSteps::new(&mut self.adapter, now), now);
            if let Some(counter) = &mut self.adapter.counter {
                counter.collect(&mut self.core);
            }
            if let Some(hooks) = &mut self.adapter.hooks {
                hooks.collect(&mut self.core);
            }
            self.tell(began);
        }
    }
}

/// No more places than there can be threads: whoever comes later is told so, and is not cut off.
fn within(threads: &Threads, places: Places, wanted: usize) -> Places {
    let possible = threads.connections_max();
    if wanted > possible {
        tracing::warn!(wanted, possible, "limits.connections_max is more than vm.max_map_count allows threads for");
    }
    Places { connections_max: places.connections_max.min(possible), ..places }
}

/// Starts a thread that waits for this signal.
fn await_signal(mut signal: Signal, inbox: &Senders) -> io::Result<()> {
    let inbox = inbox.clients.clone();
    thread::Builder::new()
        .name("fanfare-signal".to_owned())
        .spawn(move || {
            while signal.pipe.read_exact(&mut [0]).is_ok() {
                // Nobody listens any more where the server has ended by itself.
                let _ = inbox.send(Inbound::Signal(signal.name));
            }
        })
        .map(drop)
}
