//! A Redis Pub/Sub session without I/O: bytes in, bytes out, and [`BrokerEvent`]s for the hub. No sockets, no clock,
//! no threads here; whoever owns the sockets drives it.
//!
//! Redis asks for two connections, since one that subscribes can (in RESP2) do little else. [`RedisBroker`] keeps
//! both, each by itself: set-up, pipelining, health probe, reconnection with backoff. A third one publishes to rooms that wait for replicas,
//! if there may be any ([`RedisConfig::waits_for_replicas`]). For each of them there is a *link*, which a [`LinkId`] names.
//!
//! # Driving it
//!
//! One turn of the driver's loop, in this order:
//!
//! 1. For each of [`RedisBroker::links`] whose socket had news: [`RedisBroker::connected`], [`RedisBroker::input`] with what was
//!    read, [`RedisBroker::disconnected`] at end of file or on an error. While the hub is congested, a link that
//!    [`RedisBroker::receives`] is left unread, which [`RedisBroker::leave_unread`] says.
//! 2. [`RedisBroker::timeout`] if [`RedisBroker::next_timeout`] is due. *After* the input: bytes that lay unread
//!    while the driver was held up are a sign of life, too.
//! 3. [`RedisBroker::poll_events`], and the hub's answers to all events so far: [`RedisBroker::subscribe`],
//!    [`RedisBroker::unsubscribe`], [`RedisBroker::publish`]; then `poll_events` once more, for publishes refused
//!    at once, as long as [`RedisBroker::has_events`]. Every event must have reached the hub before what the hub
//!    asks next reaches the session.
//! 4. [`RedisBroker::poll_connection`] until it has nothing more. It says where to connect to.
//! 5. For each connected link: write [`RedisBroker::output`], report with [`RedisBroker::written`] what the kernel
//!    took. All subscriptions asked for since the last call leave joined in few commands.
//! 6. Sleep until a socket is ready or [`RedisBroker::next_timeout`].
//!
//! A link has one connection at a time. Once the session asked for [`ConnectionRequest::Drop`], or was
//! told `disconnected`, that connection must not be mentioned again; the next one begins with an `Open`.
//!
//! # What holds
//!
//! - `Down` ends every `Up`. While there is no connection, also before the first `Up`, another `Down` follows each attempt that
//!   fails for a new reason. `PublisherUp` and `PublisherDown` behave the same. Reasons in events begin with `Redis: `.
//! - After `Down` the session knows of no room: rooms have to be asked for again after `Up`. What is asked of a subscriber that is not
//!   up is forgotten.
//! - While Redis refuses for a while, `Refusing` says why, and `Willing` that it is over. Subscriptions that
//!   exist stay; those that it refused are asked for again, as is a sign of life, with growing pauses between
//!   [`RedisConfig::backoff_min`] and [`RedisConfig::backoff_max`], until they are granted. A publish that it refuses fails as
//!   [`Unavailable`](super::PublishError::Unavailable), and the next is asked for all the same.
//! - What is published has to be heard. The session subscribes to a channel of its own, and publishes a number to it ten times in nine
//!   [`RedisConfig::probe_interval`]s. One that is not heard within [`RedisConfig::probe_timeout`] after Redis has taken it, nor before the
//!   answer to a `PING`, ends the subscriber, and the second in a row all connections. Where Redis refuses the channel, there is no such
//!   number, and [`RedisBroker::take_canary_refusal`] says why.
//! - A replica is of no use, unless it is one of a cluster: what is published there reaches no other server. It is asked for its
//!   `ROLE` in the set-up and every [`RedisConfig::probe_interval`]; all connections to one are given up. Where `ROLE` is
//!   refused or unknown, it passes for a master.
//! - Every publish with an id is answered exactly once. Those that Redis was sent on one connection are answered in the order they were made,
//!   and before the `PublisherDown` that may end them. Those that could not be sent are answered at once, so ahead of others that wait.
//!   Those behind a store that has to be repeated are so, too, unless they are stores of the same room that are made.
//! - With [`RedisConfig::publish_wait`], those that could not be sent wait for the next connection, and are sent before what comes later.
//! - With [`RedisConfig::waits_for_replicas`], what is published to rooms that wait for replicas has a connection of its own. One `WAIT` at a
//!   time stands behind all that was stored since the last one. Once one has too few replicas, stores fail as
//!   [`Unreplicated`](super::PublishError::Unreplicated) at once, until a `WAIT` that is sent with a probe has enough. While that connection
//!   alone is down, `Refusing` says so.
//! - With [`RedisConfig::keeps_history`], what is to be stored is stored and published by a script, in its place among the publishes, and
//!   histories are read on the same connection. Where Redis has forgotten the scripts, nothing more is written until all that was written
//!   is answered; then the scripts are loaded, what was refused is repeated in its order, and what was asked meanwhile follows. So no
//!   store is lost or made twice, and stores of one room keep their order: where another instance has loaded the script in between, so that
//!   a later store of the room was made and an earlier one was not, the earlier one fails as
//!   [`Unavailable`](super::PublishError::Unavailable).
//! - With [`RedisConfig::keeps_presence`], it is kept who is in a room, by scripts on the connection that publishes ([`presence`]). An
//!   instance tells of its users only under a lease, and tells of all anew once `PresenceLost` has said that the lease is lost or that Redis
//!   may have lost what it was told.
//! - A fence ([`Ask::Fence`](super::Ask::Fence)) is a `PING` on the connection that subscribes, because its answer comes behind all messages
//!   before. In a Cluster all nodes that send messages are asked; with classic Pub/Sub a node may yet have to pass on what another one took.
//! - Where Redis cannot keep histories, the connections are up all the same: stores fail as
//!   [`NotStored`](super::PublishError::NotStored), reads for good, and [`RedisBroker::take_complaint`] says why.
//! - No password occurs in a reason or in `Debug` output.
//! - Memory is bounded: by [`RedisConfig::buffer_bytes_max`] and [`RedisConfig::publishes_in_flight_max`] towards
//!   Redis, by [`RedisConfig::message_bytes_max`] and fixed limits of [`resp`] from Redis, and for subscriptions by
//!   the rooms that the hub has. Messages and publishes allocate nothing once buffers are warm.

mod address;
mod backlog;
mod backoff;
mod broker;
mod buffers;
mod canary;
mod cluster;
mod command;
mod complaints;
pub mod history;
mod link;
mod link_id;
mod lua;
mod names;
pub mod presence;
mod publisher;
mod queue;
mod redirect;
mod refusal;
mod replication;
pub mod resp;
mod sentinel;
mod session;
mod setup;
mod single;
mod standing;
mod stores;
mod subscriber;
#[cfg(test)]
mod tests;
mod topology;
mod trouble;
mod verdict;

use std::fmt;
use std::time::Duration;

pub use address::Address;
pub use broker::RedisBroker;
pub use link_id::LinkId;
pub use names::{ClusterPubSub, Names, slot_of_partition};

pub use super::partitions::partition_of;
pub use topology::Topology;

#[cfg(doc)]
use super::BrokerEvent;

/// Where Redis is, and how to talk to it. Later versions may have more fields: take the default, and assign what shall be otherwise.
///
/// # Defaults
///
/// ```
/// # use fanfare_core::broker::redis::{Address, RedisConfig, Topology};
/// # use std::time::Duration;
/// let config = RedisConfig::default();
/// assert_eq!(config.topology, Topology::Single(Address::Tcp { host: "127.0.0.1".to_owned(), port: 6379 }));
/// assert_eq!((config.username, config.password, config.database), (None, None, 0));
/// assert_eq!((&config.client_name[..], &config.prefix[..], config.seed), ("fanfare", "fanfare:", 0));
/// assert_eq!(config.publish_wait, Duration::ZERO);
/// assert_eq!((config.publishes_in_flight_max, config.buffer_bytes_max), (16_384, 16 * 1024 * 1024));
/// assert_eq!((config.message_bytes_max, config.keeps_history), (1024 * 1024, false));
/// assert_eq!(config.history_meta_age_max, Duration::from_secs(30 * 24 * 3_600));
/// assert_eq!((config.waits_for_replicas, config.replicas_timeout), (false, Duration::from_secs(1)));
/// assert_eq!(config.connect_timeout, Duration::from_secs(5));
/// assert_eq!((config.probe_interval, config.probe_timeout), (Duration::from_secs(5), Duration::from_secs(5)));
/// assert_eq!((config.backoff_min, config.backoff_max), (Duration::from_millis(50), Duration::from_secs(5)));
/// ```
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RedisConfig {
    /// Where it is.
    pub topology: Topology,
    /// The ACL user; none means Redis's `default`.
    pub username: Option<String>,
    /// The password; without one there is no `AUTH`, whatever the user.
    pub password: Option<String>,
    /// The same two of Sentinels, which have users of their own.
    pub sentinel_username: Option<String>,
    /// See there.
    pub sentinel_password: Option<String>,
    /// What to `SELECT`. Redis's channels do not belong to a database; this is for servers that tell them apart.
    pub database: u32,
    /// Shown by `CLIENT LIST`. Characters that Redis does not take become `-`; empty means none.
    pub client_name: String,
    /// What stands in front of the room's name in the channel's.
    pub prefix: String,
    /// Feeds the jitter of reconnection. Instances should differ, so that they do not return to Redis as one.
    pub seed: u64,
    /// Publishes written or waiting to be, and not answered yet. More are refused as busy.
    pub publishes_in_flight_max: usize,
    /// For how long a publish may wait for a connection, where there is none, or where it was lost before the publish was written. None by
    /// default: it fails at once.
    pub publish_wait: Duration,
    /// Bytes of such publishes, with framing. Nothing larger can be published at all. What is stored is kept until it is answered, so that it
    /// takes up to twice as much memory.
    pub buffer_bytes_max: usize,
    /// The longest payload to receive; longer ones are skipped and counted.
    pub message_bytes_max: usize,
    /// Rooms may have a history: messages are stored by scripts, which are loaded when the publisher's connection is set up. Without it,
    /// what is to be stored or read is refused.
    pub keeps_history: bool,
    /// For how long the position of a room is known when none of its messages is kept any more.
    pub history_meta_age_max: Duration,
    /// It may be kept who is in a room, by scripts as well. Without it, whatever is asked of that is refused.
    pub keeps_presence: bool,
    /// For how long others believe that this instance is there after it was last heard of. It renews that lease three times as often. At
    /// least a second.
    pub presence_lease: Duration,
    /// What others are told of this instance: a JSON object, or nothing.
    pub about: String,
    /// Rooms may ask for replicas: what is published to them goes over a connection of its own, because `WAIT` holds up the one it is said
    /// on. Without it, there is no such connection, and no room may.
    pub waits_for_replicas: bool,
    /// For how long a stored message waits for replicas to have it. At least a millisecond.
    pub replicas_timeout: Duration,
    /// From [`ConnectionRequest::Open`] until the connection is set up.
    pub connect_timeout: Duration,
    /// Whether connections go by TLS. It is for words alone: one that is not established may then have met a port that speaks none.
    pub over_tls: bool,
    /// Silence from Redis before it is asked for a sign of life, and the time between two questions for its role.
    pub probe_interval: Duration,
    /// Silence after that before the connection is given up.
    pub probe_timeout: Duration,
    /// The shortest wait before the next attempt to connect.
    pub backoff_min: Duration,
    /// The longest wait before the next attempt to connect, and how long a connection must last to be thought sound.
    pub backoff_max: Duration,
}

impl Default for RedisConfig {
    fn default() -> RedisConfig {
        RedisConfig {
            topology: Topology::default(),
            username: None,
            password: None,
            sentinel_username: None,
            sentinel_password: None,
            database: 0,
            client_name: "fanfare".to_owned(),
            prefix: "fanfare:".to_owned(),
            seed: 0,
            // A round trip of 10 ms at 1.6 million publishes a second; some 400 KB of bookkeeping.
            publishes_in_flight_max: 16_384,
            publish_wait: Duration::ZERO,
            // As many publishes of 1 KB.
            buffer_bytes_max: 16 * 1024 * 1024,
            // Above what any client may send here, for publishers of other kinds.
            message_bytes_max: 1024 * 1024,
            keeps_history: false,
            // Whoever comes back after a holiday is told what is missing.
            history_meta_age_max: Duration::from_secs(30 * 24 * 3_600),
            keeps_presence: false,
            presence_lease: Duration::from_secs(10),
            about: String::new(),
            waits_for_replicas: false,
            // Replicas are asked at once and answer within a round trip; a second is an outage of them.
            replicas_timeout: Duration::from_secs(1),
            connect_timeout: Duration::from_secs(5),
            over_tls: false,
            probe_interval: Duration::from_secs(5),
            probe_timeout: Duration::from_secs(5),
            backoff_min: Duration::from_millis(50),
            backoff_max: Duration::from_secs(5),
        }
    }
}

impl RedisConfig {
    /// Why an attempt to connect is given up after this time, for people.
    fn unconnected(&self, within: Duration) -> String {
        let within = within.as_millis();
        if self.over_tls {
            // A Redis that speaks no TLS takes its first message for half a line, and says nothing.
            return format!("no connection by TLS within {within} ms: does that port speak it?");
        }
        format!("no connection within {within} ms")
    }
}

impl fmt::Debug for RedisConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisConfig")
            .field("topology", &self.topology)
            .field("username", &self.username)
            .field("password", &self.password.as_ref().map(|_| "***"))
            .field("sentinel_username", &self.sentinel_username)
            .field("sentinel_password", &self.sentinel_password.as_ref().map(|_| "***"))
            .field("database", &self.database)
            .field("client_name", &self.client_name)
            .field("prefix", &self.prefix)
            .field("seed", &self.seed)
            .field("publishes_in_flight_max", &self.publishes_in_flight_max)
            .field("publish_wait", &self.publish_wait)
            .field("buffer_bytes_max", &self.buffer_bytes_max)
            .field("message_bytes_max", &self.message_bytes_max)
            .field("keeps_history", &self.keeps_history)
            .field("history_meta_age_max", &self.history_meta_age_max)
            .field("keeps_presence", &self.keeps_presence)
            .field("presence_lease", &self.presence_lease)
            .field("about", &self.about)
            .field("waits_for_replicas", &self.waits_for_replicas)
            .field("replicas_timeout", &self.replicas_timeout)
            .field("connect_timeout", &self.connect_timeout)
            .field("over_tls", &self.over_tls)
            .field("probe_interval", &self.probe_interval)
            .field("probe_timeout", &self.probe_timeout)
            .field("backoff_min", &self.backoff_min)
            .field("backoff_max", &self.backoff_max)
            .finish()
    }
}

/// What the driver is to do about a link's connection. Not `#[non_exhaustive]`, as [`Action`](crate::Action) is not: a request
/// that is passed over is a session that stands still.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ConnectionRequest {
    /// Begin a new connection now; report it with [`RedisBroker::connected`] or [`RedisBroker::disconnected`].
    Open {
        /// Where to.
        address: Address,
    },
    /// Close the connection, established or not, and report nothing about it.
    Drop,
}

/// Where a connection is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LinkState {
    /// There is none; the next attempt waits for its time.
    Waiting,
    /// The driver is establishing it.
    Connecting,
    /// It is established, and Redis has not yet answered everything of the set-up.
    SettingUp,
    /// It is in use.
    Up,
    /// It is in use, and Redis refuses for a while what it is asked on it.
    Refusing,
}

/// How one connection fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LinkStats<'a> {
    /// Where it is in its life.
    pub state: LinkState,
    /// Why Redis refuses for a while; else why the last connection of this link failed or ended, if ever one did. For people.
    pub last_error: Option<&'a str>,
}

/// How the session fares. Counters only grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RedisStats<'a> {
    /// The connection that receives.
    pub subscriber: LinkStats<'a>,
    /// The connection that publishes.
    pub publisher: LinkStats<'a>,
    /// The connection that publishes to rooms that wait for replicas, if there may be such rooms.
    pub durable_publisher: Option<LinkStats<'a>>,
    /// How often a connection, of any link, came up that had been up before.
    pub reconnects: u64,
    /// How often Sentinels named another master than before, or parts of a Cluster went to others.
    pub switches: u64,
    /// Publishes that Redis has not answered yet, and what else must be answered before the end ([`RedisBroker::give_back`]).
    pub publishes_in_flight: usize,
    /// Publishes without an id that would have been answered `PublishFailed` with one.
    pub publishes_dropped: u64,
    /// Messages that were stored and could not be announced: only whoever reads the room's history finds them.
    pub unannounced: u64,
    /// Messages that were stored, and that too few replicas had in time.
    pub unreplicated: u64,
    /// How many incarnations of this instance there were: one more each time that what it had told of its users was lost. 0 where no presence
    /// is kept.
    pub presence_incarnations: u64,
    /// Commands of presence that Redis was asked, or could not be.
    pub presence_commands: u64,
    /// Messages skipped for being larger than [`RedisConfig::message_bytes_max`].
    pub oversized: u64,
    /// Messages ignored because their channel is not the prefix and a room's name in UTF-8.
    pub ignored: u64,
}

impl<'a> RedisStats<'a> {
    /// Why the session is not ready, for people; none if all connections are up.
    pub fn trouble(&self) -> Option<&'a str> {
        [Some(self.subscriber), Some(self.publisher), self.durable_publisher]
            .into_iter()
            .flatten()
            .find(|link| link.state != LinkState::Up)
            .map(|link| link.last_error.unwrap_or("not connected yet"))
    }
}
