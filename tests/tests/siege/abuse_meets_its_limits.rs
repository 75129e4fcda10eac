//! Attacks against which a limit of its own is the defence: at the default, or as a flag sets it, whoever exceeds it is thrown out, and whoever
//! does not is served.

use fanfare_tests::abuse::Siege;
use fanfare_tests::{Adapter, Frame, RawClient, Server, code, opcode};

/// `limits.message_bytes_max`, in a buffer that doubles as it grows.
const MESSAGE_BYTES: u64 = 2 * (64 << 10);

#[test]
fn more_unfinished_requests_than_allowed_push_out_the_oldest() {
    const UNFINISHED: usize = 1_200;
    const PENDING_MAX: usize = 1_024;
    // Each worker knows the oldest of its own.
    let limits = Server::launch().workers(1).flag("--limits-pending-upgrades-max", PENDING_MAX);
    let server = limits.flag("--timeouts-handshake-ms", 60_000).ops().start();
    Siege::lay(&server, UNFINISHED as u64 * Adapter::under_test().connection_bytes(), |siege| {
        // Each says something: who is silent is accepted after a second, in no order.
        let begun = || {
            let mut peer = RawClient::connect(server.address());
            peer.write("GET /");
            peer
        };
        let mut peers: Vec<RawClient> = (0..UNFINISHED).map(|_| begun()).collect();
        // In the order in which they came.
        for mut peer in peers.drain(..UNFINISHED - PENDING_MAX) {
            assert_eq!(peer.read_head().status, 503);
        }
        siege.wait_for_metrics("the others are waited for", |metrics| {
            metrics.value("fanfare_pending_upgrades") == PENDING_MAX as f64
        });
        // Who is no attacker gets in all the same, at the cost of one of them.
        let mut newcomer = RawClient::upgraded(server.address());
        newcomer.send_text(r#"{"type":"PING"}"#);
        assert_eq!(newcomer.recv_text(), r#"{"type":"PONG"}"#);
        siege.last();
    });
}

/// `limits.frames_per_message_max` is 1,024 by default.
#[test]
fn a_message_that_never_ends_is_cut_off_at_its_limit_of_fragments() {
    const FRAMES_PER_MESSAGE_MAX: usize = 1_024;
    let server = Server::launch().flag("--timeouts-close-ms", 300).ops().start();
    Siege::lay(&server, 4 * MESSAGE_BYTES, |siege| {
        for payload in ["", "x"] {
            let mut within = RawClient::upgraded(server.address());
            within.send(&Frame::text(payload).unfinished());
            let fragment = Frame::new(opcode::CONTINUATION, payload).unfinished().masked();
            within.write(fragment.repeat(FRAMES_PER_MESSAGE_MAX - 2));
            within.send(&Frame::new(opcode::PING, "still here?"));
            assert_eq!(within.recv(), Frame::new(opcode::PONG, "still here?"));

            let mut beyond = RawClient::upgraded(server.address());
            beyond.send(&Frame::text(payload).unfinished());
            beyond.write_or_gone(fragment.repeat(2 * FRAMES_PER_MESSAGE_MAX));
            assert_eq!(beyond.skip_to_close(), Some(code::POLICY));
        }
        siege.last();
    });
}

/// `limits.pings_per_second` is 10 by default, `limits.pings_burst` 100.
#[test]
fn a_thousand_pings_at_once_are_too_many() {
    let server = Server::launch().flag("--timeouts-close-ms", 300).start();
    for opcode in [opcode::PING, opcode::PONG] {
        let mut client = RawClient::upgraded(server.address());
        client.write_or_gone(Frame::new(opcode, "").masked().repeat(1_000));
        assert_eq!(client.skip_to_close(), Some(code::TOO_FAST));
    }
}
