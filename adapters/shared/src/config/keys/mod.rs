//! Every configuration key, once: name, default, bounds, meaning, and the field it fills. Flags, environment
//! variables, the file, `--help` and `check-config` all read these tables. Each stands in a file with those of its sections.

mod api;
mod auth;
mod connections;
mod limits;
mod redis;
mod server;
mod tls;

use super::auth::{Auth, Callback, Issuer, Session};
use super::{Api, Compression, Config, Redis, RedisTls, Tls};
use fanfare_auth::CookieKind;
use fanfare_core::broker::redis::{ClusterPubSub, RedisConfig, Topology};
use fanfare_shell::config::{Given, Key};
use fanfare_shell::logging::{Log, LogFormat, LogLevel};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

/// The sections in the order of [`KEYS`], with their headings in `--help`.
pub(crate) const SECTIONS: &[(&str, &str)] = &[
    ("", "Addresses, workers, dialects and origins"),
    ("log", "Logs (written to stderr)"),
    ("api", "HTTP API (for backends, on a port of its own)"),
    ("tls", "TLS (by which clients connect, where there is a certificate)"),
    ("redis", "Redis (how instances share their rooms)"),
    ("auth", "Authentication (how clients are asked who they are, and by what that is verified)"),
    ("limits", "Limits (what clients may use)"),
    ("history", "History (of the rooms that have one by a rule, which stands in the file)"),
    ("presence", "Presence (of the rooms in which it is kept who is there, by a rule, which stands in the file)"),
    ("compression", "Compression (for clients that offer permessage-deflate)"),
    ("proxy", "Proxies in front (whose word on a client's address is taken)"),
    ("timeouts", "Times"),
    ("drain", "Draining (how the server lets its clients go at SIGTERM)"),
];

/// Every key, section by section in the order of [`SECTIONS`].
pub(crate) static KEYS: &[&[Key<Config>]] =
    &[server::SERVER, api::API, tls::TLS, redis::REDIS, auth::AUTH, limits::LIMITS, connections::CONNECTIONS];

impl Default for Config {
    /// The documented defaults.
    fn default() -> Config {
        let mut config = blank();
        for key in KEYS.iter().copied().flatten() {
            let given = Given::Word(key.default.to_owned());
            key.kind.read(&given, &mut config).unwrap_or_else(|why| panic!("the default of {}: {why}", key.name));
        }
        config
    }
}

/// A value of the right type for the table to fill.
fn blank() -> Config {
    Config {
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        ops_listen: None,
        ops_hosts: Vec::new(),
        api: Api::default(),
        workers: 0,
        descriptors_reserve: 0,
        shutdown_timeout: Duration::ZERO,
        core: fanfare_core::Config::default(),
        log: Log { format: LogFormat::Text, level: LogLevel::Info },
        tls: Tls::default(),
        redis: Redis {
            target: None,
            tls: RedisTls::default(),
            username: String::new(),
            password_file: None,
            cluster_partitions: Topology::PARTITIONS_DEFAULT,
            cluster_pubsub: ClusterPubSub::default(),
            sentinel_username: String::new(),
            sentinel_password: None,
            sentinel_password_file: None,
            session: RedisConfig::default(),
        },
        compression: Compression { enabled: false, threshold_bytes: 0, level: 0 },
        auth: Auth {
            core: fanfare_core::Auth::default(),
            issuer: Issuer::default(),
            issuers: Vec::new(),
            user_claim: String::new(),
            grants_claim: String::new(),
            info_claim: String::new(),
            ca_file: None,
            cookie_holds: CookieKind::Session,
            session: Session {
                secrets: Vec::new(),
                secret_file: None,
                redis: None,
                prefix: String::new(),
                user: String::new(),
            },
            callback: Callback { url: None, forward_headers: Vec::new(), timeout: Duration::ZERO, plaintext: false },
            bans_file: None,
        },
        hooks: Vec::new(),
    }
}
