//! Redis on blocking threads: a connection that subscribes, one that publishes, and one that publishes what waits for replicas, if
//! anything may. What the core asks of them, and what they report to it.
//!
//! Commands and replies are the `redis` crate's, which encodes and parses them, but for what scripts are told and reply, which the core
//! knows; the sockets are held here. Its own `Connection` is
//! borrowed while a reply is awaited. Nothing could be said meanwhile, and its end would not be noticed while there is nothing to
//! say.

mod answers;
mod ask;
mod awaited;
mod connection;
mod context;
mod conversation;
mod histories;
mod link;
mod report;
mod role;
mod socket;
mod writer;

use ask::{Ask, Message, Probe, Publish, Read};
use context::LinkContext;
use crossbeam_channel::Sender;
use fanfare_adapter::ops::Snapshot;
use fanfare_core::broker::redis::history::{self, Room};
use fanfare_core::broker::redis::{Canary, CanaryNews, CanaryStep, RedisConfig, Standing, stores};
use fanfare_core::broker::{self, BrokerEvent, PublishError, PublishId, ReadId, Store};
use fanfare_core::history::{Query, Retention};
use fanfare_core::time::Time;
use link::Link;
use report::Counts;
use role::Role;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

pub use report::Report;

/// What a command takes beside its channel and payload, at most.
const COMMAND_BYTES: usize = 64;

/// Redis as the thread sees it that owns the core.
#[derive(Debug)]
pub struct RedisLinks {
    config: Arc<RedisConfig>,
    /// To each role's connection, while there is one.
    asks: [Option<Sender<Ask>>; Role::COUNT],
    /// Why Redis refuses for a while what it is asked on each.
    refusing: [Option<String>; Role::COUNT],
    /// How often each came up.
    ups: [u64; Role::COUNT],
    canary: Canary,
    /// Since when the canary's time counts.
    start: Instant,
    publish_wait: Duration,
    /// Publishes that wait for a connection of a role, and since when.
    waiting: VecDeque<(Instant, Role, Publish)>,
    /// The publisher is up, which is not told yet.
    is_up_untold: bool,
    /// Publishes that were not even handed over.
    refused: Vec<(PublishId, PublishError)>,
    /// The same of reads, and whether each is worth asking again.
    unread: Vec<(ReadId, bool)>,
    /// Numbers the random parts of epochs.
    drawn: u64,
    /// Of each role.
    counts: [Arc<Counts>; Role::COUNT],
}

impl RedisLinks {
    /// Starts the threads, which connect at once.
    ///
    /// # Errors
    /// If they cannot be made.
    pub fn start(config: RedisConfig, inbox: &Sender<Report>) -> io::Result<RedisLinks> {
        let (config, counts) = (Arc::new(config), <[Arc<Counts>; Role::COUNT]>::default());
        for role in Role::ALL.into_iter().filter(|role| config.waits_for_replicas || *role != Role::DurablePublisher) {
            let (config, counts) = (Arc::clone(&config), Arc::clone(&counts[role as usize]));
            let context = LinkContext { role, config, counts, inbox: inbox.clone() };
            Link::new(context).start()?;
        }
        Ok(RedisLinks {
            canary: Canary::new(&config),
            start: Instant::now(),
            publish_wait: config.publish_wait,
            config,
            asks: Default::default(),
            refusing: Default::default(),
            ups: [0; Role::COUNT],
            waiting: VecDeque::new(),
            is_up_untold: false,
            refused: Vec::new(),
            unread: Vec::new(),
            drawn: 0,
            counts,
        })
    }

    /// Takes an `Action::Ask`.
    pub fn ask(&mut self, ask: broker::Ask<'_>) {
        match ask {
            broker::Ask::Subscribe { room } => self.hand_over(Role::Subscriber, Ask::Subscribe(room.to_owned())),
            broker::Ask::Unsubscribe { room } => self.hand_over(Role::Subscriber, Ask::Unsubscribe(room.to_owned())),
            broker::Ask::Publish { room, payload, store, replicas_min, id } => {
                let role = if replicas_min == 0 { Role::Publisher } else { Role::DurablePublisher };
                match self.reserve(role, room, payload, store.as_ref()) {
                    Ok(bytes) => {
                        let publish = Publish { message: self.message(room, payload, store, replicas_min), id, bytes };
                        match self.is_up(role) {
                            true => self.hand_over(role, Ask::Publish(publish)),
                            false => self.waiting.push_back((Instant::now(), role, publish)),
                        }
                    }
                    Err(error) => self.refuse(id, error),
                }
            }
            broker::Ask::Read { room, query, retention, id } => self.read(room, query, retention, id),
        }
    }

    /// If the connection has gone, its `Down` is on the way, which answers for subscriptions; publishes are answered one by one.
    fn hand_over(&self, role: Role, ask: Ask) {
        if let Some(asks) = &self.asks[role as usize] {
            asks.send(ask).expect("a connection's thread takes asks until nobody can have any");
        }
    }

    /// The bytes of one more publish, which may wait from now on.
    fn reserve(
        &self,
        role: Role,
        room: &str,
        payload: &[u8],
        store: Option<&Store<'_>>,
    ) -> Result<usize, PublishError> {
        let Counts { in_flight, in_flight_bytes, has_scripts, .. } = self.counts(role);
        let is_up = self.is_up(role);
        if !is_up && self.publish_wait.is_zero() {
            return Err(PublishError::Unavailable);
        }
        let bytes = match store {
            None => self.config.prefix.len() + room.len() + payload.len() + COMMAND_BYTES,
            Some(_) if is_up && !has_scripts.load(Relaxed) => return Err(PublishError::NotStored),
            Some(store) => {
                history::store_bytes_max(&Room::new(room, *store.retention, &self.config), store.key.as_ref(), payload)
            }
        };
        if in_flight.load(Relaxed) >= self.config.publishes_in_flight_max
            || in_flight_bytes.load(Relaxed) + bytes > self.config.buffer_bytes_max
        {
            return Err(PublishError::Busy);
        }
        in_flight.fetch_add(1, Relaxed);
        in_flight_bytes.fetch_add(bytes, Relaxed);
        Ok(bytes)
    }

    fn message(&mut self, room: &str, payload: &[u8], store: Option<Store<'_>>, replicas_min: u16) -> Message {
        match store {
            None => Message::Plain { channel: format!("{}{room}", self.config.prefix), payload: payload.to_vec() },
            Some(Store { retention, key }) => {
                let (drawn, mut command) = (self.draw(room), Vec::new());
                let of = Room::new(room, *retention, &self.config);
                history::store(&mut command, &of, drawn, key.as_ref(), payload);
                Message::Stored { room: room.to_owned(), command, replicas_min }
            }
        }
    }

    /// Hands over what has waited for this role's connection.
    fn hand_over_waiting(&mut self, role: Role) {
        let has_scripts = self.counts(role).has_scripts.load(Relaxed);
        let (ready, others) = std::mem::take(&mut self.waiting).into_iter().partition(|(_, of, _)| *of == role);
        self.waiting = others;
        let ready: VecDeque<_> = ready;
        for (_, _, publish) in ready {
            match publish.message {
                Message::Stored { .. } if !has_scripts => self.give_up(role, &publish, PublishError::NotStored),
                _ => self.hand_over(role, Ask::Publish(publish)),
            }
        }
    }

    /// What has waited for as long as it may.
    fn expire(&mut self) {
        let now = Instant::now();
        while self.next_expiry().is_some_and(|at| at <= now) {
            if let Some((_, role, publish)) = self.waiting.pop_front() {
                self.give_up(role, &publish, PublishError::Unavailable);
            }
        }
    }

    fn give_up(&mut self, role: Role, publish: &Publish, error: PublishError) {
        self.counts(role).settle(publish);
        self.refuse(publish.id, error);
    }

    /// What waits for a connection waits no more, nor does what is published from now on: the server is about to end.
    pub fn stop_waiting(&mut self) {
        self.publish_wait = Duration::ZERO;
        self.expire();
    }

    /// When something is due, if nobody says anything before.
    pub fn next_timeout(&self) -> Option<Instant> {
        let canary = self.canary.next_timeout().map(|at| self.start + at.since(Time::ZERO));
        self.next_expiry().into_iter().chain(canary).min()
    }

    /// When what waits for a connection has waited for too long.
    fn next_expiry(&self) -> Option<Instant> {
        self.waiting.front().map(|(since, ..)| *since + self.publish_wait)
    }

    fn refuse(&mut self, id: Option<PublishId>, error: PublishError) {
        match id {
            Some(id) => self.refused.push((id, error)),
            None => drop(self.counts(Role::Publisher).dropped.fetch_add(1, Relaxed)),
        }
    }

    /// The hub bounds how many there are.
    fn read(&mut self, room: &str, query: Query, retention: Retention, id: ReadId) {
        let is_up = self.is_up(Role::Publisher);
        if !is_up || !self.counts(Role::Publisher).has_scripts.load(Relaxed) {
            return self.unread.push((id, !is_up));
        }
        let (drawn, mut command) = (self.draw(room), Vec::new());
        let of = Room::new(room, retention, &self.config);
        history::read(&mut command, &of, drawn, &stores::bounded(query));
        self.hand_over(Role::Publisher, Ask::Read(Read { command, id }));
    }

    fn draw(&mut self, room: &str) -> u64 {
        self.drawn += 1;
        history::draw(self.config.seed, self.drawn, room)
    }

    /// Takes a thread's report and passes it on.
    pub fn note(&mut self, said: Report, report: &mut impl FnMut(BrokerEvent<'_>)) {
        match &said {
            Report::Up(role, asks) => {
                self.asks[*role as usize] = Some(asks.clone());
                self.ups[*role as usize] += 1;
                self.hand_over_waiting(*role);
                match role {
                    Role::Subscriber => {
                        self.hand_over(*role, Ask::Subscribe(self.canary.name().to_owned()));
                        report(BrokerEvent::Up);
                    }
                    Role::Publisher => {
                        self.canary.publisher_up();
                        self.is_up_untold = true;
                    }
                    Role::DurablePublisher => self.refuses(*role, None, report),
                }
                self.tell_publisher_up(report);
            }
            Report::Down(role, reason) => {
                self.asks[*role as usize] = None;
                if *role != Role::DurablePublisher {
                    self.canary.lost(*role == Role::Subscriber);
                }
                match role {
                    Role::Subscriber => report(BrokerEvent::Down { reason }),
                    Role::Publisher => {
                        self.is_up_untold = false;
                        report(BrokerEvent::PublisherDown { reason });
                    }
                    // Other rooms are published to.
                    Role::DurablePublisher => {
                        self.refuses(*role, Some(reason.clone()), report);
                        return self.tell_publisher_up(report);
                    }
                }
                self.refuses(*role, None, report);
            }
            Report::Refusing(role, reason) => self.refuses(*role, reason.clone(), report),
            // The other connection leads to the same server, most likely, and a name may lead elsewhere by now.
            Report::Demoted => self.end(&Role::ALL, Standing::REPLICA),
            Report::Canary(news) => self.take_canary(news.clone()),
            Report::Subscribed(name) if Canary::is_named(name) => self.take_canary(CanaryNews::Subscribed),
            Report::SubscribeFailed(name, reason) if Canary::is_named(name) => {
                self.take_canary(CanaryNews::NotSubscribed(reason.clone()));
            }
            Report::Message(name, payload) if Canary::is_named(name) => self.canary.heard(name, payload),
            Report::Subscribed(room) => report(BrokerEvent::Subscribed { room }),
            Report::Unsubscribed(room) => report(BrokerEvent::Unsubscribed { room }),
            Report::SubscribeFailed(room, reason) => report(BrokerEvent::SubscribeFailed { room, reason }),
            Report::Message(room, payload) => report(BrokerEvent::Message { room, payload }),
            Report::Published(id, position) => report(BrokerEvent::Published { id: *id, position: *position }),
            Report::PublishFailed(id, error) => report(BrokerEvent::PublishFailed { id: *id, error: *error }),
            Report::Read(id, page) => report(BrokerEvent::Read { id: *id, page }),
            Report::ReadFailed(id, passes) => report(BrokerEvent::ReadFailed { id: *id, passes: *passes }),
            Report::Settled => {}
        }
    }

    /// Ends the connections of these roles.
    fn end(&self, roles: &[Role], reason: &str) {
        roles.iter().for_each(|role| self.hand_over(*role, Ask::GiveUp(reason.to_owned())));
    }

    /// Publishes the canary's next number, and asks for the last one where it is late.
    fn mind_canary(&mut self) {
        let is_willing = [Role::Subscriber, Role::Publisher].iter().all(|role| self.refusing[*role as usize].is_none());
        match self.canary.timeout(self.now(), is_willing, &self.config) {
            None => {}
            Some(CanaryStep::Ask) => {
                self.hand_over(Role::Subscriber, Ask::Probe { probe: Probe::Canary, again: false });
            }
            Some(CanaryStep::Publish(number)) => {
                let channel = format!("{}{}", self.config.prefix, self.canary.name());
                self.hand_over(Role::Publisher, Ask::Canary { channel, number });
            }
        }
    }

    fn take_canary(&mut self, news: CanaryNews) {
        if let Some(unheard) = self.canary.take(news, self.now(), &self.config) {
            // Where another subscriber did not help, the name of Redis may lead elsewhere by now.
            let roles = if unheard.again { &Role::ALL[..] } else { &[Role::Subscriber] };
            self.end(roles, &Canary::explained_silence(&self.config));
        }
        if let Some(reason) = self.canary.take_refusal() {
            tracing::warn!(reason, address = %self.config.address, "redis refuses the canary");
        }
    }

    fn now(&self) -> Time {
        Time::from_micros(self.start.elapsed().as_micros() as u64)
    }

    fn counts(&self, role: Role) -> &Counts {
        &self.counts[role as usize]
    }

    fn is_up(&self, role: Role) -> bool {
        self.asks[role as usize].is_some()
    }

    /// Tells that the publisher is up once the first attempt at a connection for rooms that wait for replicas has come to its end, so that
    /// nobody is refused only because it comes up a little later.
    fn tell_publisher_up(&mut self, report: &mut impl FnMut(BrokerEvent<'_>)) {
        let durable = Role::DurablePublisher;
        let is_known =
            !self.config.waits_for_replicas || self.is_up(durable) || self.refusing[durable as usize].is_some();
        if is_known && std::mem::take(&mut self.is_up_untold) {
            report(BrokerEvent::PublisherUp);
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

    /// Whether there are publishes or reads that were not even handed over, or something is due.
    pub fn has_refusals(&self) -> bool {
        let is_due = || self.next_timeout().is_some_and(|at| at <= Instant::now());
        !self.refused.is_empty() || !self.unread.is_empty() || is_due()
    }

    /// Reports these, and does what is due.
    pub fn refusals(&mut self, mut report: impl FnMut(BrokerEvent<'_>)) {
        self.expire();
        self.mind_canary();
        self.refused.drain(..).for_each(|(id, error)| report(BrokerEvent::PublishFailed { id, error }));
        self.unread.drain(..).for_each(|(id, passes)| report(BrokerEvent::ReadFailed { id, passes }));
    }

    /// Publishes that Redis has not answered yet.
    pub fn publishes_in_flight(&self) -> usize {
        self.counts.iter().map(|counts| counts.in_flight.load(Relaxed)).sum()
    }

    /// Adds what is known of Redis to a snapshot.
    pub fn describe(&self, snapshot: &mut Snapshot) {
        let sum = |of: fn(&Counts) -> &AtomicU64| self.counts.iter().map(|counts| of(counts).load(Relaxed)).sum();
        let is_well = |role: Role| self.is_up(role) && self.refusing[role as usize].is_none();
        (snapshot.subscriber_up, snapshot.publisher_up) = (is_well(Role::Subscriber), is_well(Role::Publisher));
        snapshot.durable_publisher_up = !self.config.waits_for_replicas || is_well(Role::DurablePublisher);
        snapshot.broker_reconnects = self.ups.iter().map(|ups| ups.saturating_sub(1)).sum();
        snapshot.broker_publishes_dropped = sum(|counts| &counts.dropped);
        snapshot.broker_publishes_in_flight = self.publishes_in_flight() as u64;
        snapshot.broker_oversized = sum(|counts| &counts.oversized);
        snapshot.history_unannounced = sum(|counts| &counts.unannounced);
        snapshot.history_unreplicated = sum(|counts| &counts.unreplicated);
    }
}
