//! Connections that are no WebSocket: beyond their limit the oldest that was answered and does not hang up goes, or else the
//! oldest whose request is on the way. Those who have upgraded notice nothing.

use fanfare_tests::{Client, RawClient, Server, eventually, upgrade_request};
use std::fs;

const PENDING_MAX: usize = 5;

/// A server on which nothing but the limit ends a pending connection while the test runs. One worker, for each has a part of the
/// limit, and knows the oldest of its own.
fn server() -> Server {
    Server::launch()
        .workers(1)
        .flag("--limits-pending-upgrades-max", PENDING_MAX)
        .args(["--timeouts-handshake-ms", "600000", "--timeouts-close-ms", "600000"])
        .ops()
        .start()
}

fn evicted(server: &Server) -> f64 {
    server.metrics().value(r#"fanfare_upgrades_total{outcome="evicted"}"#)
}

/// Waits until the server has so many unfinished request heads.
fn wait_for_pending(server: &Server, count: usize) {
    server.wait_for_metrics("the heads are there", |metrics| metrics.value("fanfare_pending_upgrades") == count as f64);
}

#[test]
fn the_oldest_unfinished_request_is_told_503() {
    let server = server();
    let mut neighbour = Client::member(&server, "r");
    wait_for_pending(&server, 0);
    let request = upgrade_request("/ws", "");
    let mut halves = Vec::new();
    for number in 1..=PENDING_MAX {
        let mut half = RawClient::connect(server.address());
        half.write(&request[..number]);
        halves.push(half);
        wait_for_pending(&server, number);
    }
    assert_eq!(evicted(&server), 0.0, "so many are allowed");

    for number in 0..3 {
        let newcomer = RawClient::connect(server.address());
        let response = halves[number].read_response();
        assert_eq!(response.status, 503, "{}", response.head);
        halves[number].expect_end();
        halves.push(newcomer);
    }
    eventually("three are counted", || (evicted(&server) == 3.0).then_some(()));

    // The others finish as if nothing had been.
    for (number, half) in halves.iter_mut().enumerate().skip(3) {
        let sent = if number < PENDING_MAX { number + 1 } else { 0 };
        half.write(&request[sent..]);
        assert_eq!(half.read_response().status, 101);
    }
    neighbour.publish("r", "1");
    neighbour.expect_message("r", "1");
}

#[test]
fn those_who_do_not_hang_up_make_room_for_others() {
    let server = server();
    let mut neighbour = Client::member(&server, "r");
    let descriptors = || fs::read_dir(format!("/proc/{}/fd", server.id())).expect("a running process").count();
    let before = descriptors();
    // Answered, half-closed by the server, and held open by the client.
    let mut answered = Vec::new();
    for _ in 0..10 * PENDING_MAX {
        let mut client = RawClient::connect(server.address());
        client.write("GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_eq!(client.read_response().status, 200);
        answered.push(client);
    }
    eventually("all but the last have been ended", || (descriptors() <= before + PENDING_MAX).then_some(()));
    assert_eq!(evicted(&server), 0.0, "none of them was waiting for an answer");
    neighbour.publish("r", "1");
    neighbour.expect_message("r", "1");
    let mut newcomer = Client::connect(&server);
    newcomer.fence();
}

#[test]
fn a_flood_of_connections_that_ask_for_nothing_keeps_nobody_out() {
    let server = server();
    let mut neighbour = Client::member(&server, "r");
    let flood = |begins: &str| -> Vec<RawClient> {
        let connect = |_| {
            let mut client = RawClient::connect(server.address());
            client.write_or_gone(begins);
            client
        };
        (0..500).map(connect).collect()
    };
    let silent = flood("");
    let mut notices_nothing = |text: &str| {
        let mut newcomer = Client::connect(&server);
        newcomer.fence();
        neighbour.publish("r", text);
        neighbour.expect_message("r", text);
    };
    // While the kernel has them, and again when the server has them.
    notices_nothing("1");
    server.wait_for_metrics("the flood is bounded", |metrics| {
        metrics.value("fanfare_pending_upgrades") <= PENDING_MAX as f64
            && metrics.value(r#"fanfare_upgrades_total{outcome="evicted"}"#) >= 490.0
    });
    notices_nothing("2");
    // Those who have said something are the server's at once.
    let unfinished = flood("GET /ws HTTP/1.1\r\nHost: h\r\n");
    notices_nothing("3");
    drop((silent, unfinished));
}
