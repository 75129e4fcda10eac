//! Plain requests and upgrades that are refused: each has its answer, and is counted once, where it belongs.

use fanfare_core::broker::BrokerEvent;
use fanfare_core::{Config, ConnId, Event, Metrics, Origins};
use fanfare_tests::lone_core::{LoneCore, text_to};
use fanfare_tests::{compression, config, upgrade_request};
use std::time::Duration;

fn plain(request_line: &str) -> String {
    format!("{request_line} HTTP/1.1\r\nHost: h\r\n\r\n")
}

fn ask(lone: &mut LoneCore, request: &str) -> (ConnId, String) {
    let conn = lone.connect();
    let said = lone.bytes(conn, request);
    (conn, text_to(&said, conn))
}

/// Asks so and once more: the status, and how often what `count` reads has grown.
fn ask_twice(lone: &mut LoneCore, request: &str, count: impl Fn(&Metrics) -> u64) -> (String, u64) {
    let before = count(&lone.core.metrics());
    let [first, second] = [(); 2].map(|()| ask(lone, request).1[9..12].to_owned());
    assert_eq!(first, second, "{request}");
    (first, count(&lone.core.metrics()) - before)
}

fn body(text: &str) -> &str {
    text.split_once("\r\n\r\n").expect("a head ends with an empty line").1
}

#[test]
fn plain_requests_are_counted_apart_from_what_is_no_request_for_anything() {
    for (request, status) in [
        (plain("GET /"), "200"),
        (plain("GET /healthz"), "200"),
        (plain("HEAD /healthz"), "200"),
        (plain("GET /readyz"), "200"),
        (plain("GET /nothing"), "404"),
        (plain("OPTIONS /"), "204"),
    ] {
        let mut lone = LoneCore::new(Config::default());
        let counts = |metrics: &Metrics| metrics.http_requests;
        assert_eq!(ask_twice(&mut lone, &request, counts), (status.to_owned(), 2), "{request}");
        assert_eq!(lone.core.metrics().upgrades_invalid, 0, "{request}");
    }
    for (request, status) in [
        (plain("GET /ws"), "426"),
        (plain("POST /"), "405"),
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), "400"),
        ("\x16\x03\x01".to_owned(), "400"),
        (upgrade_request("/nothing", ""), "404"),
        (upgrade_request("/?room=", ""), "400"),
        (format!("GET /{}", "x".repeat(Config::default().limits.request_head_bytes_max)), "431"),
    ] {
        let mut lone = LoneCore::new(Config::default());
        let counts = |metrics: &Metrics| metrics.upgrades_invalid;
        assert_eq!(ask_twice(&mut lone, &request, counts), (status.to_owned(), 2), "{request}");
        assert_eq!(lone.core.metrics().http_requests, 0, "{request}");
    }
}

#[test]
fn upgrades_are_counted_by_what_became_of_them() {
    let upgrade = upgrade_request("/", "");
    let mut lone = LoneCore::new(config(|config| config.admission.connections_max = 2));
    assert_eq!(ask_twice(&mut lone, &upgrade, |metrics| metrics.upgrades_accepted), ("101".to_owned(), 2));
    assert_eq!(lone.core.metrics().connections_now, 2);
    assert_eq!(ask_twice(&mut lone, &upgrade, |metrics| metrics.upgrades_refused_full), ("503".to_owned(), 2));
    lone.turn(|turn| turn.feed(Event::Shutdown));
    assert_eq!(ask_twice(&mut lone, &upgrade, |metrics| metrics.upgrades_refused_draining), ("503".to_owned(), 2));
    ask(&mut lone, &upgrade_request("/nothing", ""));
    assert_eq!(lone.core.refusals(), 2 + 2 + 1, "those that were full, stopping, and in vain");

    let mut lone = LoneCore::new(config(|config| config.admission.origins = Origins::List(Vec::new())));
    let foreign = upgrade_request("/", "Origin: https://a.example\r\n");
    assert_eq!(ask_twice(&mut lone, &foreign, |metrics| metrics.upgrades_refused_origin), ("403".to_owned(), 2));
    assert_eq!(lone.core.metrics().upgrades_accepted, 0);

    let silent = [(); 2].map(|()| ask(&mut lone, "GET /").0);
    let said = lone.wait(Config::default().timeouts.handshake + Duration::from_secs(1));
    let statuses = silent.map(|conn| text_to(&said, conn)[9..12].to_owned());
    assert_eq!(statuses, ["408", "408"]);
    assert_eq!((lone.core.metrics().upgrades_timed_out, lone.core.refusals()), (2, 4));
}

#[test]
fn it_is_healthy_as_long_as_it_answers_and_ready_while_it_can_do_its_work() {
    let mut lone = LoneCore::new(Config::default());
    let (health, readiness) = (plain("GET /healthz"), plain("GET /readyz"));
    assert_eq!(body(&ask(&mut lone, &readiness).1), "ready\n");
    lone.broker(BrokerEvent::Down { reason: "gone" });
    assert_eq!(body(&ask(&mut lone, &readiness).1), "the broker cannot be reached\n");
    lone.broker(BrokerEvent::Up);
    lone.turn(|turn| turn.feed(Event::Shutdown));
    let (_, text) = ask(&mut lone, &readiness);
    assert!(text.starts_with("HTTP/1.1 503 ") && body(&text) == "shutting down\n", "{text}");
    assert_eq!(body(&ask(&mut lone, &health).1), "ok\n");
}

#[test]
fn what_compression_was_worth_is_counted() {
    let mut lone = LoneCore::new(config(|config| config.compression = Some(compression(100, 1))));
    let (conn, text) = ask(&mut lone, &upgrade_request("/", "Sec-WebSocket-Extensions: permessage-deflate\r\n"));
    assert!(text.contains("permessage-deflate"), "{text}");
    assert_eq!(lone.core.metrics().compressed_connections_now, 1);
    lone.command(conn, r#"{"type":"SUBSCRIBE","room":"r"}"#);
    lone.broker(BrokerEvent::Subscribed { room: "r" });
    lone.broker(BrokerEvent::Message { room: "r", payload: &[b'x'; 1_000] });
    let metrics = lone.core.metrics();
    let (before, behind) = (metrics.compression_bytes_in, metrics.compression_bytes_out);
    assert!(before > 1_000 && (1..100).contains(&behind), "{behind} of {before}");
    lone.turn(|turn| turn.feed(Event::Closed { conn }));
    assert_eq!(lone.core.metrics().compressed_connections_now, 0);
}
