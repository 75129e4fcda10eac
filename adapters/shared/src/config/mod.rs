//! The configuration: what can be set, from where, and the typed result that the rest of the server reads.
//!
//! `keys.rs` is the one definition of every key; flags, environment variables, the TOML file, the help text and
//! `check-config` follow from it, by what `fanfare-shell` makes of such a table.

mod consistency;
mod keys;
mod kinds;
mod load;
mod prefix;
mod program;
mod redis_url;
#[cfg(test)]
mod tests;

use fanfare_core::broker::redis::RedisConfig;
use fanfare_core::{Dialect, Origins, Proxies, PublishFormat, Subprotocols};
use fanfare_shell::host::HostName;
use fanfare_shell::logging::Log;
use std::net::SocketAddr;
use std::time::Duration;

pub use load::load;
pub use program::Program;
pub use redis_url::{Password, RedisAddress, RedisTarget, RedisUrlError};

/// Everything that can be configured, validated. `docs/configuration.md` says what each key is for.
///
/// [`Config::default`] holds the documented defaults. Its `Debug` form shows no password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `listen`: where WebSocket and HTTP clients connect.
    pub listen: SocketAddr,
    /// `ops_listen`: where metrics are served; `None` means that there is no operations port.
    pub ops_listen: Option<SocketAddr>,
    /// `ops_hosts`: the names by which the operations port may be asked for.
    pub ops_hosts: Vec<HostName>,
    /// `workers`: how many event loops there are; from 1 to 64.
    pub workers: usize,
    /// `default_dialect`: what `/` and `/ws` speak.
    pub default_dialect: Dialect,
    /// `subprotocols`: which are selected in the dialect `fanfare`.
    pub subprotocols: Subprotocols,
    /// `echo`: whether `/echo` is served.
    pub echo: bool,
    /// `origins`: the pages that may connect.
    pub origins: Origins,
    /// Section `log`.
    pub log: Log,
    /// Section `redis`.
    pub redis: Redis,
    /// Section `limits`.
    pub limits: Limits,
    /// Section `compression`.
    pub compression: Compression,
    /// Section `proxy`.
    pub proxies: Proxies,
    /// Section `timeouts`.
    pub timeouts: Timeouts,
}

/// How this instance shares its rooms with others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redis {
    /// `redis.url`; `None` means the embedded broker, and that this instance stands alone.
    pub target: Option<RedisTarget>,
    /// `redis.format`: the form in which messages are published.
    pub format: PublishFormat,
    /// Every other key of the section, as the session takes them. What the URL says and what is drawn at the start is not in it.
    pub session: RedisConfig,
}

/// Bounds on what clients may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// `limits.connections_max`; 0 means as many as the descriptor limit allows, less the reserve.
    pub connections_max: usize,
    /// `limits.descriptors_reserve`: file descriptors that connections never take.
    pub descriptors_reserve: usize,
    /// `limits.message_bytes_max`: the largest message a client may send.
    pub message_bytes_max: usize,
    /// `limits.frames_per_message_max`: how many frames one message may be cut into.
    pub frames_per_message_max: usize,
    /// `limits.rooms_per_connection_max`.
    pub rooms_per_connection_max: usize,
    /// `limits.room_name_bytes_max`.
    pub room_name_bytes_max: usize,
    /// `limits.request_head_bytes_max`: request line and header fields.
    pub request_head_bytes_max: usize,
    /// `limits.request_headers_max`: header fields of a request.
    pub request_headers_max: usize,
    /// `limits.outbox_bytes_max`: unsent bytes of one connection before it is closed as too slow.
    pub outbox_bytes_max: usize,
    /// `limits.outbox_total_bytes_max`: unsent bytes of all connections together.
    pub outbox_total_bytes_max: usize,
    /// `limits.errors_max`: commands in error before a connection is closed.
    pub errors_max: usize,
    /// `limits.errors_per_minute`: how many of them a minute forgives.
    pub errors_per_minute: usize,
    /// `limits.messages_per_second`: messages of one connection, by their frames; here and below, 0 means that there is no limit.
    pub messages_per_second: usize,
    /// `limits.messages_burst`: messages of one connection at once.
    pub messages_burst: usize,
    /// `limits.bytes_per_second`: bytes read from one connection.
    pub bytes_per_second: usize,
    /// `limits.bytes_burst`: bytes read from one connection at once.
    pub bytes_burst: usize,
    /// `limits.pings_per_second`: pings and pongs of one connection.
    pub pings_per_second: usize,
    /// `limits.pings_burst`: pings and pongs of one connection at once.
    pub pings_burst: usize,
    /// `limits.deliveries_per_second`: what members on this instance are given of one connection's messages; 0 is no limit.
    pub deliveries_per_second: usize,
    /// `limits.deliveries_burst`: the same at once.
    pub deliveries_burst: usize,
    /// `limits.unfinished_total_bytes_max`: memory for messages that are not whole.
    pub unfinished_total_bytes_max: usize,
    /// `limits.pending_upgrades_max`: connections that are no WebSocket; never 0.
    pub pending_upgrades_max: usize,
    /// `limits.connections_per_address_max`: open connections from one address.
    pub connections_per_address_max: usize,
    /// `limits.connects_per_address_per_second`: new connections from one address.
    pub connects_per_address_per_second: usize,
    /// `limits.connects_per_address_burst`: new connections from one address at once.
    pub connects_per_address_burst: usize,
}

/// Whether and how messages are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compression {
    /// `compression.enabled`: whether permessage-deflate is agreed upon.
    pub enabled: bool,
    /// `compression.threshold_bytes`: shorter messages are sent as they are.
    pub threshold_bytes: usize,
    /// `compression.level`, from 1 to 9.
    pub level: usize,
}

/// How long things may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// `timeouts.handshake_ms`: for a client to finish its request head.
    pub handshake: Duration,
    /// `timeouts.ping_interval_ms`: silence of a client before it is pinged.
    pub ping_interval: Duration,
    /// `timeouts.pong_timeout_ms`: silence after the ping before it is closed.
    pub pong_timeout: Duration,
    /// `timeouts.close_ms`: for a client to answer a close frame.
    pub close: Duration,
    /// `timeouts.message_ms`: from a message's first byte to its last.
    pub message: Duration,
    /// `timeouts.room_linger_ms`: how long the subscription of an empty room is kept.
    pub room_linger: Duration,
    /// `timeouts.shutdown_ms`: for flushing to clients when the server stops.
    pub shutdown: Duration,
}
