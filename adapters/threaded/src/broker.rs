//! Which broker this instance uses: the embedded one, or Redis.

use crate::redis::{News, RedisLinks};
use crossbeam_channel::Receiver;
use fanfare_adapter::config::Config;
use fanfare_adapter::drive::{self, MEMORY_BYTES_PER_TURN, MEMORY_BYTES_PRESSING};
use fanfare_adapter::ops::Snapshot;
use fanfare_adapter::program::StartError;
use fanfare_adapter::redis_tls::RedisTls;
use fanfare_adapter::settings::{Drawn, session_config};
use fanfare_adapter::sign_in::SignIns;
use fanfare_core::broker::memory::MemoryBroker;
use fanfare_core::broker::{Ask, BrokerEvent};
use fanfare_core::time::Time;
use std::time::Duration;

/// The broker.
#[derive(Debug)]
pub enum Broker {
    /// In this process: the instance stands alone.
    Memory(Box<MemoryBroker>),
    /// Redis, shared with other instances.
    Redis(Box<RedisLinks>),
}

impl Broker {
    /// The one that is configured.
    ///
    /// # Errors
    /// What is wrong with the files of TLS to Redis.
    pub fn new(config: &Config, core: &fanfare_core::Config, drawn: Drawn) -> Result<Broker, StartError> {
        Ok(match &config.redis.target {
            None => Broker::Memory(Box::new(MemoryBroker::new(core))),
            Some(target) => {
                let session = session_config(config, target, drawn);
                let links = RedisLinks::new(session, SignIns::new(config), RedisTls::of(config)?);
                Broker::Redis(Box::new(links))
            }
        })
    }

    /// Where threads tell what is to be read; while the hub is `congested`, without messages.
    pub fn queues(&self, congested: bool) -> impl Iterator<Item = &Receiver<News>> {
        let redis = match self {
            Broker::Memory(_) => None,
            Broker::Redis(redis) => Some(redis),
        };
        redis.into_iter().flat_map(move |redis| redis.queues(congested))
    }

    /// Whether there is something to report without waiting for anybody.
    pub fn is_ready(&self) -> bool {
        match self {
            Broker::Memory(memory) => memory.has_events(),
            Broker::Redis(redis) => redis.is_ready(),
        }
    }

    /// What waits for a connection is refused from now on, because the server is about to end.
    pub fn stop_waiting(&mut self) {
        if let Broker::Redis(redis) = self {
            redis.session().stop_waiting();
        }
    }

    /// All clients have gone, and the server is about to end: who does not come back elsewhere within this time is there no more.
    pub fn give_back(&mut self, linger: Duration) {
        if let Broker::Redis(redis) = self {
            redis.session().give_back(linger);
        }
    }

    /// When there will be something to do, if nobody says anything before.
    pub fn next_timeout(&self) -> Option<Time> {
        match self {
            Broker::Memory(_) => None,
            Broker::Redis(redis) => redis.next_timeout(),
        }
    }

    /// Takes an `Action::Ask`.
    pub fn ask(&mut self, ask: Ask<'_>) {
        match self {
            Broker::Memory(memory) => drive::ask_memory(memory, ask),
            Broker::Redis(redis) => redis.session().ask(ask),
        }
    }

    /// Reports what the hub has to hear, as much as a turn takes; while the hub is `congested`, no messages.
    pub fn read(&mut self, now: Time, congested: bool, report: impl FnMut(BrokerEvent<'_>)) {
        match self {
            Broker::Redis(redis) => redis.read(now, congested, report),
            Broker::Memory(_) if congested => {}
            Broker::Memory(memory) => memory.poll_some(MEMORY_BYTES_PER_TURN, report),
        }
    }

    /// Sends everything that was asked in this turn.
    pub fn drive(&mut self, now: Time) {
        if let Broker::Redis(redis) = self {
            redis.drive(now);
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
            Broker::Redis(redis) => redis.session().stats().publishes_in_flight,
        }
    }

    fn describe(&mut self, snapshot: &mut Snapshot) {
        match self {
            Broker::Memory(_) => snapshot.set_links_up(),
            Broker::Redis(redis) => snapshot.set_redis(redis.session()),
        }
    }
}
