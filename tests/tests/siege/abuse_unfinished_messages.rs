//! Messages that begin and do not end: all of them together have a bound, and each has a time, whatever else its client says.

use fanfare_tests::abuse::Siege;
use fanfare_tests::{Frame, Launch, RawClient, Server, code, eventually, opcode};

/// The default of `limits.unfinished_total_bytes_max`.
const UNFINISHED_TOTAL_BYTES_MAX: usize = 64 << 20;

const UNFINISHED: &str = "fanfare_unfinished_bytes";
const CLOSES: &str = "fanfare_unfinished_closes_total";

/// A server that takes messages as large as `bytes_max`, so that few clients are enough.
fn taking(bytes_max: usize) -> Launch {
    // What Redis takes and gives would have to be as large.
    Server::launch()
        .embedded()
        .flag("--limits-message-bytes-max", bytes_max)
        .flag("--limits-outbox-bytes-max", 2 * bytes_max)
        .env("FANFARE_LIMITS_BYTES_BURST", (2 * bytes_max).to_string())
        .flag("--timeouts-close-ms", 300)
        .ops()
}

/// A client that has sent the beginning of a command.
fn beginner(server: &Server, bytes: usize) -> RawClient {
    let mut client = RawClient::upgraded(server.address());
    client.write_or_gone(Frame::text(beginning(bytes)).unfinished().masked());
    client
}

/// So many bytes of a `PING`; [`END`] makes it whole.
fn beginning(bytes: usize) -> String {
    let begin = r#"{"type":"PING","id":"end","padding":""#;
    format!("{begin}{}", "x".repeat(bytes - begin.len()))
}

const END: &str = r#""}"#;

#[track_caller]
fn expect_it_can_end(client: &mut RawClient) {
    client.send(&Frame::new(opcode::CONTINUATION, END));
    assert_eq!(client.recv_text(), r#"{"type":"PONG","id":"end"}"#);
}

#[test]
fn all_together_are_bounded_and_those_who_have_waited_longest_go() {
    const MESSAGE_BYTES_MAX: usize = 4 << 20;
    const BEGUN_BYTES: usize = MESSAGE_BYTES_MAX - (64 << 10);
    const BEGINNERS: usize = 24;
    /// Whoever comes when there is no room for one more makes the first of them go.
    const CLOSED_MIN: usize = BEGINNERS - UNFINISHED_TOTAL_BYTES_MAX / BEGUN_BYTES;
    let server = taking(MESSAGE_BYTES_MAX).start();
    // The bound, and a buffer that grows is there twice for a moment.
    Siege::lay(&server, (UNFINISHED_TOTAL_BYTES_MAX + 2 * MESSAGE_BYTES_MAX) as u64, |siege| {
        let mut beginners = Vec::new();
        for _ in 0..BEGINNERS {
            beginners.push(beginner(&server, BEGUN_BYTES));
            siege.fence();
        }
        for client in &mut beginners[..CLOSED_MIN] {
            assert_eq!(client.recv_close(), Some(code::TOO_SLOW));
        }
        let metrics = server.wait_for_metrics("the bound holds", |metrics| {
            metrics.value(UNFINISHED) <= UNFINISHED_TOTAL_BYTES_MAX as f64
        });
        // Whether one more had to go depends on what is counted beside the bytes.
        let closed = metrics.value(CLOSES) as usize;
        assert!((CLOSED_MIN..BEGINNERS / 2 + CLOSED_MIN).contains(&closed), "{closed}");
        for client in &mut beginners[closed..] {
            expect_it_can_end(client);
        }
        siege.last();
    });
    server.wait_for_metrics("nothing is left", |metrics| metrics.value(UNFINISHED) == 0.0);
}

#[test]
fn a_bound_of_ones_own_holds_and_messages_that_end_make_room() {
    let server = Server::launch().flag("--limits-unfinished-total-bytes-max", 1 << 20).ops().start();
    // Far more than the bound, but one after the other.
    let mut first = beginner(&server, 60_000);
    for _ in 0..40 {
        let mut client = beginner(&server, 60_000);
        expect_it_can_end(&mut client);
    }
    expect_it_can_end(&mut first);
    assert_eq!(server.metrics().value(CLOSES), 0.0);
    // And all at once.
    let clients: Vec<RawClient> = (0..40).map(|_| beginner(&server, 60_000)).collect();
    server.wait_for_metrics("some had to go", |metrics| {
        metrics.value(CLOSES) >= 40.0 - f64::from(1 << 20) / 60_000.0 && metrics.value(UNFINISHED) <= f64::from(1 << 20)
    });
    drop(clients);
    server.wait_for_metrics("nothing is left", |metrics| metrics.value(UNFINISHED) == 0.0);
}

#[test]
fn a_message_that_does_not_end_in_time_is_given_up_whatever_its_client_says_meanwhile() {
    // Shorter than a second, in which what is said here ten times as often as may be for long would be too much.
    let server = Server::launch().flag("--timeouts-message-ms", 500).flag("--timeouts-close-ms", 300).ops().start();
    let said = [
        Frame::new(opcode::PING, ""),
        Frame::new(opcode::PONG, ""),
        // Nor do further fragments help.
        Frame::new(opcode::CONTINUATION, "x").unfinished(),
    ];
    for (frame, closes) in said.iter().zip([1.0, 2.0, 3.0]) {
        let mut client = beginner(&server, 1_000);
        eventually("the message is given up", || {
            client.write_or_gone(frame.masked());
            (server.metrics().value(CLOSES) == closes).then_some(())
        });
        assert_eq!(client.skip_to_close(), Some(code::TOO_SLOW));
    }
}

#[test]
fn a_frame_that_does_not_end_in_time_is_given_up_as_well() {
    let server = Server::launch().flag("--timeouts-message-ms", 500).ops().start();
    let mut client = RawClient::upgraded(server.address());
    let whole = Frame::text(beginning(1_000)).masked();
    client.write(&whole[..500]);
    assert_eq!(client.skip_to_close(), Some(code::TOO_SLOW));
    // Whoever has nothing begun may be silent for longer.
    let mut silent = RawClient::upgraded(server.address());
    let mut late = RawClient::upgraded(server.address());
    late.write(&whole[..500]);
    assert_eq!(late.skip_to_close(), Some(code::TOO_SLOW));
    silent.send_text(r#"{"type":"PING"}"#);
    assert_eq!(silent.recv_text(), r#"{"type":"PONG"}"#);
}
