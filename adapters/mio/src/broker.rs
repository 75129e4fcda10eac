//! Which broker this instance uses: the embedded one, alone or shared by several workers, or Redis.

use crate::exchange::ExchangeLink;
use crate::redis_link::RedisLinks;
use fanfare_adapter::drive::{self, MEMORY_BYTES_PER_TURN, MEMORY_BYTES_PRESSING};
use fanfare_adapter::ops::Snapshot;
use fanfare_core::broker::memory::MemoryBroker;
use fanfare_core::broker::{Ask, BrokerEvent};
use fanfare_core::time::Time;
use mio::{Registry, Token};
use std::time::Duration;

/// The broker.
#[derive(Debug)]
pub enum Broker {
    /// In this process: the instance stands alone.
    Memory(MemoryBroker),
    /// In this process, shared with the other workers.
    Exchange(ExchangeLink),
    /// Redis, shared with other instances.
    Redis(Box<RedisLinks>),
}

impl Broker {
    /// Notes a readiness event of one of the broker's sockets.
    pub fn event(&mut self, token: Token, event: &mio::event::Event) {
        if let Broker::Redis(redis) = self {
            redis.event(token, event);
        }
    }

    /// Takes an `Action::Ask`.
    pub fn ask(&mut self, ask: Ask<'_>) {
        match self {
            Broker::Memory(memory) => drive::ask_memory(memory, ask),
            Broker::Exchange(exchange) => exchange.ask(ask),
            Broker::Redis(redis) => redis.session().ask(ask),
        }
    }

    /// Reports what the hub has to hear, as much as a turn takes; while the hub is `congested`, no messages.
    pub fn read(
        &mut self,
        buffer: &mut [u8],
        registry: &Registry,
        now: Time,
        congested: bool,
        report: impl FnMut(BrokerEvent<'_>),
    ) {
        match self {
            Broker::Redis(redis) => redis.read(buffer, registry, now, congested, report),
            _ if congested => {}
            Broker::Memory(memory) => memory.poll_some(MEMORY_BYTES_PER_TURN, report),
            Broker::Exchange(exchange) => exchange.read(report),
        }
    }

    /// Sends everything that was asked in this turn.
    pub fn drive(&mut self, registry: &Registry, now: Time) {
        if let Broker::Redis(redis) = self {
            redis.drive(registry, now);
        }
    }

    /// Whether there is something to report already.
    pub fn is_ready(&self) -> bool {
        match self {
            Broker::Memory(memory) => memory.has_events(),
            Broker::Exchange(exchange) => exchange.is_ready(),
            Broker::Redis(redis) => redis.is_ready(),
        }
    }

    /// Whether what was asked in a turn can be reported without waiting for anything.
    pub fn answers_at_once(&self) -> bool {
        !matches!(self, Broker::Redis(_)) && self.is_ready()
    }

    /// What waits for a connection to Redis is refused from now on, because the server is about to end.
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

    /// When there will be something to do, if nothing happens before.
    pub fn next_timeout(&mut self) -> Option<Time> {
        match self {
            Broker::Memory(_) | Broker::Exchange(_) => None,
            Broker::Redis(redis) => redis.session().next_timeout(),
        }
    }
}

impl drive::Broker for Broker {
    fn is_pressed(&self) -> bool {
        match self {
            Broker::Memory(memory) => memory.size_bytes() >= MEMORY_BYTES_PRESSING,
            Broker::Exchange(exchange) => exchange.is_pressed(),
            // What it cannot take is refused at once: of a Redis that hangs, clients have to be told.
            Broker::Redis(_) => false,
        }
    }

    fn publishes_in_flight(&mut self) -> usize {
        match self {
            Broker::Memory(_) | Broker::Exchange(_) => 0,
            Broker::Redis(redis) => redis.session().stats().publishes_in_flight,
        }
    }

    fn describe(&mut self, snapshot: &mut Snapshot) {
        match self {
            Broker::Memory(_) => snapshot.set_links_up(),
            Broker::Exchange(exchange) => {
                snapshot.set_links_up();
                snapshot.broker_publishes_dropped = exchange.publishes_dropped();
            }
            Broker::Redis(redis) => snapshot.set_redis(redis.session()),
        }
    }
}
