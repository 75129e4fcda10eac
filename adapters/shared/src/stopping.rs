//! What a server does that is told to stop by a signal, as far as that is the same for all.

use fanfare_turn::Stop;
use std::time::Duration;

/// What this signal means, which has come so often since it was last asked for; after what was wanted `before`.
pub fn stop_for(signal: &str, times: usize, before: Option<Stop>) -> Stop {
    match (signal, times, before) {
        ("SIGTERM", 1, None) => Stop::InTime,
        _ => Stop::AtOnce,
    }
}

/// The line of the log.
pub fn log_stop(stop: Stop, signal: &str, connections: usize, drain_time: Duration) {
    match stop {
        Stop::InTime => {
            let within_ms = u64::try_from(drain_time.as_millis()).unwrap_or(u64::MAX);
            tracing::info!(signal, connections, within_ms, "draining");
        }
        Stop::AtOnce => tracing::info!(signal, connections, "shutting down"),
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
}
