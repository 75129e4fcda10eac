//! Peers that reset their connection, in every state it can be in: nothing is left of them, and nobody else notices.

use std::time::Duration;

use fanfare_tests::abuse::Siege;
use fanfare_tests::{Client, Frame, Length, RawClient, Redis, Server, code, head, opcode, upgrade_request};

const PEERS: usize = 40;
const ROUNDS: usize = 2;
/// Each peer may have a message in hand, in a buffer that doubles as it grows.
const BYTES_MAX: u64 = PEERS as u64 * 2 * (64 << 10);

/// Ends the connection with RST: what is unread on either side is lost.
fn reset(client: RawClient) {
    rustix::net::sockopt::set_socket_linger(client.stream(), Some(Duration::ZERO))
        .expect("an open socket takes options");
}

fn server() -> Server {
    // Long: whoever has been reset must not need to be timed out.
    Server::launch().flag("--timeouts-close-ms", 60_000).flag("--timeouts-handshake-ms", 60_000).ops().start()
}

/// Again and again, brings all peers into one state, of which the server knows, and resets them all.
fn reset_all(state: impl Fn(&Server) -> RawClient) {
    reset_once(|siege| siege.fence(), state);
}

/// The same with peers that are waited for until the server waits for their requests.
fn reset_pending(state: impl Fn(&Server) -> RawClient) {
    let all_are_known = |siege: &Siege<'_>| {
        siege.wait_for_metrics("all are waited for", |metrics| {
            metrics.value("fanfare_pending_upgrades") == PEERS as f64
        });
    };
    reset_once(all_are_known, state);
}

fn reset_once(known: impl Fn(&Siege<'_>), state: impl Fn(&Server) -> RawClient) {
    let server = server();
    Siege::lay(&server, BYTES_MAX, |siege| {
        for _ in 0..ROUNDS {
            let peers: Vec<RawClient> = (0..PEERS).map(|_| state(&server)).collect();
            known(siege);
            peers.into_iter().for_each(reset);
            siege.wait_until_only_the_pair_is_left();
        }
        siege.last();
    });
}

/// In a room, so that there is more to be forgotten.
fn member(server: &Server) -> RawClient {
    let mut client = RawClient::upgraded(server.address());
    client.send_text(r#"{"type":"SUBSCRIBE","room":"of those who go"}"#);
    assert!(client.recv_text().contains("SUBSCRIBED"));
    client
}

/// A member that has sent a command and these bytes; that the command is answered tells that all was read.
fn member_that_sent(server: &Server, bytes: impl AsRef<[u8]>) -> RawClient {
    let mut client = member(server);
    client.write([&Frame::text(r#"{"type":"PING"}"#).masked()[..], bytes.as_ref()].concat());
    assert_eq!(client.recv_text(), r#"{"type":"PONG"}"#);
    client
}

#[test]
fn before_the_request_head() {
    reset_pending(|server| RawClient::connect(server.address()));
}

#[test]
fn within_the_request_head() {
    reset_pending(|server| {
        let mut client = RawClient::connect(server.address());
        client.write(&upgrade_request("/ws", "")[..60]);
        client
    });
}

#[test]
fn without_reading_the_response() {
    reset_all(|server| {
        let mut client = RawClient::connect(server.address());
        client.write("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
        client
    });
    reset_all(|server| {
        let mut client = RawClient::connect(server.address());
        client.write(upgrade_request("/ws", ""));
        client
    });
}

#[test]
fn after_the_upgrade() {
    reset_all(|server| RawClient::upgraded(server.address()));
}

#[test]
fn in_a_room() {
    reset_all(member);
}

#[test]
fn within_a_frame() {
    let text = head(0x80 | opcode::TEXT, Length::Medium(1_000));
    reset_all(|server| member_that_sent(server, &text[..1]));
    reset_all(|server| member_that_sent(server, &text[..3]));
    reset_all(|server| member_that_sent(server, [&text[..], &[b'x'; 500]].concat()));
    reset_all(|server| member_that_sent(server, &Frame::new(opcode::PING, "within").masked()[..8]));
}

#[test]
fn within_a_fragmented_message() {
    let first = Frame::text("{").unfinished().masked();
    reset_all(|server| member_that_sent(server, &first));
    reset_all(|server| {
        let next = Frame::new(opcode::CONTINUATION, "cut off").masked();
        member_that_sent(server, [&first[..], &next[..next.len() - 2]].concat())
    });
}

#[test]
fn while_a_message_of_theirs_is_on_its_way() {
    reset_all(|server| {
        let mut client = member(server);
        client.send_text(r#"{"type":"SEND_MESSAGE","roomId":"of those who go","message":"bye","id":1}"#);
        client
    });
}

#[test]
fn after_the_servers_close_frame() {
    reset_all(|server| {
        let mut client = member(server);
        client.write(Frame::text("no command").masked().repeat(101));
        assert_eq!(client.skip_to_close(), Some(code::TOO_MANY_ERRORS));
        client
    });
}

#[test]
fn after_a_violation() {
    reset_all(|server| {
        let mut client = member(server);
        client.send(&Frame::new(0x3, ""));
        assert_eq!(client.skip_to_close(), Some(code::PROTOCOL));
        client
    });
}

#[test]
fn after_a_close_frame_of_their_own() {
    reset_all(|server| {
        let mut client = member(server);
        client.send(&Frame::close(code::NORMAL, ""));
        client
    });
}

#[test]
fn at_once_after_a_command() {
    let server = server();
    Siege::lay(&server, BYTES_MAX, |siege| {
        let mut number = 0;
        while number < 400 || !siege.has_lasted() {
            let mut client = RawClient::upgraded(server.address());
            client.send_text(&format!(r#"{{"type":"SUBSCRIBE","room":"fleeting {number}"}}"#));
            reset(client);
            number += 1;
        }
    });
}

#[test]
fn while_subscribing() {
    let redis = Redis::start();
    let server = Server::launch().redis(&redis).flag("--timeouts-room-linger-ms", 200).ops().start();
    Siege::lay(&server, BYTES_MAX, |siege| {
        for round in 0..ROUNDS {
            redis.pause();
            let peers: Vec<RawClient> = (0..PEERS)
                .map(|peer| {
                    let mut client = RawClient::upgraded(server.address());
                    let room = format!("never held {round} {}", peer % 7);
                    client.send_text(&format!(r#"{{"type":"SUBSCRIBE","room":"{room}"}}"#));
                    client.send_text(r#"{"type":"PING"}"#);
                    // No SUBSCRIBED before it: the server waits for Redis.
                    assert_eq!(client.recv_text(), r#"{"type":"PONG"}"#);
                    client
                })
                .collect();
            peers.into_iter().for_each(reset);
            siege.wait_until_only_the_pair_is_left();
            redis.resume();
            siege.fence();
        }
        siege.last();
    });
}

#[test]
fn while_they_lag() {
    const LAGGING: usize = 4;
    const OUTBOX_BYTES_MAX: usize = 4 << 20;
    let server = Server::launch()
        .flag("--limits-outbox-bytes-max", OUTBOX_BYTES_MAX)
        .flag("--timeouts-close-ms", 60_000)
        .ops()
        .start();
    Siege::lay(&server, (LAGGING * OUTBOX_BYTES_MAX) as u64, |siege| {
        for _ in 0..ROUNDS {
            let peers: Vec<RawClient> = (0..LAGGING).map(|_| member(&server)).collect();
            let message = format!("\"{}\"", "x".repeat(60_000));
            let mut said = 0;
            // More than all but one can be behind by without being closed.
            while server.metrics().value("fanfare_unsent_bytes") <= ((LAGGING - 1) * OUTBOX_BYTES_MAX) as f64 {
                // A new one each time: one alone may say only so much.
                let mut talker = Client::member(&server, "of those who go");
                for _ in 0..5 {
                    talker.publish("of those who go", &message);
                    talker.expect_message("of those who go", &message);
                }
                said += 5;
                assert!(said < 2_000, "{said} messages were not enough");
                talker.leave();
            }
            peers.into_iter().for_each(reset);
            siege.wait_until_only_the_pair_is_left();
        }
        siege.last();
    });
    assert_eq!(server.metrics().value("fanfare_slow_closes_total"), 0.0);
}
