//! The session as its driver sees it: its connections, and what the hub asks. The order of calls is in the module's
//! guide; the work is done in `link`, `subscriber` and `publisher`.

mod in_cluster;
mod presence;

use super::buffers::{Received, Stopped};
use super::canary::{Canary, CanaryNews, CanaryStep};
use super::link::{Link, Tick};
use super::link_id::Role;
use super::presence::Heard;
use super::presence::commands::REPLY_BYTES_MAX as ROSTER_BYTES_MAX;
use super::publisher::Publisher;
use super::queue::EventQueue;
use super::refusal::explained_end;
use super::resp::{Limits, Reply};
use super::standing::Standing;
use super::stores::page_bytes_max;
use super::subscriber::{Operation, Subscriber};
use super::verdict::{Loss, Verdict};
pub(super) use in_cluster::News;

use super::{Address, ConnectionRequest, LinkState, RedisConfig, RedisStats};
use crate::broker::{Ask, BrokerEvent, FenceId, PublishId, ReadId, Store};
use crate::history::{Query, Retention};
use crate::time::Time;
use std::time::Duration;

/// Bytes of any reply that is no message and no part of a history. The longest, `HELLO`'s, is some 200 bytes and about 100 more per loaded
/// module.
const REPLY_BYTES_MAX: usize = 64 * 1024;

/// A Redis Pub/Sub session without I/O. The [module's guide](super) says how to drive it.
#[derive(Debug)]
pub(super) struct RedisSession {
    config: RedisConfig,
    /// Where its links lead, if anywhere.
    target: Option<Address>,
    /// Where they did last.
    last_target: Option<Address>,
    /// What is taken from each role's connection.
    limits: [Limits; Role::COUNT],
    /// Of each role.
    links: [Link; Role::COUNT],
    subscriber: Subscriber,
    publisher: Publisher,
    /// For rooms that wait for replicas.
    durable_publisher: Publisher,
    canary: Canary,
    events: EventQueue,
    /// As the driver has said last.
    now: Time,
    /// The publisher is up, which is not told yet: it is not known whether there is a connection for rooms that wait for replicas as well.
    is_up_untold: bool,
    /// What the subscriber says is left unread, so that nothing can be late there.
    is_unread: bool,
    /// Why Redis refuses for a while, as was told last.
    told_trouble: Option<String>,
    /// What has to be known of its Cluster.
    news: Vec<News>,
    losses: u64,
    oversized: u64,
    ignored: u64,
}

impl RedisSession {
    /// A session whose first attempts to connect are due at once, to this address.
    /// `seed` is of this session alone.
    pub fn new(target: Option<Address>, seed: u64, config: RedisConfig) -> RedisSession {
        let of_replies = |reply_bytes_max| Limits { message_bytes_max: config.message_bytes_max, reply_bytes_max };
        let page_bytes_max = if config.keeps_history { page_bytes_max(&config) } else { 0 };
        let page_bytes_max = if config.keeps_presence { page_bytes_max.max(ROSTER_BYTES_MAX) } else { page_bytes_max };
        RedisSession {
            limits: [0, page_bytes_max, 0].map(|bytes_more| of_replies(REPLY_BYTES_MAX + bytes_more)),
            // Any other numbers: they shall not draw the same waits.
            links: Role::ALL.map(|role| match role {
                Role::Subscriber => Link::new(role, seed),
                Role::Publisher => Link::new(role, !seed),
                Role::DurablePublisher => Link::new(role, seed.rotate_left(16)),
            }),
            subscriber: Subscriber::default(),
            publisher: Publisher::new(Role::Publisher, seed, &config),
            durable_publisher: Publisher::new(Role::DurablePublisher, !seed, &config),
            canary: Canary::new(seed, &config),
            events: EventQueue::default(),
            now: Time::ZERO,
            is_up_untold: false,
            is_unread: false,
            told_trouble: None,
            news: Vec::new(),
            losses: 0,
            oversized: 0,
            ignored: 0,
            last_target: target.clone(),
            target,
            config,
        }
    }

    /// Takes an [`Action::Ask`](crate::Action::Ask).
    pub fn ask(&mut self, ask: Ask<'_>) {
        match ask {
            Ask::Subscribe { room } => self.subscribe(room),
            Ask::Unsubscribe { room } => self.unsubscribe(room),
            Ask::Publish { room, payload, store: None, replicas_min, id } => {
                self.publish_over(Role::that_publishes(replicas_min), room, payload, id);
            }
            Ask::Publish { room, payload, store: Some(store), replicas_min, id } => {
                self.store(room, payload, &store, replicas_min, id);
            }
            Ask::Read { room, query, retention, id } => self.read(room, query, retention, id),
            // The keeper is asked where there is one.
            Ask::Present { id, .. } | Ask::Roster { id, .. } => self.events.presence_failed(id, false),
            Ask::Fence { id } => self.fence(id),
        }
    }

    /// Asks for the messages of a room: `Subscribed` or `SubscribeFailed` follows, unless `Down` comes first.
    ///
    /// Forgotten if the subscriber is not up: the hub asks for everything after `Up`. One operation may be
    /// outstanding per room.
    pub fn subscribe(&mut self, room: &str) {
        self.operate(Operation::Subscribe, room);
    }

    /// Asks for no more messages of a room: `Unsubscribed` follows, or `SubscribeFailed` if Redis refuses even that,
    /// unless `Down` comes first. Forgotten if the subscriber is not up.
    pub fn unsubscribe(&mut self, room: &str) {
        self.operate(Operation::Unsubscribe, room);
    }

    pub fn operate(&mut self, operation: Operation, room: &str) {
        if self.links[Role::Subscriber as usize].is_up() {
            self.subscriber.ask(operation, room);
        }
    }

    /// Asks for a sign behind all messages that have been published by now: `Fenced` follows, unless `Down` comes first. Forgotten if the
    /// subscriber is not up.
    pub fn fence(&mut self, id: FenceId) {
        let link = &mut self.links[Role::Subscriber as usize];
        if link.is_up() {
            self.subscriber.fence(id, &mut link.outbox);
        }
    }

    /// Publishes to a room over the connection of a role. With an id, exactly one `Published` or `PublishFailed` follows, never from within this
    /// call; without one, a failure is only counted.
    pub fn publish_over(&mut self, role: Role, room: &str, payload: &[u8], id: Option<PublishId>) {
        let now = self.now;
        let (publisher, link, config, events) = self.publishing(role);
        publisher.publish((room, payload), id, &mut link.outbox, (config, now), events);
    }

    /// The same of a message that is stored in the room's history in the same step. `Published` follows once so many replicas have it.
    pub fn store(&mut self, room: &str, payload: &[u8], store: &Store<'_>, replicas_min: u16, id: Option<PublishId>) {
        let now = self.now;
        let (publisher, link, config, events) = self.publishing(Role::that_publishes(replicas_min));
        publisher.store((room, payload), (store, replicas_min), id, &mut link.outbox, (config, now), events);
    }

    /// Reads a part of a room's history: `Read` or `ReadFailed` follows, never from within this call, unless `PublisherDown` comes first.
    /// How many may wait for that is for the caller to bound. A page has at most 1,000 messages and 512 KiB of payloads.
    pub fn read(&mut self, room: &str, query: Query, retention: Retention, id: ReadId) {
        // Nobody would be told of its end.
        let is_told = !self.is_up_untold;
        let (publisher, link, config, events) = self.publishing(Role::Publisher);
        if link.is_up() && is_told {
            publisher.read(room, (query, retention), id, &mut link.outbox, config, events);
        } else {
            events.read_failed(id, true);
        }
    }

    /// What is wrong with the histories of rooms in Redis, for the log: each kind once, until there has been none of it for a
    /// [`RedisConfig::probe_interval`]. Whether Redis may evict them is found out when the publisher's connection is set up.
    pub fn take_complaint(&mut self) -> Option<String> {
        self.publisher.complaints.take().or_else(|| self.durable_publisher.complaints.take())
    }

    /// The same of who is in rooms.
    pub fn take_presence_complaint(&mut self) -> Option<String> {
        self.publisher.complaints.take_presence()
    }

    /// Why it cannot be found out whether what is published is heard, for the log: once, until it can again. Redis refuses that to
    /// whom its ACL allows other channels only.
    pub fn take_canary_refusal(&mut self) -> Option<String> {
        self.canary.take_refusal()
    }

    /// Where it connects to.
    pub fn target(&self) -> Option<&Address> {
        self.target.as_ref()
    }

    /// What it is configured with.
    pub fn config(&self) -> &RedisConfig {
        &self.config
    }

    /// The same, to be changed; connections that exist stay as they are.
    pub fn config_mut(&mut self) -> &mut RedisConfig {
        &mut self.config
    }

    /// Whether there is a connection, or an attempt at one.
    pub fn is_anywhere(&self) -> bool {
        self.links.iter().any(|link| !link.is_waiting())
    }

    /// How often a connection ended or could not be made.
    pub fn losses(&self) -> u64 {
        self.losses
    }

    /// From now on it connects there. Connections to another server are given up for this reason.
    pub fn lead_to(&mut self, target: Option<Address>, reason: &str, now: Time) {
        if self.target == target {
            return;
        }
        let is_elsewhere = target.is_some() && self.last_target != target;
        if is_elsewhere {
            self.last_target.clone_from(&target);
        }
        self.target = target;
        for role in self.roles() {
            if !self.links[role as usize].is_waiting() {
                self.give_up(role, reason, now);
            }
            if is_elsewhere {
                let (link, config) = self.link(role);
                link.start_afresh(now, config);
            }
        }
    }

    /// There is nowhere to connect to, for this reason.
    pub fn has_nowhere(&mut self, reason: &str) {
        for role in self.roles() {
            if self.links[role as usize].has_nowhere(reason) {
                match role {
                    Role::Subscriber => self.events.down(format!("Redis: {reason}")),
                    Role::Publisher => self.events.publisher_down(format!("Redis: {reason}")),
                    // The publisher tells.
                    Role::DurablePublisher => {}
                }
            }
        }
    }

    /// Where a link is in its life.
    pub fn state(&self, role: Role) -> LinkState {
        self.links[role as usize].stats().state
    }

    /// What the driver is to do about a connection now. To be called until it has nothing more; that is at most twice for each link.
    pub fn poll_connection(&mut self, now: Time) -> Option<(Role, ConnectionRequest)> {
        self.now = now;
        self.roles().find_map(|role| {
            let RedisSession { links, target, config, .. } = self;
            links[role as usize].poll(target.as_ref(), now, config).map(|request| (role, request))
        })
    }

    /// Those of which there is a link.
    pub fn roles(&self) -> impl Iterator<Item = Role> + use<> {
        let waits_for_replicas = self.config.waits_for_replicas;
        Role::ALL.into_iter().filter(move |role| waits_for_replicas || *role != Role::DurablePublisher)
    }

    /// The connection that was to be opened is established; its output can be written.
    pub fn connected(&mut self, role: Role, now: Time) {
        self.now = now;
        let (link, config) = self.link(role);
        link.connected(now, config);
    }

    /// The connection ended, or could not be established. `reason` is for people and must hold no secret.
    pub fn disconnected(&mut self, role: Role, reason: &str, now: Time) {
        self.now = now;
        // Whatever was given up here is gone there, too.
        let link = self.link(role).0;
        link.set_drop_due(false);
        let unheard = link.is_unheard().then(|| explained_end(reason));
        self.lose(role, unheard.as_deref().unwrap_or(reason), now);
    }

    /// What is to be written to a connection: whole commands, except that the first may be the rest of one.
    ///
    /// Subscriptions asked for since the last call are put into commands here, so it should be called once a turn.
    pub fn output(&mut self, role: Role) -> &[u8] {
        let RedisSession { links, config, .. } = self;
        let link = &mut links[role as usize];
        match role {
            Role::Subscriber if link.is_up() => self.subscriber.flush(&mut link.outbox, config),
            Role::DurablePublisher if link.is_up() => self.durable_publisher.flush(&mut link.outbox, config),
            _ => {}
        }
        link.outbox.unsent()
    }

    /// The kernel took the first `len` bytes of [`RedisSession::output`].
    ///
    /// # Panics
    ///
    /// If there were not so many.
    pub fn written(&mut self, role: Role, len: usize) {
        self.link(role).0.outbox.written(len);
    }

    /// Takes what was read from a connection. Events that were waiting come first, then those of these bytes.
    ///
    /// Messages are borrowed from `data` where they are whole in it; only an unfinished remainder is kept.
    pub fn input(&mut self, role: Role, data: &[u8], now: Time, mut sink: impl FnMut(BrokerEvent<'_>)) {
        self.now = now;
        self.events.drain(&mut sink);
        let limits = self.limits[role as usize];
        let link = self.link(role).0;
        if data.is_empty() || !link.is_established() {
            return;
        }
        link.heard(now);
        let mut inbox = std::mem::take(&mut link.inbox);
        match inbox.feed(data, &limits, |received| self.take(role, received, now, &mut sink)) {
            Ok(()) => self.link(role).0.inbox = inbox,
            Err(Stopped::Malformed(error)) => {
                let reason = match self.link(role).0.is_up() {
                    true => format!("broke the protocol: {error}"),
                    false => format!("{} ({error})", RedisConfig::explained_stranger(data)),
                };
                self.give_up(role, &reason, now);
            }
            Err(Stopped::Refused(Loss::Broken(reason))) => self.give_up(role, &reason, now),
            Err(Stopped::Refused(Loss::Replica)) => self.give_up_all(Standing::REPLICA, now),
            Err(Stopped::Refused(Loss::Unheard)) => {
                let reason = Canary::explained_silence(&self.config);
                self.give_up_all(&reason, now);
            }
        }
        self.events.drain(&mut sink);
    }

    /// Whether [`RedisSession::poll_events`] has any.
    pub fn has_events(&self) -> bool {
        !self.events.is_empty()
    }

    /// Hands out the events that came about outside [`RedisSession::input`], oldest first.
    pub fn poll_events(&mut self, mut sink: impl FnMut(BrokerEvent<'_>)) {
        self.events.drain(&mut sink);
    }

    /// When to call [`RedisSession::timeout`] and [`RedisSession::poll_connection`], if nothing else happens.
    pub fn next_timeout(&self) -> Option<Time> {
        let publishers = [&self.publisher, &self.durable_publisher];
        let expiries = publishers.into_iter().filter_map(|publisher| publisher.next_expiry(&self.config));
        let has_to_look = |role: &Role| {
            let is_waiting = self.links[*role as usize].is_waiting();
            if is_waiting { self.target.is_some() } else { !self.is_unread_on(*role) }
        };
        self.roles()
            .filter(has_to_look)
            .map(|role| self.links[role as usize].next_timeout(&self.config))
            .chain(expiries)
            .chain(self.canary.next_timeout().filter(|_| !self.is_unread))
            .min()
    }

    /// Whether what the subscriber says is left unread from now on.
    pub fn leave_unread(&mut self, is_unread: bool) {
        self.is_unread = is_unread;
    }

    fn is_unread_on(&self, role: Role) -> bool {
        self.is_unread && role == Role::Subscriber
    }

    /// Does what is due: probes, and gives up what has not answered.
    pub fn timeout(&mut self, now: Time) {
        self.now = now;
        for publisher in [&mut self.publisher, &mut self.durable_publisher] {
            publisher.expire(now, &self.config, &mut self.events);
        }
        for role in self.roles() {
            if self.is_unread_on(role) {
                continue;
            }
            let probed = match role {
                Role::Subscriber => self.subscriber.is_probed(),
                Role::Publisher => self.publisher.is_probed(),
                Role::DurablePublisher => self.durable_publisher.is_probed(),
            };
            let (link, config) = self.link(role);
            let again = match link.timeout(now, probed, config) {
                Tick::Nothing => continue,
                Tick::Probe { again } => again,
                Tick::Expired(reason) => {
                    self.give_up(role, &reason, now);
                    continue;
                }
            };
            if role == Role::Subscriber {
                self.subscriber.probe(again, &mut self.links[role as usize].outbox, &self.config);
            } else {
                let (publisher, Link { asks_role, outbox, .. }, ..) = self.publishing(role);
                publisher.probe(*asks_role, again, outbox);
            }
        }
        if !self.is_unread {
            self.mind_canary(now);
        }
    }

    /// Publishes the canary's next number, and asks for the last one where it is late.
    fn mind_canary(&mut self, now: Time) {
        let RedisSession { links: [subscriber, publisher, _], config, canary, .. } = self;
        let is_willing = subscriber.trouble.reason().is_none() && publisher.trouble.reason().is_none();
        match canary.timeout(now, is_willing, config) {
            None => {}
            Some(CanaryStep::Ask) => self.subscriber.probe_canary(&mut subscriber.outbox),
            Some(CanaryStep::Publish(number)) => {
                self.publisher.publish_canary(canary.name(), number, &mut publisher.outbox, config);
            }
        }
    }

    /// What came of it. The error is why the subscriber must be given up.
    fn take_canary(&mut self, news: CanaryNews, now: Time) -> Result<(), Loss> {
        match self.canary.take(news, now, &self.config) {
            None => Ok(()),
            Some(unheard) if unheard.again => Err(Loss::Unheard),
            Some(_) => Err(Loss::Broken(Canary::explained_silence(&self.config))),
        }
    }

    /// What waits for a connection waits no more, nor does what is published from now on: the driver is about to end.
    pub fn stop_waiting(&mut self) {
        self.config.publish_wait = Duration::ZERO;
        for publisher in [&mut self.publisher, &mut self.durable_publisher] {
            publisher.expire(self.now, &self.config, &mut self.events);
        }
    }

    /// How the session fares.
    pub fn stats(&self) -> RedisStats<'_> {
        let [subscriber, publisher, durable_publisher] = &self.links;
        let publishers = [&self.publisher, &self.durable_publisher];
        RedisStats {
            subscriber: subscriber.stats(),
            publisher: publisher.stats(),
            durable_publisher: self.config.waits_for_replicas.then(|| durable_publisher.stats()),
            reconnects: self.links.iter().map(Link::reconnects).sum(),
            switches: 0,
            publishes_in_flight: publishers.iter().map(|publisher| publisher.in_flight()).sum(),
            publishes_dropped: publishers.iter().map(|publisher| publisher.dropped()).sum(),
            unannounced: publishers.iter().map(|publisher| publisher.unannounced()).sum(),
            unreplicated: self.durable_publisher.unreplicated(),
            presence_incarnations: 0,
            presence_commands: 0,
            oversized: self.oversized,
            ignored: self.ignored,
        }
    }

    fn link(&mut self, role: Role) -> (&mut Link, &RedisConfig) {
        (&mut self.links[role as usize], &self.config)
    }

    /// What publishing needs over the connection of a role that publishes.
    fn publishing(&mut self, role: Role) -> (&mut Publisher, &mut Link, &RedisConfig, &mut EventQueue) {
        let publisher = match role {
            Role::DurablePublisher => &mut self.durable_publisher,
            Role::Subscriber | Role::Publisher => &mut self.publisher,
        };
        (publisher, &mut self.links[role as usize], &self.config, &mut self.events)
    }

    /// One thing that arrived whole. The error is why the connection must be given up.
    fn take(
        &mut self,
        role: Role,
        received: Received<'_>,
        now: Time,
        sink: &mut impl FnMut(BrokerEvent<'_>),
    ) -> Result<(), Loss> {
        let reply = match received {
            Received::Message { channel, payload } => {
                self.message(role, channel, payload, sink);
                return Ok(());
            }
            Received::Oversized => {
                self.oversized += 1;
                return Ok(());
            }
            Received::Reply(reply) => reply,
        };
        let (link, config) = self.link(role);
        if !link.is_up() {
            if link.setup_reply(&reply, now, config).map_err(Loss::Broken)? {
                self.came_up(role, sink);
            }
            return Ok(());
        }
        let verdict = match role {
            Role::Publisher | Role::DurablePublisher => {
                let (publisher, link, config, _) = self.publishing(role);
                publisher.reply(&reply, &mut link.outbox, config, sink)?
            }
            Role::Subscriber => {
                if let Reply::Push(mut items) | Reply::Array(mut items) = reply
                    && let (Some(Reply::Simple(b"message") | Reply::Bulk(b"message")), Some(Reply::Bulk(channel))) =
                        (items.next(), items.next())
                    && let Some(Reply::Bulk(payload)) = items.next()
                {
                    // Spelled unlike Redis spells it, so not on the scanner's short way.
                    self.message(role, channel, payload, sink);
                    return Ok(());
                }
                self.subscriber.reply(&reply, &self.config, sink)?
            }
        };
        match verdict {
            Verdict::Fine => Ok(()),
            Verdict::Canary { news, trouble } => {
                if let Some(reason) = trouble {
                    self.judge(role, Verdict::Refused(reason), now);
                }
                self.take_canary(news, now)
            }
            Verdict::Gone(partition) => {
                self.news.push(News::Gone(partition));
                Ok(())
            }
            Verdict::Moved { slot, to } => {
                if role == Role::Publisher {
                    self.take_canary(CanaryNews::PutOff, now)?;
                }
                self.news.push(News::Moved { slot, to });
                Ok(())
            }
            Verdict::CanaryMoved { slot, to } => {
                self.news.extend([News::CanaryGone(slot), News::Moved { slot, to }]);
                Ok(())
            }
            Verdict::LayoutPutOff => {
                self.news.push(News::LayoutPutOff);
                Ok(())
            }
            Verdict::Layout(layout) => {
                self.news.push(News::Layout(layout));
                Ok(())
            }
            verdict => {
                self.judge(role, verdict, now);
                Ok(())
            }
        }
    }

    fn judge(&mut self, role: Role, verdict: Verdict, now: Time) {
        let has_refused = role == Role::Subscriber && self.subscriber.has_refused();
        let (link, config) = self.link(role);
        let (again, trouble) = match verdict {
            Verdict::Fine
            | Verdict::Canary { .. }
            | Verdict::Gone(_)
            | Verdict::Moved { .. }
            | Verdict::CanaryMoved { .. }
            | Verdict::Layout(_)
            | Verdict::LayoutPutOff => {
                return;
            }
            Verdict::Refused(reason) => (false, Some(reason)),
            Verdict::Probed { again, trouble } => (again, trouble),
            Verdict::RoleUnknown { again } => {
                link.asks_role = false;
                (again, None)
            }
        };
        match trouble {
            trouble if again => {
                // A probe may be answered, and what stood in front of it refused.
                let still = link.trouble.reason().filter(|_| has_refused).map(str::to_owned);
                link.trouble.answered(trouble.or(still), now, config);
            }
            Some(reason) => link.trouble.begin(reason, now, config),
            None => {}
        }
        self.tell_trouble();
    }

    /// Tells whether Redis refuses for a while, if that has changed.
    fn tell_trouble(&mut self) {
        let trouble = self.links.iter().find_map(|link| link.trouble.reason()).or_else(|| self.missing());
        if trouble == self.told_trouble.as_deref() {
            return;
        }
        self.told_trouble = trouble.map(str::to_owned);
        match &self.told_trouble {
            Some(reason) => self.events.refusing(format!("Redis: {reason}")),
            None => self.events.willing(),
        }
    }

    /// Tells that the publisher is up once the first attempt at a connection for rooms that wait for replicas has come to its end, so that
    /// nobody is refused only because it comes up a little later.
    fn tell_publisher_up(&mut self) {
        let durable = &self.links[Role::DurablePublisher as usize];
        let is_known = !self.config.waits_for_replicas || durable.is_up() || durable.stats().last_error.is_some();
        if self.is_up_untold && is_known {
            self.is_up_untold = false;
            self.events.publisher_up();
            self.publisher.tell_keeper(Heard::Up, &self.config);
        }
    }

    /// Why nothing can be published to rooms that wait for replicas, although it can be to others, of which the hub is told by
    /// `PublisherUp`.
    fn missing(&self) -> Option<&str> {
        let [_, publisher, durable] = &self.links;
        let is_missing = self.config.waits_for_replicas && publisher.is_up() && !durable.is_up();
        durable.stats().last_error.filter(|_| is_missing)
    }

    fn message(&mut self, role: Role, channel: &[u8], payload: &[u8], sink: &mut impl FnMut(BrokerEvent<'_>)) {
        let room = self.config.names().room_of(channel).and_then(|room| std::str::from_utf8(room).ok());
        match room {
            Some(room) if role == Role::Subscriber && self.links[role as usize].is_up() => match Canary::is_named(room)
            {
                false => sink(BrokerEvent::Message { room, payload }),
                true => self.canary.heard(room, payload),
            },
            _ => self.ignored += 1,
        }
    }

    fn came_up(&mut self, role: Role, sink: &mut impl FnMut(BrokerEvent<'_>)) {
        match role {
            Role::Subscriber => {
                self.subscriber.ask_canary(self.canary.name());
                sink(BrokerEvent::Up);
            }
            Role::Publisher | Role::DurablePublisher => {
                let (publisher, link, _, events) = self.publishing(role);
                let unloaded = link.take_unloaded();
                publisher.up(unloaded, &mut link.outbox, events);
                if role == Role::Publisher {
                    // Both lead to the same server, which is worth one word.
                    publisher.complaints.set_up(link.take_eviction());
                    self.is_up_untold = true;
                    self.canary.publisher_up();
                }
                self.tell_publisher_up();
                self.tell_trouble();
            }
        }
    }

    /// Ends a connection from this side.
    fn give_up(&mut self, role: Role, reason: &str, now: Time) {
        self.link(role).0.set_drop_due(true);
        self.lose(role, reason, now);
    }

    /// The same of all that are up: their server's name may lead elsewhere by now.
    fn give_up_all(&mut self, reason: &str, now: Time) {
        for role in self.roles() {
            if self.link(role).0.is_up() {
                self.give_up(role, reason, now);
            }
        }
    }

    fn lose(&mut self, role: Role, reason: &str, now: Time) {
        if self.links[role as usize].is_waiting() {
            return;
        }
        self.losses += 1;
        if role != Role::DurablePublisher {
            self.canary.lost(role == Role::Subscriber);
        }
        if role == Role::Subscriber {
            self.subscriber.lose();
        } else {
            let (publisher, link, config, events) = self.publishing(role);
            publisher.lose(&link.outbox, config, events);
            if role == Role::Publisher {
                publisher.tell_keeper(Heard::Down, config);
            }
        }
        let is_known = role != Role::Publisher || !self.is_up_untold;
        let (link, config) = self.link(role);
        let is_news = link.lose(reason, is_known, now, config);
        match role {
            Role::Subscriber => {}
            Role::Publisher => self.is_up_untold = false,
            Role::DurablePublisher => self.tell_publisher_up(),
        }
        if is_news {
            let reason = format!("Redis: {reason}");
            match role {
                Role::Subscriber => self.events.down(reason),
                Role::Publisher => self.events.publisher_down(reason),
                // Told by `Refusing`: other rooms are published to.
                Role::DurablePublisher => {}
            }
        }
        self.tell_trouble();
    }

    /// Bytes that the publisher's output buffer owns.
    #[cfg(test)]
    pub(super) fn publisher_capacity(&self) -> usize {
        self.links[Role::Publisher as usize].outbox.capacity()
    }

    /// Bytes that the subscriber's receive buffer owns.
    #[cfg(test)]
    pub(super) fn inbox_capacity(&self) -> usize {
        self.links[Role::Subscriber as usize].inbox.capacity()
    }
}
