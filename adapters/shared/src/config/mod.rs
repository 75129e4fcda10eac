//! The configuration: what can be set, from where, and the typed result that the rest of the server reads.
//!
//! `keys/` is the one definition of every key. From it `fanfare-shell` makes flags, environment variables, the TOML file, the
//! help text and `check-config`.

mod auth;
mod cluster;
mod consistency;
mod hook_name;
mod hooks;
mod keys;
mod kinds;
mod load;
mod prefix;
mod program;
mod redis_url;
mod rooms;
mod sign_in;
#[cfg(test)]
mod tests;
mod tls;
mod who;

use fanfare_auth::Secret;
use fanfare_core::broker::redis::{ClusterPubSub, RedisConfig};
use fanfare_shell::host::HostName;
use fanfare_shell::logging::Log;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use auth::{
    AlgorithmName, Auth, Callback, FilePath, Issuer, Session, Url, Word, bans_store, methods, signing_secret,
};
pub use hooks::{ConnectionEvent, Fail, Hook};
pub use load::load;
pub use program::Program;
pub use redis_url::{Password, RedisTarget, RedisUrlError};
pub use tls::{Files, Tls};

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
    /// Section `api`.
    pub api: Api,
    /// `workers`: how many event loops there are; from 1 to 64.
    pub workers: usize,
    /// `limits.descriptors_reserve`: file descriptors that connections never take.
    pub descriptors_reserve: usize,
    /// `timeouts.shutdown_ms`: for flushing to clients when the server stops.
    pub shutdown_timeout: Duration,
    /// Every key that is a setting of the core's, in its place there. `limits.connections_max` may be 0 here, which means as many as the
    /// descriptor limit allows, less the reserve. What is drawn at the start, or follows from other keys, is not in it.
    pub core: fanfare_core::Config,
    /// Section `log`.
    pub log: Log,
    /// Section `tls`, and `[[certificates]]`.
    pub tls: Tls,
    /// Section `redis`.
    pub redis: Redis,
    /// Section `compression`.
    pub compression: Compression,
    /// Section `auth`, and `[[issuers]]`.
    pub auth: Auth,
    /// `[[hooks]]`.
    pub hooks: Vec<Hook>,
}

impl Config {
    /// How long it takes to let all clients go in time, as after SIGTERM.
    pub fn drain_time(&self) -> Duration {
        self.core.drain.delay + self.core.drain.spread
    }
}

/// Where backends ask by HTTP.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Api {
    /// `api.listen`; `None` means that there is no API.
    pub listen: Option<SocketAddr>,
    /// `api.keys_file`: who may ask what.
    pub keys_file: Option<PathBuf>,
    /// `api.tls`: whether TLS is spoken there.
    pub tls: bool,
}

/// How this instance shares its rooms with others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redis {
    /// `redis.url`; `None` means the embedded broker, and that this instance stands alone.
    pub target: Option<RedisTarget>,
    /// `redis.tls_*`: how Redis is known where the URL asks for TLS.
    pub tls: RedisTls,
    /// `redis.username`: the user, where the URL names none. It may be empty.
    pub username: String,
    /// `redis.password_file`: what holds the password, in place of the URL.
    pub password_file: Option<PathBuf>,
    /// `redis.cluster_partitions`: into how many rooms are parted in a Cluster; from 1 to 16,384.
    pub cluster_partitions: u16,
    /// `redis.cluster_pubsub`: how messages are published there.
    pub cluster_pubsub: ClusterPubSub,
    /// `redis.sentinel_username`: the user at Sentinels. It may be empty.
    pub sentinel_username: String,
    /// `redis.sentinel_password`.
    pub sentinel_password: Option<Secret>,
    /// `redis.sentinel_password_file`.
    pub sentinel_password_file: Option<PathBuf>,
    /// Every other key of the section but `redis.format`, as the session takes them. What the URL says and what is drawn at the start is not in it.
    pub session: RedisConfig,
}

/// By whom Redis is known where the URL asks for TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RedisTls {
    /// `redis.tls_ca_file`: the authorities that are trusted; none are those of the system.
    pub ca_file: Option<PathBuf>,
    /// `redis.tls_cert_file`: the certificate of this instance.
    pub cert_file: Option<PathBuf>,
    /// `redis.tls_key_file`: its key.
    pub key_file: Option<PathBuf>,
    /// `redis.tls_server_name`: what the certificate must be for; empty for the host of the URL.
    pub server_name: String,
    /// `redis.tls_insecure_skip_verify`: any certificate will do.
    pub insecure_skip_verify: bool,
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
