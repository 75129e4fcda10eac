//! From the configuration that people write to what the core and its Redis session are made with.

use crate::config::{self, Config, RedisTarget};
use crate::descriptors::Places;
use fanfare_core::Rate;
use fanfare_core::broker::redis::RedisConfig;
use fanfare_shell::logging::LogLevel;
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
    let rate = |per_second: usize, burst: usize| Rate { per_second: per_second as u64, burst: burst as u64 };
    let mut core = fanfare_core::Config::default();
    core.seed = drawn.seed;
    core.node = drawn.node;
    core.connections_max = places.connections_max;
    core.surplus_connections_max = places.surplus_max;
    core.message_bytes_max = limits.message_bytes_max;
    core.frames_per_message_max = limits.frames_per_message_max as u32;
    core.rooms_per_connection_max = limits.rooms_per_connection_max as u16;
    core.room_name_bytes_max = limits.room_name_bytes_max;
    core.request_head_bytes_max = limits.request_head_bytes_max;
    core.request_headers_max = limits.request_headers_max;
    core.outbox_bytes_max = limits.outbox_bytes_max;
    core.outbox_total_bytes_max = limits.outbox_total_bytes_max.div_ceil(config.workers);
    core.errors_max = limits.errors_max as u16;
    core.errors_per_minute = limits.errors_per_minute as u32;
    core.messages = rate(limits.messages_per_second, limits.messages_burst);
    core.bytes = rate(limits.bytes_per_second, limits.bytes_burst);
    core.pings = rate(limits.pings_per_second, limits.pings_burst);
    core.deliveries = rate(limits.deliveries_per_second, limits.deliveries_burst);
    core.unfinished_total_bytes_max = limits.unfinished_total_bytes_max.div_ceil(config.workers);
    core.pending_upgrades_max = limits.pending_upgrades_max.div_ceil(config.workers);
    core.connections_per_address_max = limits.connections_per_address_max;
    core.connects_per_address = rate(limits.connects_per_address_per_second, limits.connects_per_address_burst);
    core.origins = config.origins.clone();
    core.proxies = config.proxies.clone();
    core.handshake_timeout = timeouts.handshake;
    core.ping_interval = timeouts.ping_interval;
    core.pong_timeout = timeouts.pong_timeout;
    core.close_timeout = timeouts.close;
    core.message_timeout = timeouts.message;
    core.room_linger = timeouts.room_linger;
    // The rest is for the close itself.
    core.drain_timeout = timeouts.shutdown / 2;
    core.compression = compression.enabled.then(|| {
        let mut settings = fanfare_core::Compression::default();
        (settings.threshold_bytes, settings.level) = (compression.threshold_bytes, compression.level as u8);
        settings
    });
    core.default_dialect = config.default_dialect;
    core.subprotocols = config.subprotocols;
    core.echo = config.echo;
    core.journal = config.log.level == LogLevel::Debug;
    core.publish_format = config.redis.format;
    core.page = page;
    core
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
    use crate::config::{Limits, Timeouts};
    use fanfare_core::{Dialect, Origins, PublishFormat, Subprotocols};
    use std::time::Duration;

    /// Whoever embeds the core has the same limits as whoever runs the server, unless they say otherwise.
    #[test]
    fn the_documented_defaults_are_those_of_the_core() {
        let of_the_core = fanfare_core::Config::default();
        let fanfare_core::Config { connections_max, surplus_connections_max, seed, node, page, .. } = of_the_core;
        let places = Places { connections_max, surplus_max: surplus_connections_max };
        let documented = core_config(&Config::default(), places, Drawn { node, seed, jitter: 0 }, page);
        assert_eq!(format!("{documented:#?}"), format!("{of_the_core:#?}"));
    }

    /// The core's configuration can gain a field without a word of the compiler here. One that is not assigned would keep its
    /// default, whatever is configured.
    #[test]
    fn every_field_of_the_core_is_told() {
        const NOT_AN_OPERATORS: [&str; 5] =
            ["members_per_turn_max", "group_members_max", "surplus", "deferred_bytes_max", "deferred_total_bytes_max"];
        let of_the_core = fanfare_core::Config::default();
        let mut config = Config { default_dialect: Dialect::Classic, echo: true, ..Config::default() };
        config.origins = Origins::Any;
        config.subprotocols = Subprotocols::First;
        config.proxies.protocol = true;
        config.log.level = LogLevel::Debug;
        config.compression.enabled = false;
        config.redis.format = PublishFormat::Classic;
        // No default is 3, and no duration 3 s.
        config.limits = Limits {
            connections_max: 3,
            descriptors_reserve: 3,
            message_bytes_max: 3,
            frames_per_message_max: 3,
            rooms_per_connection_max: 3,
            room_name_bytes_max: 3,
            request_head_bytes_max: 3,
            request_headers_max: 3,
            outbox_bytes_max: 3,
            outbox_total_bytes_max: 3,
            errors_max: 3,
            errors_per_minute: 3,
            messages_per_second: 3,
            messages_burst: 3,
            bytes_per_second: 3,
            bytes_burst: 3,
            pings_per_second: 3,
            pings_burst: 3,
            deliveries_per_second: 3,
            deliveries_burst: 3,
            unfinished_total_bytes_max: 3,
            pending_upgrades_max: 3,
            connections_per_address_max: 3,
            connects_per_address_per_second: 3,
            connects_per_address_burst: 3,
        };
        let three = Duration::from_secs(3);
        config.timeouts = Timeouts {
            handshake: three,
            ping_interval: three,
            pong_timeout: three,
            close: three,
            message: three,
            room_linger: three,
            shutdown: three,
        };
        let told = core_config(
            &config,
            Places { connections_max: 3, surplus_max: 3 },
            Drawn { node: 3, seed: 3, jitter: 3 },
            b"",
        );
        let fields = |config: &fanfare_core::Config| {
            // Each field begins a line that is indented once.
            let text = format!("{config:#?}");
            let fields: Vec<String> = text.split("\n    ").fold(Vec::new(), |mut fields, line| {
                match fields.last_mut() {
                    Some(field) if line.starts_with([' ', ']', '}', ')']) => *field += line,
                    _ => fields.push(line.to_owned()),
                }
                fields
            });
            fields[1..].to_vec()
        };
        for (before, after) in fields(&of_the_core).iter().zip(fields(&told)) {
            let name = before.split(':').next().expect("a name");
            assert_eq!(*before == after, NOT_AN_OPERATORS.contains(&name), "{after}");
        }
    }
}
