//! Which broker this instance uses: the embedded one, or Redis.

use crate::inbox::Senders;
use crate::redis::{RedisLinks, Report};
use fanfare_adapter::config::Config;
use fanfare_adapter::ops::Snapshot;
use fanfare_adapter::settings::{Drawn, session_config};
use fanfare_core::broker::memory::MemoryBroker;
use fanfare_core::broker::{BrokerEvent, PublishId};
use std::io;

/// Of messages from the embedded broker that are reported in one turn: some hundreds of the usual size, or one of the largest.
const BYTES_PER_TURN: usize = 64 * 1024;
/// What waits in the embedded broker from which on clients that make much work are not heard.
const MEMORY_BYTES_PRESSING: usize = 1024 * 1024;

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
    pub fn start(config: &Config, drawn: Drawn, inbox: &Senders) -> io::Result<Broker> {
        Ok(match &config.redis.target {
            None => Broker::Memory(MemoryBroker::default()),
            Some(target) => {
                let session = session_config(&config.redis, target, drawn);
                Broker::Redis(RedisLinks::start(session, &target.address, &inbox.broker)?)
            }
        })
    }

    /// Takes an `Action::Subscribe`.
    pub fn subscribe(&mut self, room: &str) {
        match self {
            Broker::Memory(memory) => memory.subscribe(room),
            Broker::Redis(redis) => redis.subscribe(room),
        }
    }

    /// Takes an `Action::Unsubscribe`.
    pub fn unsubscribe(&mut self, room: &str) {
        match self {
            Broker::Memory(memory) => memory.unsubscribe(room),
            Broker::Redis(redis) => redis.unsubscribe(room),
        }
    }

    /// Takes an `Action::Publish`.
    pub fn publish(&mut self, room: &str, payload: &[u8], id: Option<PublishId>) {
        match self {
            Broker::Memory(memory) => memory.publish(room, payload, id),
            Broker::Redis(redis) => redis.publish(room, payload, id),
        }
    }

    /// Whether there is something to report without waiting for anybody.
    pub fn is_ready(&self) -> bool {
        match self {
            Broker::Memory(memory) => memory.has_events(),
            Broker::Redis(redis) => redis.has_refusals(),
        }
    }

    /// Reports what the hub has to hear, as much as a turn takes: of Redis, what `reports` says and what was refused here.
    pub fn read(&mut self, reports: impl Iterator<Item = Report>, mut report: impl FnMut(BrokerEvent<'_>)) {
        match self {
            Broker::Memory(memory) => memory.poll_some(BYTES_PER_TURN, report),
            Broker::Redis(redis) => {
                reports.for_each(|said| redis.note(said, &mut report));
                redis.refusals(report);
            }
        }
    }

    /// Whether it has so much to do that less should be asked of it.
    pub fn is_pressed(&self) -> bool {
        match self {
            Broker::Memory(memory) => memory.size_bytes() >= MEMORY_BYTES_PRESSING,
            // What it cannot take is refused at once: of a Redis that hangs, clients have to be told.
            Broker::Redis(_) => false,
        }
    }

    /// Publishes that have not been confirmed.
    pub fn publishes_in_flight(&self) -> usize {
        match self {
            Broker::Memory(_) => 0,
            Broker::Redis(redis) => redis.publishes_in_flight(),
        }
    }

    /// Adds the broker's figures to a snapshot.
    pub fn describe(&self, snapshot: &mut Snapshot) {
        match self {
            Broker::Memory(_) => (snapshot.subscriber_up, snapshot.publisher_up) = (true, true),
            Broker::Redis(redis) => redis.describe(snapshot),
        }
    }
}
