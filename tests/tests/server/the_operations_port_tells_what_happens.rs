//! `/metrics`, `/healthz` and `/readyz` on the port for operators.

use fanfare_tests::{Client, RawClient, Redis, Server, get, http};

const FAMILIES: [(&str, &str); 41] = [
    ("fanfare_workers", "gauge"),
    ("fanfare_connections", "gauge"),
    ("fanfare_pending_upgrades", "gauge"),
    ("fanfare_upgrades_total", "counter"),
    ("fanfare_http_requests_total", "counter"),
    ("fanfare_rooms", "gauge"),
    ("fanfare_memberships", "gauge"),
    ("fanfare_commands_total", "counter"),
    ("fanfare_command_errors_total", "counter"),
    ("fanfare_messages_in_total", "counter"),
    ("fanfare_messages_out_total", "counter"),
    ("fanfare_messages_dropped_total", "counter"),
    ("fanfare_deliveries_total", "counter"),
    ("fanfare_received_bytes_total", "counter"),
    ("fanfare_sent_bytes_total", "counter"),
    ("fanfare_unsent_bytes", "gauge"),
    ("fanfare_stored_frame_bytes", "gauge"),
    ("fanfare_slow_closes_total", "counter"),
    ("fanfare_heartbeat_closes_total", "counter"),
    ("fanfare_protocol_closes_total", "counter"),
    ("fanfare_rate_limited_total", "counter"),
    ("fanfare_rate_closes_total", "counter"),
    ("fanfare_publishes_total", "counter"),
    ("fanfare_publishes_deferred", "gauge"),
    ("fanfare_stale_ids_total", "counter"),
    ("fanfare_broker_up", "gauge"),
    ("fanfare_broker_reconnects_total", "counter"),
    ("fanfare_broker_rooms_returning", "gauge"),
    ("fanfare_broker_resubscribe_seconds", "histogram"),
    ("fanfare_broker_publishes_dropped_total", "counter"),
    ("fanfare_broker_publishes_in_flight", "gauge"),
    ("fanfare_broker_oversized_total", "counter"),
    ("fanfare_accept_errors_total", "counter"),
    ("fanfare_accepts_paused", "gauge"),
    ("fanfare_loop_turn_seconds", "histogram"),
    ("fanfare_build_info", "gauge"),
    ("fanfare_publish_seconds", "histogram"),
    ("fanfare_connections_max", "gauge"),
    ("fanfare_pending_upgrades_max", "gauge"),
    ("fanfare_stored_frame_max_bytes", "gauge"),
    ("process_resident_memory_bytes", "gauge"),
];

#[test]
fn every_family_is_there_with_help_and_type() {
    let server = Server::launch().ops().start();
    let response = get(server.ops_address(), "/metrics");
    assert_eq!(response.status, 200);
    let kind = response.field("content-type").expect("a content type");
    assert!(kind.starts_with("text/plain") && kind.contains("version=0.0.4"), "{kind}");
    let page = response.text();
    assert!(page.ends_with('\n'));
    for (family, kind) in FAMILIES {
        assert!(page.contains(&format!("\n# TYPE {family} {kind}\n")), "no {kind} {family} in\n{page}");
        assert!(page.contains(&format!("# HELP {family} ")), "no help on {family}");
    }
    // Every sample belongs to a declared family.
    let metrics = server.metrics();
    for (sample, _) in metrics.samples() {
        let name = sample.split('{').next().unwrap_or(sample);
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name);
        assert!(metrics.families().contains(family) || metrics.families().contains(name), "{sample}");
    }
}

#[test]
fn every_label_is_there_from_the_start() {
    let server = Server::launch().ops().start();
    let metrics = server.metrics();
    for outcome in ["accepted", "refused_full", "refused_draining", "invalid", "timed_out"] {
        assert_eq!(metrics.value(&format!("fanfare_upgrades_total{{outcome=\"{outcome}\"}}")), 0.0);
    }
    for outcome in ["confirmed", "failed"] {
        assert_eq!(metrics.value(&format!("fanfare_publishes_total{{outcome=\"{outcome}\"}}")), 0.0);
    }
    let build = metrics.samples().find(|(sample, _)| sample.starts_with("fanfare_build_info{version=\""));
    assert_eq!(build.expect("the version").1, 1.0);
}

#[test]
fn traffic_is_counted() {
    // Each worker counts the rooms that have members there, and the messages of these.
    let server = Server::launch().workers(1).ops().start();
    let mut one = Client::member(&server, "r");
    let mut two = Client::member(&server, "r");
    two.subscribe("other");
    for number in 0..10 {
        one.publish("r", &number.to_string());
    }
    one.send(r#"{"type":"SEND_MESSAGE","roomId":"r","message":10,"id":"last"}"#);
    for number in 0..=10 {
        two.expect_message("r", &number.to_string());
    }
    one.send("nonsense");
    two.fence();
    let metrics = server.wait_for_metrics("all is counted", |metrics| {
        metrics.value("fanfare_deliveries_total") == 22.0
            && metrics.value("fanfare_command_errors_total") == 1.0
            // Redis may answer the publisher after it has told the subscriber.
            && metrics.value(r#"fanfare_publishes_total{outcome="confirmed"}"#) == 1.0
            // SUBSCRIBE three times, eleven messages, one PING.
            && metrics.value("fanfare_commands_total") >= 15.0
    });
    for (name, value) in [
        ("fanfare_connections", 2.0),
        ("fanfare_pending_upgrades", 0.0),
        (r#"fanfare_upgrades_total{outcome="accepted"}"#, 2.0),
        ("fanfare_rooms", 2.0),
        ("fanfare_memberships", 3.0),
        ("fanfare_messages_in_total", 11.0),
        ("fanfare_messages_out_total", 11.0),
        ("fanfare_messages_dropped_total{reason=\"forged\"}", 0.0),
        (r#"fanfare_publishes_total{outcome="confirmed"}"#, 1.0),
        (r#"fanfare_publishes_total{outcome="failed"}"#, 0.0),
        ("fanfare_unsent_bytes", 0.0),
        ("fanfare_stored_frame_bytes", 0.0),
        ("fanfare_slow_closes_total", 0.0),
        ("fanfare_accepts_paused", 0.0),
    ] {
        assert_eq!(metrics.value(name), value, "{name}");
    }
    assert!(metrics.value("fanfare_received_bytes_total") > 11.0 * 50.0);
    assert!(metrics.value("fanfare_sent_bytes_total") > 22.0 * 40.0);
    assert!(metrics.value("fanfare_http_requests_total") >= 1.0);
}

#[test]
fn violations_are_counted() {
    let server = Server::launch().ops().flag("--timeouts-close-ms", 100).start();
    let mut client = RawClient::upgraded(server.address());
    client.send(&fanfare_tests::Frame::new(0x3, ""));
    client.skip_to_close();
    assert_eq!(get(server.address(), "/ws-not-here").status, 404);
    http(server.address(), "nonsense\r\n\r\n");
    server.wait_for_metrics("both are counted", |metrics| {
        metrics.value("fanfare_protocol_closes_total") == 1.0
            && metrics.value(r#"fanfare_upgrades_total{outcome="invalid"}"#) >= 1.0
    });
}

#[test]
fn the_histogram_of_the_loop_is_whole() {
    let server = Server::launch().ops().start();
    let mut client = Client::member(&server, "r");
    for _ in 0..20 {
        client.fence();
    }
    let metrics = server
        .wait_for_metrics("turns are counted", |metrics| metrics.value("fanfare_loop_turn_seconds_count") >= 20.0);
    let count = metrics.value("fanfare_loop_turn_seconds_count");
    assert_eq!(metrics.value(r#"fanfare_loop_turn_seconds_bucket{le="+Inf"}"#), count);
    assert!(metrics.value("fanfare_loop_turn_seconds_sum") >= 0.0);
    let mut buckets: Vec<(f64, f64)> = metrics
        .samples()
        .filter_map(|(sample, value)| {
            let bound = sample.strip_prefix("fanfare_loop_turn_seconds_bucket{le=\"")?.strip_suffix("\"}")?;
            Some((bound.parse().expect("a bound"), value))
        })
        .collect();
    buckets.sort_by(|(left, _), (right, _)| left.total_cmp(right));
    assert!(buckets.len() > 3, "{buckets:?}");
    assert!(buckets.is_sorted_by_key(|(_, value)| *value), "{buckets:?}");
}

#[test]
fn counters_never_fall() {
    let server = Server::launch().ops().start();
    let mut last = server.metrics();
    for round in 0..5 {
        let mut client = Client::member(&server, "r");
        client.publish("r", &round.to_string());
        client.expect_message("r", &round.to_string());
        client.leave();
        let now = server.metrics();
        for (sample, value) in last.samples().filter(|(sample, _)| sample.contains("_total")) {
            assert!(now.value(sample) >= value, "{sample} fell from {value}");
        }
        last = now;
    }
}

#[test]
fn readiness_follows_redis() {
    let mut redis = Redis::start();
    let server = Server::launch().redis(&redis).args(["--redis-backoff-ms-max", "200"]).ops().start();
    let readyz = || get(server.ops_address(), "/readyz");
    let wait_for =
        |status| fanfare_tests::eventually("the operations port agrees", || (readyz().status == status).then(readyz));
    assert_eq!(wait_for(200).text().trim(), "ready");
    assert_eq!(get(server.ops_address(), "/healthz").text().trim(), "ok");
    redis.kill();
    assert!(!wait_for(503).text().trim().is_empty());
    // It is well all the same: restarting it would help nobody.
    assert_eq!(get(server.ops_address(), "/healthz").status, 200);
    redis.start_again();
    wait_for(200);
}

/// How many connections the port holds.
const CONNECTIONS_MAX: usize = 16;

#[test]
fn silent_connections_keep_no_probe_out() {
    let server = Server::launch().ops().start();
    // Each round is a flood that fills all places, half of it with requests that do not end.
    let mut silent: Vec<RawClient> = Vec::new();
    for _ in 0..5 {
        for number in 0..2 * CONNECTIONS_MAX {
            let mut client = RawClient::connect(server.ops_address());
            if number % 2 == 0 {
                client.write("GET /metr");
            }
            silent.push(client);
        }
        assert_eq!(get(server.ops_address(), "/healthz").status, 200);
    }
    // Nobody had to be waited for: those that came last are still there, and are served as soon as they ask.
    for mut client in silent.split_off(silent.len() - CONNECTIONS_MAX / 2).into_iter().skip(1).step_by(2) {
        client.write("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert_eq!(client.read_response().status, 200);
    }
}

#[test]
fn it_is_served_under_its_own_names_only() {
    let server = Server::launch().ops().flag("--ops-hosts", "fanfare.internal").start();
    let ask = |headers: &str| {
        http(server.ops_address(), format!("GET /metrics HTTP/1.1\r\n{headers}Connection: close\r\n\r\n"))
    };
    for host in
        ["127.0.0.1", "10.0.0.7:9090", "[::1]:9090", "localhost:9090", "fanfare.internal", "Fanfare.INTERNAL:9090"]
    {
        assert_eq!(ask(&format!("Host: {host}\r\n")).status, 200, "{host}");
    }
    // HTTP/1.0 has none.
    assert_eq!(http(server.ops_address(), "GET /readyz HTTP/1.0\r\n\r\n").status, 200);
    for host in
        ["evil.example:9090", "internal", "fanfare.internal.evil.example", "", "127.0.0.1\r\nHost: evil.example"]
    {
        let response = ask(&format!("Host: {host}\r\n"));
        assert_eq!(response.status, 421, "{host}: {}", response.head);
        assert!(response.text().contains("ops_hosts"), "{}", response.text());
    }
    assert!(ask("Host: prometheus.example:9090\r\n").text().contains("--ops-hosts prometheus.example"));
    // A page of another origin, by a script and by an image; and a link that somebody follows.
    for (headers, status) in [
        ("Origin: https://evil.example\r\n", 403),
        ("Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: no-cors\r\n", 403),
        ("Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\n", 200),
        ("Sec-Fetch-Site: none\r\nSec-Fetch-Mode: navigate\r\n", 200),
    ] {
        assert_eq!(ask(&format!("Host: localhost\r\n{headers}")).status, status, "{headers}");
    }
}

#[test]
fn nothing_else_is_served_there() {
    let server = Server::launch().ops().start();
    for path in ["/", "/ws", "/admin"] {
        assert_eq!(get(server.ops_address(), path).status, 404, "{path}");
    }
    assert_eq!(get(server.address(), "/metrics").status, 404);
}

#[test]
fn it_is_closed_unless_asked_for() {
    let mut server = Server::start();
    Client::member(&server, "r").fence();
    assert_eq!(server.log_to_its_end().count("operations port listening"), 0);
}
