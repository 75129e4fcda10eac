//! Redis on blocking threads: one connection that subscribes, one that publishes. What the core asks of them, and what they
//! report to it.
//!
//! Commands and replies are the `redis` crate's, which encodes and parses them; the sockets are held here. Its own `Connection` is
//! borrowed while a reply is awaited. Nothing could be said meanwhile, and its end would not be noticed while there is nothing to
//! say.

mod ask;
mod connection;
mod context;
mod conversation;
mod link;
mod report;
mod socket;

use ask::{Ask, Publish};
use context::LinkContext;
use crossbeam_channel::Sender;
use fanfare_adapter::config::RedisAddress;
use fanfare_adapter::ops::Snapshot;
use fanfare_core::broker::redis::{RedisConfig, Role};
use fanfare_core::broker::{self, BrokerEvent, PublishError, PublishId, ReadId};
use link::Link;
use report::Counts;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

pub use report::Report;

/// What a command takes beside its channel and payload, at most.
const COMMAND_BYTES: usize = 64;

/// Redis as the thread sees it that owns the core.
#[derive(Debug)]
pub struct RedisLinks {
    config: Arc<RedisConfig>,
    /// To each role's connection, while there is one.
    asks: [Option<Sender<Ask>>; 2],
    /// Why Redis refuses for a while what it is asked on each.
    refusing: [Option<String>; 2],
    /// How often each came up.
    ups: [u64; 2],
    /// Publishes that were not even handed over.
    refused: Vec<(PublishId, PublishError)>,
    /// Reads of histories, of which there are none here.
    unread: Vec<ReadId>,
    counts: Arc<Counts>,
}

impl RedisLinks {
    /// Starts the threads, which connect at once.
    ///
    /// # Errors
    /// If they cannot be made.
    pub fn start(config: RedisConfig, address: &RedisAddress, inbox: &Sender<Report>) -> io::Result<RedisLinks> {
        let (config, counts) = (Arc::new(config), Arc::<Counts>::default());
        for role in Role::ALL {
            let (config, counts) = (Arc::clone(&config), Arc::clone(&counts));
            let context = LinkContext { role, config, counts, address: address.clone(), inbox: inbox.clone() };
            Link::new(context).start()?;
        }
        Ok(RedisLinks {
            config,
            asks: [None, None],
            refusing: [None, None],
            ups: [0; 2],
            refused: Vec::new(),
            unread: Vec::new(),
            counts,
        })
    }

    /// Takes an `Action::Ask`.
    pub fn ask(&mut self, ask: broker::Ask<'_>) {
        match ask {
            broker::Ask::Subscribe { room } => self.hand_over(Role::Subscriber, Ask::Subscribe(room.to_owned())),
            broker::Ask::Unsubscribe { room } => self.hand_over(Role::Subscriber, Ask::Unsubscribe(room.to_owned())),
            broker::Ask::Publish { room, payload, store: None, id } => self.publish(room, payload, id),
            broker::Ask::Publish { store: Some(_), id, .. } => {
                self.refused.extend(id.map(|id| (id, PublishError::NotStored)));
            }
            broker::Ask::Read { id, .. } => self.unread.push(id),
        }
    }

    /// If the connection has gone, its `Down` is on the way, which answers for subscriptions; publishes are answered one by one.
    fn hand_over(&self, role: Role, ask: Ask) {
        if let Some(asks) = &self.asks[role as usize] {
            asks.send(ask).expect("a connection's thread takes asks until nobody can have any");
        }
    }

    fn publish(&mut self, room: &str, payload: &[u8], id: Option<PublishId>) {
        let channel = format!("{}{room}", self.config.prefix);
        let bytes = channel.len() + payload.len() + COMMAND_BYTES;
        let Counts { in_flight, in_flight_bytes, dropped, .. } = &*self.counts;
        let error = if self.asks[Role::Publisher as usize].is_none() {
            PublishError::Unavailable
        } else if in_flight.load(Relaxed) >= self.config.publishes_in_flight_max
            || in_flight_bytes.load(Relaxed) + bytes > self.config.buffer_bytes_max
        {
            PublishError::Busy
        } else {
            in_flight.fetch_add(1, Relaxed);
            in_flight_bytes.fetch_add(bytes, Relaxed);
            return self
                .hand_over(Role::Publisher, Ask::Publish(Publish { channel, payload: payload.to_vec(), id, bytes }));
        };
        match id {
            Some(id) => self.refused.push((id, error)),
            None => drop(dropped.fetch_add(1, Relaxed)),
        }
    }

    /// Takes a thread's report and passes it on.
    pub fn note(&mut self, said: Report, report: &mut impl FnMut(BrokerEvent<'_>)) {
        match &said {
            Report::Up(role, asks) => {
                self.asks[*role as usize] = Some(asks.clone());
                self.ups[*role as usize] += 1;
                report(match role {
                    Role::Subscriber => BrokerEvent::Up,
                    Role::Publisher => BrokerEvent::PublisherUp,
                });
            }
            Report::Down(role, reason) => {
                self.asks[*role as usize] = None;
                report(match role {
                    Role::Subscriber => BrokerEvent::Down { reason },
                    Role::Publisher => BrokerEvent::PublisherDown { reason },
                });
                self.refuses(*role, None, report);
            }
            Report::Refusing(role, reason) => self.refuses(*role, reason.clone(), report),
            // The other connection leads to the same server, most likely, and a name may lead elsewhere by now.
            Report::Demoted => Role::ALL.into_iter().for_each(|role| self.hand_over(role, Ask::GiveUp)),
            Report::Subscribed(room) => report(BrokerEvent::Subscribed { room }),
            Report::Unsubscribed(room) => report(BrokerEvent::Unsubscribed { room }),
            Report::SubscribeFailed(room, reason) => report(BrokerEvent::SubscribeFailed { room, reason }),
            Report::Message(room, payload) => report(BrokerEvent::Message { room, payload }),
            Report::Published(id) => report(BrokerEvent::Published { id: *id, position: None }),
            Report::PublishFailed(id, error) => report(BrokerEvent::PublishFailed { id: *id, error: *error }),
            Report::Settled => {}
        }
    }

    /// One connection's trouble is the whole's.
    fn refuses(&mut self, role: Role, reason: Option<String>, report: &mut impl FnMut(BrokerEvent<'_>)) {
        let told = self.refusing.iter().flatten().next().cloned();
        self.refusing[role as usize] = reason;
        match self.refusing.iter().flatten().next() {
            now if now == told.as_ref() => {}
            Some(reason) => report(BrokerEvent::Refusing { reason }),
            None => report(BrokerEvent::Willing),
        }
    }

    /// Whether there are publishes that were not even handed over.
    pub fn has_refusals(&self) -> bool {
        !self.refused.is_empty() || !self.unread.is_empty()
    }

    /// Reports these.
    pub fn refusals(&mut self, mut report: impl FnMut(BrokerEvent<'_>)) {
        self.refused.drain(..).for_each(|(id, error)| report(BrokerEvent::PublishFailed { id, error }));
        self.unread.drain(..).for_each(|id| report(BrokerEvent::ReadFailed { id, passes: false }));
    }

    /// Publishes that Redis has not answered yet.
    pub fn publishes_in_flight(&self) -> usize {
        self.counts.in_flight.load(Relaxed)
    }

    /// Adds what is known of Redis to a snapshot.
    pub fn describe(&self, snapshot: &mut Snapshot) {
        let is_up = |role: Role| self.asks[role as usize].is_some() && self.refusing[role as usize].is_none();
        (snapshot.subscriber_up, snapshot.publisher_up) = (is_up(Role::Subscriber), is_up(Role::Publisher));
        snapshot.broker_reconnects = self.ups.iter().map(|ups| ups.saturating_sub(1)).sum();
        snapshot.broker_publishes_dropped = self.counts.dropped.load(Relaxed);
        snapshot.broker_publishes_in_flight = self.publishes_in_flight() as u64;
        snapshot.broker_oversized = self.counts.oversized.load(Relaxed);
    }
}
