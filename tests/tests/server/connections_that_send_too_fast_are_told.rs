//! Messages, bytes and pings beyond a connection's rate, on the real server: refused or closed with 4029, counted, unnoticed by
//! others; and who has waited is served again.

use fanfare_tests::{Client, Frame, Launch, RawClient, Server, code, eventually, opcode};
use std::collections::BTreeSet;

/// A server with these limits, and a client that must not notice anything.
fn start(launch: Launch) -> (Server, Client) {
    let server = launch.ops().start();
    let neighbour = Client::member(&server, "r");
    (server, neighbour)
}

#[track_caller]
fn expect_untouched(neighbour: &mut Client) {
    neighbour.publish("r", "1");
    neighbour.expect_message("r", "1");
}

fn limited(limit: &str) -> String {
    format!("fanfare_rate_limited_total{{limit=\"{limit}\"}}")
}

#[test]
fn messages_are_refused_with_their_id_and_served_again_after_a_pause() {
    let limits =
        ["--limits-messages-per-second", "20", "--limits-messages-burst", "10", "--limits-errors-max", "60000"];
    let (server, mut neighbour) = start(Server::launch().args(limits));
    let mut client = Client::connect(&server);
    const SENT: usize = 200;
    for id in 0..SENT {
        client.send(format!(r#"{{"type":"SEND_MESSAGE","room":"r","message":{id},"id":{id}}}"#));
    }
    // Refusals overtake what waits for the broker: replies are matched by their ids.
    let (mut acknowledged, mut refused) = (BTreeSet::new(), BTreeSet::new());
    for _ in 0..SENT {
        let reply = client.recv_json();
        let id = reply["id"].as_u64().unwrap_or_else(|| panic!("no id: {reply}"));
        let (kind, room, code) = (&reply["type"], &reply["room"], &reply["code"]);
        let ids = if kind == "ACK" { &mut acknowledged } else { &mut refused };
        assert!(kind == "ACK" || kind == "ERROR" && room == "r" && code == "too_fast", "{reply}");
        assert!(ids.insert(id), "twice: {reply}");
    }
    assert_eq!(acknowledged.len() + refused.len(), SENT, "each has one reply");
    assert!(acknowledged.is_disjoint(&refused));
    for id in &acknowledged {
        assert_eq!(neighbour.recv_message("r"), *id, "what is acknowledged has been sent, in order");
    }
    let refused = refused.len();
    assert!(refused > 0, "200 at once are more than a burst of 10");
    assert!(refused <= SENT - 10, "{refused} of {SENT}: the burst is allowed");
    server.wait_for_metrics("refusals are counted", |metrics| metrics.value(&limited("messages")) == refused as f64);
    eventually("the client is served again", || {
        client.send(r#"{"type":"PING"}"#);
        (client.recv_json()["type"] == "PONG").then_some(())
    });
    expect_untouched(&mut neighbour);
    assert_eq!(server.metrics().value("fanfare_rate_closes_total"), 0.0);
}

#[test]
fn who_goes_on_in_spite_of_refusals_is_closed_with_4029() {
    let limits = ["--limits-messages-per-second", "1", "--limits-messages-burst", "5", "--limits-errors-max", "5"];
    let (server, mut neighbour) = start(Server::launch().args(limits));
    let mut client = RawClient::upgraded(server.address());
    client.write_or_gone(Frame::text(r#"{"type":"PING"}"#).masked().repeat(100));
    assert_eq!(client.skip_to_close(), Some(code::TOO_FAST));
    client.expect_end();
    server.wait_for_metrics("the close is counted", |metrics| {
        metrics.value("fanfare_rate_closes_total") == 1.0 && metrics.value(&limited("messages")) >= 6.0
    });
    expect_untouched(&mut neighbour);
    let mut again = RawClient::upgraded(server.address());
    again.send_text(r#"{"type":"PING"}"#);
    assert_eq!(again.recv_text(), r#"{"type":"PONG"}"#);
}

#[test]
fn where_nothing_can_be_told_the_connection_is_closed_at_once() {
    let limits = ["--limits-messages-per-second", "1", "--limits-messages-burst", "5", "--echo", "on"];
    let (server, mut neighbour) = start(Server::launch().args(limits));
    for (index, path) in ["/classic", "/broadcast", "/echo"].into_iter().enumerate() {
        let mut client =
            RawClient::upgraded_at(server.address(), path).unwrap_or_else(|refusal| panic!("{}", refusal.head));
        client.write_or_gone(Frame::text(r#"{"type":"PING"}"#).masked().repeat(50));
        assert_eq!(client.skip_to_close(), Some(code::TOO_FAST), "{path}");
        let closes = (index + 1) as f64;
        server.wait_for_metrics(path, |metrics| metrics.value("fanfare_rate_closes_total") == closes);
    }
    expect_untouched(&mut neighbour);
}

#[test]
fn too_many_bytes_close_with_4029() {
    let limits = ["--limits-bytes-per-second", "1000", "--limits-bytes-burst", "70000"];
    let (server, mut neighbour) = start(Server::launch().args(limits));
    let mut client = RawClient::upgraded(server.address());
    // One message that never ends would do as well: bytes are charged, not messages.
    let frame = Frame::text(format!(r#"{{"type":"PING","x":"{}"}}"#, "x".repeat(30_000))).masked();
    client.write(&frame);
    assert_eq!(client.recv_text(), r#"{"type":"PONG"}"#);
    client.write_or_gone(frame.repeat(3));
    assert_eq!(client.skip_to_close(), Some(code::TOO_FAST));
    server.wait_for_metrics("the close is counted", |metrics| {
        metrics.value("fanfare_rate_closes_total") == 1.0 && metrics.value(&limited("bytes")) == 1.0
    });
    expect_untouched(&mut neighbour);
    let mut again = RawClient::upgraded(server.address());
    again.write(&frame);
    assert_eq!(again.recv_text(), r#"{"type":"PONG"}"#);
}

#[test]
fn the_bytes_of_a_message_that_never_ends_are_charged_as_they_come() {
    let limits = ["--limits-bytes-per-second", "1000", "--limits-bytes-burst", "70000"];
    let (server, mut neighbour) = start(Server::launch().args(limits));
    let mut client = RawClient::upgraded(server.address());
    client.write_or_gone(Frame::text("").unfinished().masked());
    // Empty fragments: no message ever, and no payload.
    client.write_or_gone(Frame::new(opcode::CONTINUATION, "").unfinished().masked().repeat(20_000));
    // A limit of fragments may be met first.
    let code = client.skip_to_close();
    assert!(matches!(code, Some(code::TOO_FAST | 1008)), "{code:?}");
    expect_untouched(&mut neighbour);
}

#[test]
fn too_many_pings_close_with_4029_and_a_few_are_answered() {
    let limits = ["--limits-pings-per-second", "1", "--limits-pings-burst", "10"];
    for opcode in [opcode::PING, opcode::PONG] {
        let (server, mut neighbour) = start(Server::launch().args(limits));
        let mut client = RawClient::upgraded(server.address());
        client.send(&Frame::new(opcode::PING, "first"));
        assert_eq!(client.recv(), Frame::new(opcode::PONG, "first"));
        client.write_or_gone(Frame::new(opcode, "").masked().repeat(200));
        assert_eq!(client.skip_to_close(), Some(code::TOO_FAST));
        server.wait_for_metrics("the close is counted", |metrics| {
            metrics.value("fanfare_rate_closes_total") == 1.0 && metrics.value(&limited("pings")) == 1.0
        });
        expect_untouched(&mut neighbour);
        let mut again = RawClient::upgraded(server.address());
        again.send(&Frame::new(opcode::PING, "again"));
        assert_eq!(again.recv(), Frame::new(opcode::PONG, "again"));
    }
}
