//! What a server tells of itself after a turn.

use super::instances::Instances;
use fanfare_core::broker::redis::{LinkState, LinkStats, RedisBroker};

/// The figures of one moment: the core's, and what only the adapter knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The core's own.
    pub core: fanfare_core::Metrics,
    /// Whether subscriptions can be made. The embedded broker is always up.
    pub subscriber_up: bool,
    /// Whether publishes are accepted. The embedded broker is always up.
    pub publisher_up: bool,
    /// Whether publishes to rooms that wait for replicas are accepted; where there are no such rooms, true.
    pub durable_publisher_up: bool,
    /// Times a lost link came back.
    pub broker_reconnects: u64,
    /// Times that Sentinels named another master, or parts of a Cluster went to others.
    pub broker_master_changes: u64,
    /// Publishes without an id that were dropped because the broker was away or busy.
    pub broker_publishes_dropped: u64,
    /// Publishes not answered yet.
    pub broker_publishes_in_flight: u64,
    /// Messages skipped because they exceeded `redis.message_bytes_max`.
    pub broker_oversized: u64,
    /// Messages that were stored in Redis and could not be announced.
    pub history_unannounced: u64,
    /// Messages that were stored in Redis, and that too few replicas had in time.
    pub history_unreplicated: u64,
    /// How often this server has begun to tell of its users, and commands of presence.
    pub presence_incarnations: u64,
    /// See there.
    pub presence_commands: u64,
    /// The instances that keep presence together, where there is news of them.
    pub instances: Option<Instances>,
    /// Requests to webhooks, each time that one was made.
    pub hook_requests: u64,
    /// Those of them that failed.
    pub hook_failures: u64,
    /// Events that webhooks were not told of.
    pub hook_events_dropped: u64,
    /// Events that wait to be told.
    pub hook_events_waiting: u64,
    /// Credentials that were not looked at because too many waited.
    pub auth_not_looked_at: u64,
    /// What became of TLS handshakes.
    pub tls: fanfare_tls::Tally,
    /// When the first of the certificates expires, in seconds since 1970; 0 without TLS.
    pub certificates_good_until: u64,
    /// For how long the bans have not been seen as they are, in seconds.
    pub auth_bans_unseen_s: u64,
    /// Failures of `accept`.
    pub accept_errors: u64,
    /// Whether accepting is paused.
    pub accepts_paused: bool,
}

impl Snapshot {
    /// What the links are where the broker is in this process.
    pub fn set_links_up(&mut self) {
        (self.subscriber_up, self.publisher_up, self.durable_publisher_up) = (true, true, true);
    }

    /// What a Redis session knows.
    pub fn set_redis(&mut self, redis: &mut RedisBroker) {
        let own = redis.about().to_owned();
        self.instances = redis.take_instances().map(|instances| Instances::new(instances, &own));
        let stats = redis.stats();
        let is_up = |link: LinkStats<'_>| link.state == LinkState::Up;
        (self.subscriber_up, self.publisher_up) = (is_up(stats.subscriber), is_up(stats.publisher));
        self.durable_publisher_up = stats.durable_publisher.is_none_or(is_up);
        self.broker_reconnects = stats.reconnects;
        self.broker_master_changes = stats.switches;
        self.broker_publishes_dropped = stats.publishes_dropped;
        self.broker_publishes_in_flight = stats.publishes_in_flight as u64;
        self.broker_oversized = stats.oversized;
        self.history_unannounced = stats.unannounced;
        self.history_unreplicated = stats.unreplicated;
        self.presence_incarnations = stats.presence_incarnations;
        self.presence_commands = stats.presence_commands;
    }
}
