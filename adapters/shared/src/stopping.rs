//! How a server comes to its end when signals tell it to: what each means, until when, and what the log hears. What is closed and read
//! meanwhile is the adapter's.

use crate::config::Config;
use fanfare_core::time::Time;
use fanfare_shell::signals::last_round;
use fanfare_turn::Stop;
use std::time::Duration;

/// How far that is.
#[derive(Debug)]
pub struct Stopping {
    shutdown_timeout: Duration,
    drain_time: Duration,
    presence_linger: Duration,
    /// What has been asked for last.
    wanted: Option<Stop>,
    stop_at: Option<Time>,
}

/// What is still read of what clients have sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// All that comes until they have been let go.
    UntilTheyGo,
    /// What they had sent before, for so long at most. Nobody is taken any more.
    LastRound(Duration),
}

impl Stopping {
    /// Of a server with this configuration, which nobody has told to stop.
    pub fn new(config: &Config) -> Stopping {
        Stopping {
            shutdown_timeout: config.shutdown_timeout,
            drain_time: config.drain_time(),
            presence_linger: config.core.presence.linger,
            wanted: None,
            stop_at: None,
        }
    }

    /// A signal has come, so often since it was last told. `None` if that changes nothing, because the server stops at once already.
    pub fn signalled(&mut self, signal: &str, times: usize, now: Time) -> Option<Reading> {
        if self.wanted == Some(Stop::AtOnce) {
            return None;
        }
        let stop = stop_for(signal, times, self.wanted);
        self.wanted = Some(stop);
        let time = if stop == Stop::InTime { self.drain_time } else { Duration::ZERO };
        self.stop_at = Some(now + time + self.shutdown_timeout);
        Some(match time.is_zero() {
            true => Reading::LastRound(last_round(self.shutdown_timeout)),
            false => Reading::UntilTheyGo,
        })
    }

    /// Tells the log what the last signal means.
    pub fn log(&self, signal: &str, connections: usize) {
        match self.wanted {
            Some(Stop::InTime) => {
                let within_ms = u64::try_from(self.drain_time.as_millis()).unwrap_or(u64::MAX);
                tracing::info!(signal, connections, within_ms, "draining");
            }
            _ => tracing::info!(signal, connections, "shutting down"),
        }
    }

    /// What has been asked for last.
    pub fn wanted(&self) -> Option<Stop> {
        self.wanted
    }

    /// When whoever is left is cut off.
    pub fn stop_at(&self) -> Option<Time> {
        self.stop_at
    }

    /// How long users are there after their last connection has gone.
    pub fn presence_linger(&self) -> Duration {
        self.presence_linger
    }
}

/// What this signal means, which has come so often since it was last told; after what was wanted `before`.
fn stop_for(signal: &str, times: usize, before: Option<Stop>) -> Stop {
    match (signal, times, before) {
        ("SIGTERM", 1, None) => Stop::InTime,
        _ => Stop::AtOnce,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_sigterm_alone_leaves_time() {
        assert_eq!(stop_for("SIGTERM", 1, None), Stop::InTime);
        assert_eq!(stop_for("SIGTERM", 2, None), Stop::AtOnce);
        assert_eq!(stop_for("SIGTERM", 1, Some(Stop::InTime)), Stop::AtOnce);
        assert_eq!(stop_for("SIGINT", 1, None), Stop::AtOnce);
    }

    #[test]
    fn what_there_is_no_time_for_is_read_in_a_last_round() {
        let at = Time::from_millis;
        let mut config = Config { shutdown_timeout: Duration::from_secs(4), ..Config::default() };
        (config.core.drain.delay, config.core.drain.spread) = (Duration::from_secs(1), Duration::from_secs(2));
        let mut stopping = Stopping::new(&config);
        assert_eq!((stopping.wanted(), stopping.stop_at()), (None, None));
        assert_eq!(stopping.signalled("SIGTERM", 1, at(0)), Some(Reading::UntilTheyGo));
        assert_eq!((stopping.wanted(), stopping.stop_at()), (Some(Stop::InTime), Some(at(7_000))));
        let round = Reading::LastRound(last_round(config.shutdown_timeout));
        assert_eq!(stopping.signalled("SIGINT", 1, at(1_000)), Some(round));
        assert_eq!((stopping.wanted(), stopping.stop_at()), (Some(Stop::AtOnce), Some(at(5_000))));
        assert_eq!(stopping.signalled("SIGTERM", 1, at(2_000)), None);
        (config.core.drain.delay, config.core.drain.spread) = (Duration::ZERO, Duration::ZERO);
        assert_eq!(Stopping::new(&config).signalled("SIGTERM", 1, at(0)), Some(round), "nobody has a time of its own");
    }
}
