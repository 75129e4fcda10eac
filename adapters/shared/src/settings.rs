//! From the configuration that people write to what the core and its Redis session are made with.

use crate::config::{self, Config, RedisTarget};
use crate::descriptors::Places;
use crate::sign_in::text;
use fanfare_core::broker::envelope::VERSION_NEWEST;
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
    /// For the jitter of reconnection, and the random parts of histories' epochs.
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
    let mut core = config.core.clone();
    (core.seed, core.node, core.page) = (drawn.seed, drawn.node, page);
    core.admission.connections_max = places.connections_max;
    core.admission.surplus_connections_max = places.surplus_max;
    for divided in [
        &mut core.admission.pending_upgrades_max,
        &mut core.limits.outbox_total_bytes_max,
        &mut core.limits.unfinished_total_bytes_max,
    ] {
        *divided = divided.div_ceil(config.workers);
    }
    // The rest is for the close itself.
    core.timeouts.drain = config.shutdown_timeout / 2;
    let config::Compression { enabled, threshold_bytes, level } = config.compression;
    core.compression = enabled.then(|| {
        let mut settings = fanfare_core::Compression::default();
        (settings.threshold_bytes, settings.level) = (threshold_bytes, level as u8);
        settings
    });
    if let Some(auth) = &mut core.auth {
        auth.rechecks_at_once_max = auth.rechecks_at_once_max.div_ceil(config.workers);
        auth.awaits_bans = config.redis.target.is_some() || config.auth.bans_file.is_some();
        core.rules = core.rules.with_own_rooms();
    }
    core.journal = config.log.level == LogLevel::Debug;
    core.notices = config.hooks.iter().any(|hook| !hook.events.is_empty());
    core
}

/// The Redis session's configuration.
pub fn session_config(config: &Config, target: &RedisTarget, drawn: Drawn) -> RedisConfig {
    let mut session = config.redis.session.clone();
    session.topology = config.redis.topology(target);
    session.over_tls = target.tls;
    // Passwords in files are read for each connection.
    let [sign_in, at_sentinels] = [config.redis.sign_in(), config.redis.sentinel_sign_in()];
    (session.username, session.password) = (sign_in.username, sign_in.password.as_ref().and_then(text));
    session.sentinel_username = at_sentinels.username;
    session.sentinel_password = at_sentinels.password.as_ref().and_then(text);
    session.database = target.database;
    session.client_name = format!("fanfare-{:016x}", drawn.node);
    session.seed = drawn.jitter;
    let rules = config.core.rules.as_slice();
    session.keeps_history = rules.iter().any(|rule| rule.history.is_some());
    session.keeps_presence =
        rules.iter().any(|rule| rule.presence) || config.core.presence.connections_per_user_max > 0;
    session.about = about(config);
    session.waits_for_replicas = rules.iter().any(|rule| rule.replicas_min > 0);
    session
}

/// What the instances that share a Redis are told of this one. Those whose `rules` differ do not agree on which rooms keep what.
fn about(config: &Config) -> String {
    let rules = config.core.rules.clone();
    let in_force = if config.core.auth.is_some() { rules.with_own_rooms() } else { rules };
    let (address, version, rules) = (config.listen, env!("CARGO_PKG_VERSION"), in_force.fingerprint());
    format!(r#"{{"address":"{address}","version":"{version}","rules":"{rules:016x}","envelope":"{VERSION_NEWEST}"}}"#)
}

#[cfg(test)]
mod tests {
    use super::*;
    use fanfare_core::rules::{Rule, Rules};

    /// Whoever embeds the core has the same limits as whoever runs the server, unless they say otherwise.
    #[test]
    fn the_documented_defaults_are_those_of_the_core() {
        let of_the_core = fanfare_core::Config::default();
        let fanfare_core::Admission { connections_max, surplus_connections_max, .. } = of_the_core.admission;
        let places = Places { connections_max, surplus_max: surplus_connections_max };
        let drawn = Drawn { node: of_the_core.node, seed: of_the_core.seed, jitter: 0 };
        assert_eq!(core_config(&Config::default(), places, drawn, of_the_core.page), of_the_core);
    }

    #[test]
    fn users_have_their_own_rooms_where_clients_are_asked_who_they_are() {
        let mut config = Config::default();
        let rules = |config: &Config| {
            let places = Places { connections_max: 10, surplus_max: 1 };
            core_config(config, places, Drawn { node: 1, seed: 2, jitter: 3 }, b"").rules
        };
        assert!(rules(&config).is_empty());
        config.core.auth = Some(fanfare_core::Auth::default());
        assert_eq!(rules(&config).find("user:bob"), Some(0));
    }

    #[test]
    fn what_all_workers_have_together_is_divided_among_them() {
        let mut config = Config { workers: 4, ..Config::default() };
        config.core.limits.outbox_total_bytes_max = 4_002;
        config.core.auth = Some(fanfare_core::Auth::default());
        let places = Places { connections_max: 10, surplus_max: 1 };
        let core = core_config(&config, places, Drawn { node: 1, seed: 2, jitter: 3 }, b"");
        assert_eq!((core.limits.outbox_total_bytes_max, core.admission.connections_max), (1_001, 10));
        assert_eq!(core.auth.map(|auth| auth.rechecks_at_once_max), Some(8));
        assert_eq!((core.node, core.seed, core.timeouts.drain), (1, 2, config.shutdown_timeout / 2));
    }

    #[test]
    fn instances_tell_each_other_by_which_rules_they_go() {
        let told = |config: &Config| {
            let target = "redis://h".parse().unwrap();
            let session = session_config(config, &target, Drawn { node: 1, seed: 2, jitter: 3 });
            (session.keeps_presence, session.about)
        };
        let mut config = Config::default();
        let (keeps_presence, about) = told(&config);
        assert!(!keeps_presence);
        let rules = Rules::default().fingerprint();
        let version = env!("CARGO_PKG_VERSION");
        let expected =
            format!(r#"{{"address":"127.0.0.1:8080","version":"{version}","rules":"{rules:016x}","envelope":"3"}}"#);
        assert_eq!(about, expected);
        let mut rule = Rule::new("a".parse().unwrap());
        rule.presence = true;
        config.core.rules = Rules::new(vec![rule]).unwrap();
        assert!(told(&config).0 && told(&config).1 != about);
        let without = told(&config).1;
        config.core.auth = Some(fanfare_core::Auth::default());
        assert_ne!(told(&config).1, without, "the rule of users' own rooms is one as well");
    }
}
