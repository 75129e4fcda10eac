//! Connections that take up a place and send next to nothing: they cost what they have sent, end in time where there is
//! a time, and hold up nobody.

use fanfare_tests::abuse::Siege;
use fanfare_tests::{Adapter, Frame, Length, RawClient, Server, code, head, mask, opcode};

const PEERS: usize = 200;
const TIMED_OUT: &str = r#"fanfare_upgrades_total{outcome="timed_out"}"#;

#[test]
fn heads_that_come_byte_by_byte_are_answered_408_in_time() {
    let server = Server::launch().flag("--timeouts-handshake-ms", 2000).ops().start();
    Siege::lay(&server, PEERS as u64 * Adapter::under_test().connection_bytes(), |siege| {
        // A field that goes on and on, of which the server sees a byte every few turns.
        let beginning = "GET /ws HTTP/1.1\r\nHost: localhost\r\nX-Endless: ";
        let mut bytes = beginning.bytes().chain(std::iter::repeat(b'x'));
        let mut peers: Vec<RawClient> = (0..PEERS).map(|_| RawClient::connect(server.address())).collect();
        let first = bytes.next().expect("there is no end of them");
        for peer in &mut peers {
            peer.write([first]);
        }
        siege.wait_for_metrics("all are waited for", |metrics| {
            metrics.value("fanfare_pending_upgrades") == PEERS as f64
        });
        let mut sent = 1;
        for byte in bytes {
            for peer in &mut peers {
                peer.write_or_gone([byte]);
            }
            sent += 1;
            siege.fence();
            if server.metrics().value(TIMED_OUT) == PEERS as f64 {
                break;
            }
        }
        assert!(sent > 2, "{sent} bytes each are no drip");
        for mut peer in peers {
            let response = peer.read_head();
            assert_eq!(response.status, 408, "{}", response.head);
        }
        siege.last();
    });
}

#[test]
fn connections_that_send_nothing_are_answered_408_in_time() {
    const SILENT: usize = 800;
    let server = Server::launch().flag("--timeouts-handshake-ms", 1500).ops().start();
    Siege::lay(&server, SILENT as u64 * Adapter::under_test().connection_bytes(), |siege| {
        let peers: Vec<RawClient> = (0..SILENT).map(|_| RawClient::connect(server.address())).collect();
        siege.last();
        for mut peer in peers {
            assert_eq!(peer.read_head().status, 408);
        }
    });
    assert_eq!(server.metrics().value(TIMED_OUT), SILENT as f64);
}

#[test]
fn frames_that_come_byte_by_byte_are_obeyed_once_they_are_whole() {
    let server = Server::launch().ops().start();
    Siege::lay(&server, PEERS as u64 * Adapter::under_test().connection_bytes(), |siege| {
        let mut peers: Vec<RawClient> = (0..PEERS).map(|_| RawClient::upgraded(server.address())).collect();
        // Cut in every place: header, length, mask, payload, between the fragments, and within a ping among them.
        let bytes = [
            Frame::text(r#"{"type":"PI"#).unfinished().masked(),
            Frame::new(opcode::PING, "p").masked(),
            Frame::new(opcode::CONTINUATION, r#"NG"}"#).masked(),
        ];
        for byte in bytes.concat() {
            for peer in &mut peers {
                peer.write([byte]);
            }
            siege.fence();
        }
        for peer in &mut peers {
            assert_eq!(peer.recv(), Frame::new(opcode::PONG, "p"));
            assert_eq!(peer.recv_text(), r#"{"type":"PONG"}"#);
        }
        siege.last();
    });
}

#[test]
fn a_length_announced_and_never_sent_takes_no_memory() {
    const MESSAGE_BYTES_MAX: u64 = 16 << 20;
    // What Redis takes and gives would have to be as large.
    let server = Server::launch()
        .embedded()
        .flag("--limits-message-bytes-max", MESSAGE_BYTES_MAX)
        // The outbox has to hold the largest message, and so has what a client may send at once where that is limited.
        .flag("--limits-outbox-bytes-max", 2 * MESSAGE_BYTES_MAX)
        .env("FANFARE_LIMITS_BYTES_BURST", (2 * MESSAGE_BYTES_MAX).to_string())
        .ops()
        .start();
    // All together would be 3 GiB.
    Siege::lay(&server, PEERS as u64 * Adapter::under_test().connection_bytes(), |siege| {
        let mut peers: Vec<RawClient> = (0..PEERS).map(|_| RawClient::upgraded(server.address())).collect();
        for peer in &mut peers {
            peer.write(head(0x80 | opcode::BINARY, Length::Long(MESSAGE_BYTES_MAX)));
        }
        for byte in 0..10 {
            for peer in &mut peers {
                peer.write([byte]);
            }
            siege.fence();
        }
        siege.last();
    });
}

#[test]
fn unfinished_messages_hold_no_more_than_a_message_may() {
    const MESSAGE_BYTES_MAX: usize = 64 << 10;
    let server = Server::launch().flag("--limits-message-bytes-max", MESSAGE_BYTES_MAX).ops().start();
    // A buffer that grows doubles.
    let bytes_max = PEERS as u64 * (Adapter::under_test().connection_bytes() + 2 * MESSAGE_BYTES_MAX as u64);
    Siege::lay(&server, bytes_max, |siege| {
        let mut peers: Vec<RawClient> = (0..PEERS).map(|_| RawClient::upgraded(server.address())).collect();
        let frame = Frame::new(opcode::CONTINUATION, "x".repeat(1 << 10)).unfinished().masked();
        for fragment in 0..MESSAGE_BYTES_MAX >> 10 {
            for peer in &mut peers {
                match fragment {
                    0 => peer.write(Frame::text("x".repeat(1 << 10)).unfinished().masked()),
                    _ => peer.write(&frame),
                }
            }
        }
        siege.fence();
        // The byte that is one too many need not even be sent.
        for peer in &mut peers {
            peer.write(head(opcode::CONTINUATION, Length::Short(1)));
            assert_eq!(peer.recv_close(), Some(code::TOO_BIG));
            peer.write_or_gone(mask("x"));
        }
        siege.last();
    });
}
