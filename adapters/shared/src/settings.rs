//! From the configuration that people write to what the core and its Redis session are made with.

use crate::config::{self, Config, RedisTarget};
use crate::descriptors::Places;
use fanfare_core::Rate;
use fanfare_core::broker::redis::RedisConfig;
use std::io;

/// What an instance draws when it starts.
#[derive(Clone, Copy, Debug)]
pub struct Drawn {
    /// The instance's id, which its envelopes carry.
    pub node: u64,
    /// For the hashing of the core.
    pub seed: u64,
    /// For the jitter of reconnection.
    pub jitter: u64,
}

impl Drawn {
    /// From the system's randomness.
    ///
    /// # Errors
    /// If the system has none.
    pub fn new() -> io::Result<Drawn> {
        let draw = || getrandom::u64().map_err(io::Error::other);
        Ok(Drawn { node: draw()?, seed: draw()?, jitter: draw()? })
    }
}

/// The core's configuration: of all workers together, but for what is divided among them.
pub fn core_config(config: &Config, places: Places, drawn: Drawn, page: &'static [u8]) -> fanfare_core::Config {
    let (limits, timeouts, compression) = (&config.limits, &config.timeouts, &config.compression);
    // What is no business of an operator's.
    let fanfare_core::Config { members_per_turn_max, group_members_max, .. } = fanfare_core::Config::default();
    let rate = |per_second: usize, burst: usize| Rate { per_second: per_second as u64, burst: burst as u64 };
    fanfare_core::Config {
        seed: drawn.seed,
        node: drawn.node,
        connections_max: places.connections_max,
        surplus_connections_max: places.surplus_max,
        message_bytes_max: limits.message_bytes_max,
        frames_per_message_max: limits.frames_per_message_max as u32,
        rooms_per_connection_max: limits.rooms_per_connection_max as u16,
        room_name_bytes_max: limits.room_name_bytes_max,
        request_head_bytes_max: limits.request_head_bytes_max,
        outbox_bytes_max: limits.outbox_bytes_max,
        outbox_total_bytes_max: limits.outbox_total_bytes_max.div_ceil(config.workers),
        members_per_turn_max,
        group_members_max,
        errors_max: limits.errors_max as u16,
        messages: rate(limits.messages_per_second, limits.messages_burst),
        bytes: rate(limits.bytes_per_second, limits.bytes_burst),
        pings: rate(limits.pings_per_second, limits.pings_burst),
        pending_upgrades_max: limits.pending_upgrades_max.div_ceil(config.workers),
        connections_per_address_max: limits.connections_per_address_max,
        connects_per_address: rate(limits.connects_per_address_per_second, limits.connects_per_address_burst),
        origins: config.origins.clone(),
        proxies: config.proxies.clone(),
        handshake_timeout: timeouts.handshake,
        ping_interval: timeouts.ping_interval,
        pong_timeout: timeouts.pong_timeout,
        close_timeout: timeouts.close,
        room_linger: timeouts.room_linger,
        compression: compression.enabled.then_some(fanfare_core::Compression {
            threshold_bytes: compression.threshold_bytes,
            level: compression.level as u8,
        }),
        default_dialect: config.default_dialect,
        echo: config.echo,
        publish_format: config.redis.format,
        page,
    }
}

/// The Redis session's configuration.
pub fn session_config(redis: &config::Redis, target: &RedisTarget, drawn: Drawn) -> RedisConfig {
    let mut session = redis.session.clone();
    session.username = target.username.clone();
    session.password = target.password.as_ref().map(|password| password.expose().to_owned());
    session.database = target.database;
    session.client_name = format!("fanfare-{:016x}", drawn.node);
    session.seed = drawn.jitter;
    session
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever embeds the core has the same limits as whoever runs the server, unless they say otherwise.
    #[test]
    fn the_documented_defaults_are_those_of_the_core() {
        let of_the_core = fanfare_core::Config::default();
        let fanfare_core::Config { connections_max, surplus_connections_max, seed, node, page, .. } = of_the_core;
        let places = Places { connections_max, surplus_max: surplus_connections_max };
        let documented = core_config(&Config::default(), places, Drawn { node, seed, jitter: 0 }, page);
        assert_eq!(format!("{documented:#?}"), format!("{of_the_core:#?}"));
    }
}
