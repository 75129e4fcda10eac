//! Which broker this instance uses: the embedded one, or Redis.

use crate::inbox::Senders;
use crate::redis::{RedisLinks, Report};
use fanfare_adapter::config::Config;
use fanfare_adapter::drive::{self, MEMORY_BYTES_PER_TURN, MEMORY_BYTES_PRESSING};
use fanfare_adapter::ops::Snapshot;
use fanfare_adapter::settings::{Drawn, session_config};
use fanfare_core::broker::memory::MemoryBroker;
use fanfare_core::broker::{Ask, BrokerEvent};
use std::io;
use std::time::Instant;

/// The broker.
#[derive(Debug)]
pub enum Broker {
    /// In this process: the instance stands alone.
    Memory(MemoryBroker),
    /// Redis, shared with other instances.
    Redis(RedisLinks),
}

impl Broker {
    /// The one that is configured. Threads that speak with Redis report to the inbox.
    ///
    /// # Errors
    /// If they cannot be made.
    pub fn start(config: &Config, core: &fanfare_core::Config, drawn: Drawn, inbox: &Senders) -> io::Result<Broker> {
        Ok(match &config.redis.target {
            None => Broker::Memory(MemoryBroker::new(core)),
            Some(target) => {
                let session = session_config(config, target, drawn);
                Broker::Redis(RedisLinks::start(session, &inbox.broker)?)
            }
        })
    }

    /// Whether there is something to report without waiting for anybody.
    pub fn is_ready(&self) -> bool {
        match self {
            Broker::Memory(memory) => memory.has_events(),
            Broker::Redis(redis) => redis.has_refusals(),
        }
    }

    /// What waits for a connection is refused from now on, because the server is about to end.
    pub fn stop_waiting(&mut self) {
        if let Broker::Redis(redis) = self {
            redis.stop_waiting();
        }
    }

    /// When there will be something to report, if nobody says anything before.
    pub fn next_timeout(&self) -> Option<Instant> {
        match self {
            Broker::Memory(_) => None,
            Broker::Redis(redis) => redis.next_timeout(),
        }
    }

    /// Takes an `Action::Ask`.
    pub fn ask(&mut self, ask: Ask<'_>) {
        match self {
            Broker::Memory(memory) => drive::ask_memory(memory, ask),
            Broker::Redis(redis) => redis.ask(ask),
        }
    }

    /// Reports what the hub has to hear, as much as a turn takes: of Redis, what `reports` says and what was refused here.
    pub fn read(&mut self, reports: impl Iterator<Item = Report>, mut report: impl FnMut(BrokerEvent<'_>)) {
        match self {
            Broker::Memory(memory) => memory.poll_some(MEMORY_BYTES_PER_TURN, report),
            Broker::Redis(redis) => {
                reports.for_each(|said| redis.note(said, &mut report));
                redis.refusals(report);
            }
        }
    }
}

impl drive::Broker for Broker {
    fn is_pressed(&self) -> bool {
        match self {
            Broker::Memory(memory) => memory.size_bytes() >= MEMORY_BYTES_PRESSING,
            // What it cannot take is refused at once: of a Redis that hangs, clients have to be told.
            Broker::Redis(_) => false,
        }
    }

    fn publishes_in_flight(&mut self) -> usize {
        match self {
            Broker::Memory(_) => 0,
            Broker::Redis(redis) => redis.publishes_in_flight(),
        }
    }

    fn describe(&mut self, snapshot: &mut Snapshot) {
        match self {
            Broker::Memory(_) => snapshot.set_links_up(),
            Broker::Redis(redis) => redis.describe(snapshot),
        }
    }
}
