//! What the operations port tells of a [`Board`].

use super::board::Board;
use super::families::{FAMILIES, LIMITS, PUBLISH_HELP, PUBLISH_NAME, RECOVERY_HELP, RECOVERY_NAME};
use super::families::{TURN_BOUNDS_US, TURN_HELP, TURN_NAME};
use fanfare_core::Metrics;
use fanfare_shell::ops::Status;
use fanfare_shell::ops::exposition::{Kind, family, histogram, metric};

impl Status for Board {
    /// Every metric of the board.
    fn metrics(&self, text: &mut String) {
        let values = self.values();
        let mut values = values.iter();
        for one in FAMILIES {
            let samples = one.samples.iter().map(|sample| sample.labels).zip(&mut values);
            family(text, one.name, one.kind, one.help, samples);
        }
        for ((name, help), limit) in LIMITS.iter().zip(self.limits()) {
            if let Some(limit) = limit {
                metric(text, name, Kind::Gauge, help, limit);
            }
        }
        let (publishes, micros) = self.publishes();
        let bounds = &Metrics::PUBLISH_BOUNDS_US;
        histogram(text, PUBLISH_NAME, PUBLISH_HELP, bounds, &publishes, micros as f64 / 1e6);
        let (recoveries, micros) = self.recoveries();
        let bounds = &Metrics::RECOVERY_BOUNDS_US;
        histogram(text, RECOVERY_NAME, RECOVERY_HELP, bounds, &recoveries, micros as f64 / 1e6);
        let (turns, nanos) = self.turns();
        histogram(text, TURN_NAME, TURN_HELP, &TURN_BOUNDS_US, &turns, nanos as f64 / 1e9);
    }

    fn readiness(&self) -> Result<(), String> {
        self.readiness()
    }

    fn instances(&self) -> String {
        self.instances()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::time::Duration;

    use super::*;
    use crate::config::Config;
    use crate::descriptors::Places;
    use crate::ops::Snapshot;

    fn render(board: &Board) -> String {
        let mut text = String::new();
        board.metrics(&mut text);
        text
    }

    /// Samples by their full name with labels; asserts the form of every line on the way.
    fn parse(text: &str) -> BTreeMap<String, f64> {
        assert!(text.ends_with('\n'));
        let mut samples = BTreeMap::new();
        let (mut helped, mut typed) = (None, None);
        let mut families = BTreeSet::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').expect("a name and a text");
                assert!(!help.is_empty() && !help.contains('\\'), "{line}");
                assert!(families.insert(name.to_owned()), "{name} is told once");
                helped = Some(name);
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').expect("a name and a kind");
                assert_eq!(helped, Some(name), "HELP stands before TYPE");
                assert!(["counter", "gauge", "histogram"].contains(&kind));
                assert_eq!(kind == "counter", name.ends_with("_total"), "{name} is a {kind}");
                typed = Some((name, kind));
            } else {
                let (name, value) = line.rsplit_once(' ').expect("a sample and its value");
                let (family, kind) = typed.expect("TYPE stands before the samples");
                let bare = name.split('{').next().unwrap();
                let suffix = bare.strip_prefix(family).expect("samples follow their TYPE");
                let suffixes: &[&str] = if kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
                assert!(suffixes.contains(&suffix), "{line}");
                assert!(samples.insert(name.to_owned(), value.parse().expect("a number")).is_none(), "{line}");
            }
        }
        samples
    }

    #[test]
    fn every_figure_is_shown_where_it_belongs() {
        let board = Board::new(1);
        let mut snapshot = Snapshot {
            subscriber_up: true,
            broker_reconnects: 3,
            broker_master_changes: 13,
            broker_publishes_dropped: 4,
            broker_publishes_in_flight: 5,
            broker_oversized: 6,
            history_unannounced: 8,
            history_unreplicated: 9,
            presence_incarnations: 16,
            presence_commands: 17,
            auth_not_looked_at: 13,
            auth_bans_unseen_s: 14,
            accept_errors: 7,
            accepts_paused: true,
            ..Snapshot::default()
        };
        snapshot.core.connections_now = 10;
        snapshot.core.upgrades_refused_full = 11;
        snapshot.core.deliveries = u64::MAX;
        snapshot.core.history_foreign = 12;
        snapshot.core.rooms_returning_now = 15;
        snapshot.core.recovery_counts[1] = 2;
        snapshot.core.recovery_micros = 2_500_000;
        board.worker(0).publish(&snapshot);
        let samples = parse(&render(&board));
        for (name, value) in [
            ("fanfare_connections", 10.0),
            ("fanfare_upgrades_total{outcome=\"accepted\"}", 0.0),
            ("fanfare_upgrades_total{outcome=\"refused_full\"}", 11.0),
            ("fanfare_deliveries_total", u64::MAX as f64),
            ("fanfare_broker_up{link=\"subscriber\"}", 1.0),
            ("fanfare_broker_up{link=\"publisher\"}", 0.0),
            ("fanfare_broker_up{link=\"durable_publisher\"}", 0.0),
            ("fanfare_broker_reconnects_total", 3.0),
            ("fanfare_broker_master_changes_total", 13.0),
            ("fanfare_broker_publishes_dropped_total", 4.0),
            ("fanfare_broker_publishes_in_flight", 5.0),
            ("fanfare_broker_oversized_total", 6.0),
            ("fanfare_history_unannounced_total", 8.0),
            ("fanfare_history_unreplicated_total", 9.0),
            ("fanfare_presence_incarnations_total", 16.0),
            ("fanfare_presence_commands_total", 17.0),
            ("fanfare_history_foreign_total", 12.0),
            ("fanfare_auth_overflows_total", 13.0),
            ("fanfare_auth_bans_unseen_seconds", 14.0),
            ("fanfare_broker_rooms_returning", 15.0),
            ("fanfare_broker_resubscribe_seconds_count", 2.0),
            ("fanfare_broker_resubscribe_seconds_sum", 2.5),
            ("fanfare_accept_errors_total", 7.0),
            ("fanfare_accepts_paused", 1.0),
            (concat!("fanfare_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"}"), 1.0),
        ] {
            assert_eq!(samples.get(name), Some(&value), "{name}");
        }
    }

    #[test]
    fn what_several_workers_show_is_that_of_the_server() {
        let board = Board::new(3);
        for worker in 0..3 {
            let mut snapshot = Snapshot {
                subscriber_up: true,
                publisher_up: worker != 1,
                accepts_paused: worker == 2,
                ..Snapshot::default()
            };
            snapshot.core.connections_now = 10 + worker as u64;
            board.worker(worker).publish(&snapshot);
            board.worker(worker).observe_turn(Duration::from_micros(20));
        }
        let samples = parse(&render(&board));
        for (name, value) in [
            ("fanfare_workers", 3.0),
            ("fanfare_connections", 33.0),
            ("fanfare_broker_up{link=\"subscriber\"}", 1.0),
            ("fanfare_broker_up{link=\"publisher\"}", 0.0),
            ("fanfare_accepts_paused", 1.0),
            ("fanfare_loop_turn_seconds_count", 3.0),
            ("fanfare_loop_turn_seconds_sum", 60e-6),
            (concat!("fanfare_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"}"), 1.0),
        ] {
            assert_eq!(samples.get(name), Some(&value), "{name}");
        }
    }

    #[test]
    fn every_agreed_metric_exists() {
        let samples = parse(&render(&Board::new(1)));
        let names: BTreeSet<_> = samples.keys().map(|name| name.split('{').next().unwrap()).collect();
        for name in "connections pending_upgrades upgrades_total http_requests_total rooms memberships commands_total \
                     command_errors_total messages_in_total messages_out_total messages_dropped_total \
                     deliveries_total received_bytes_total sent_bytes_total unsent_bytes stored_frame_bytes \
                     slow_closes_total heartbeat_closes_total protocol_closes_total publishes_total stale_ids_total \
                     broker_up broker_reconnects_total broker_publishes_dropped_total broker_publishes_in_flight \
                     broker_oversized_total accept_errors_total accepts_paused loop_turn_seconds_bucket \
                     loop_turn_seconds_sum loop_turn_seconds_count build_info workers"
            .split_whitespace()
        {
            assert!(names.contains(format!("fanfare_{name}").as_str()), "{name}");
        }
    }

    #[test]
    fn limits_are_shown_once_they_are_known() {
        let board = Board::new(2);
        assert!(!render(&board).contains("_connections_max "));
        let mut config = Config { workers: 2, ..Config::default() };
        config.core.admission.pending_upgrades_max = 5;
        board.set_limits(&config, Places { connections_max: 7, surplus_max: 1 });
        let samples = parse(&render(&board));
        assert_eq!(samples["fanfare_connections_max"], 7.0);
        assert_eq!(samples["fanfare_pending_upgrades_max"], 6.0);
        assert_eq!(samples["fanfare_stored_frame_max_bytes"], 268_435_456.0);
        assert!(!samples.contains_key("fanfare_broker_publishes_in_flight_max"), "there is no Redis");
    }

    #[test]
    fn the_times_of_publishes_are_summed_over_workers() {
        let board = Board::new(2);
        let mut snapshot = Snapshot::default();
        (snapshot.core.publish_counts[0], snapshot.core.publish_counts[12], snapshot.core.publish_micros) =
            (3, 1, 6_000_000);
        board.worker(0).publish(&snapshot);
        board.worker(1).publish(&snapshot);
        let samples = parse(&render(&board));
        assert_eq!(samples["fanfare_publish_seconds_bucket{le=\"0.0001\"}"], 6.0);
        assert_eq!(samples["fanfare_publish_seconds_bucket{le=\"5\"}"], 6.0);
        assert_eq!((samples["fanfare_publish_seconds_count"], samples["fanfare_publish_seconds_sum"]), (8.0, 12.0));
    }

    #[test]
    fn the_histogram_is_cumulative_and_ends_in_the_count() {
        let board = Board::new(1);
        for nanos in [0, 10_000, 10_001, 3_000_000, 1_000_000_000, 1_000_000_001, 7_000_000_000] {
            board.worker(0).observe_turn(Duration::from_nanos(nanos));
        }
        let text = render(&board);
        let samples = parse(&text);
        let mut buckets = Vec::new();
        for line in text.lines().filter(|line| line.contains("loop_turn_seconds_bucket{le=")) {
            let bound = line.split('"').nth(1).unwrap().parse::<f64>().unwrap();
            buckets.push((bound, line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()));
        }
        assert!(buckets.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1), "{buckets:?}");
        assert_eq!(buckets[..2], [(0.00001, 2), (0.000025, 3)]);
        let last = buckets.len() - 1;
        assert_eq!(buckets[last - 1..], [(1.0, 5), (f64::INFINITY, 7)]);
        assert_eq!(samples["fanfare_loop_turn_seconds_count"], 7.0);
        assert!((samples["fanfare_loop_turn_seconds_sum"] - 9.003020002).abs() < 1e-9);
    }
}
