//! Configurations of the core for tests: the defaults, but for what a test is about. They can gain fields, so that outside of
//! the core they are made by assignment.

use fanfare_core::broker::redis::RedisConfig;
use fanfare_core::{Compression, Config, Network, Proxies};

/// The defaults with what `set` changes.
pub fn config(set: impl FnOnce(&mut Config)) -> Config {
    let mut config = Config::default();
    set(&mut config);
    config
}

/// The defaults of a Redis session with what `set` changes.
pub fn redis_config(set: impl FnOnce(&mut RedisConfig)) -> RedisConfig {
    let mut config = RedisConfig::default();
    set(&mut config);
    config
}

/// Compression from so many bytes on, at this level.
pub fn compression(threshold_bytes: usize, level: u8) -> Compression {
    let mut compression = Compression::default();
    (compression.threshold_bytes, compression.level) = (threshold_bytes, level);
    compression
}

/// These networks as trusted proxies, whose `X-Forwarded-For` is read, and with `protocol` their PROXY protocol header, too.
pub fn proxies(trusted: impl IntoIterator<Item = Network>, protocol: bool) -> Proxies {
    let mut proxies = Proxies::default();
    (proxies.trusted, proxies.protocol) = (trusted.into_iter().collect(), protocol);
    proxies
}
