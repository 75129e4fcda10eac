//! A member that does not read: it is closed with 4008 at its limit, finds only whole frames, and holds up nobody.

use fanfare_tests::{Client, Frame, Launch, RawClient, Server, code, opcode};

const OUTBOX_BYTES_MAX: usize = 256 * 1024;

/// A server whose senders may send as fast as they can.
fn unhurried() -> Launch {
    Server::launch().flag("--limits-messages-per-second", 0).flag("--limits-bytes-per-second", 0)
}

/// A member of `r` that has read nothing since it joined.
fn idler(server: &Server) -> RawClient {
    let mut client = RawClient::upgraded(server.address());
    client.send_text(r#"{"type":"SUBSCRIBE","room":"r"}"#);
    assert_eq!(client.recv_text(), r#"{"type":"SUBSCRIBED","room":"r"}"#);
    client
}

/// A message that tells its number and fills a good part of a socket's buffer.
fn numbered(number: usize) -> String {
    format!("[{number},\"{}\"]", "x".repeat(30_000))
}

/// Sends numbered messages, each read by `reader` before the next, until `enough` holds; how many.
fn send_until(sender: &mut Client, reader: &mut Client, mut enough: impl FnMut() -> bool) -> usize {
    // Far beyond what the kernel buffers for one connection.
    const COUNT_MAX: usize = 4_000;
    for number in 0..COUNT_MAX {
        let raw = numbered(number);
        sender.publish("r", &raw);
        reader.expect_message("r", &raw);
        if number % 10 == 9 && enough() {
            return number + 1;
        }
    }
    panic!("{COUNT_MAX} messages were not enough");
}

#[test]
fn at_the_limit_it_is_closed_with_4008_after_whole_frames_only() {
    let server = unhurried()
        .flag("--limits-outbox-bytes-max", OUTBOX_BYTES_MAX)
        .flag("--timeouts-close-ms", 60_000)
        .ops()
        .start();
    let mut reader = Client::member(&server, "r");
    let mut sender = Client::connect(&server);
    let mut slow = idler(&server);
    let sent = send_until(&mut sender, &mut reader, || server.metrics().value("fanfare_slow_closes_total") == 1.0);

    // It reads at last: the messages in order from the first, and the close frame.
    let mut received = 0;
    let close = loop {
        let frame = slow.recv();
        if frame.opcode == opcode::CLOSE {
            break frame;
        }
        let text = format!(r#"{{"type":"MESSAGE","room":"r","message":{}}}"#, numbered(received));
        assert_eq!(frame, Frame::text(text), "message {received}");
        received += 1;
    };
    assert_eq!(close.payload[..2], code::TOO_SLOW.to_be_bytes());
    assert!(received < sent, "it was closed though it got everything");
    slow.send(&close);
    slow.expect_end();

    // The others never noticed.
    sender.publish("r", "1");
    reader.expect_message("r", "1");
    let metrics = server.wait_for_metrics("nothing is kept for it", |metrics| {
        metrics.value("fanfare_connections") == 2.0 && metrics.value("fanfare_unsent_bytes") == 0.0
    });
    assert_eq!(metrics.value("fanfare_stored_frame_bytes"), 0.0);
    assert_eq!(metrics.value("fanfare_slow_closes_total"), 1.0);
}

#[test]
fn one_that_never_reads_again_is_ended_all_the_same() {
    let server =
        unhurried().flag("--limits-outbox-bytes-max", OUTBOX_BYTES_MAX).flag("--timeouts-close-ms", 300).ops().start();
    let mut reader = Client::member(&server, "r");
    let mut sender = Client::connect(&server);
    let _slow = idler(&server);
    send_until(&mut sender, &mut reader, || server.metrics().value("fanfare_slow_closes_total") == 1.0);
    server.wait_for_metrics("it is gone", |metrics| {
        metrics.value("fanfare_connections") == 2.0
            && metrics.value("fanfare_unsent_bytes") == 0.0
            && metrics.value("fanfare_memberships") == 1.0
    });
}

#[test]
fn one_that_catches_up_in_time_stays_and_misses_nothing() {
    let server = unhurried().flag("--limits-outbox-bytes-max", 64 << 20).ops().start();
    let mut reader = Client::member(&server, "r");
    let mut sender = Client::connect(&server);
    let mut slow = idler(&server);
    // More than the kernel holds: the server keeps the rest.
    let sent = send_until(&mut sender, &mut reader, || server.metrics().value("fanfare_unsent_bytes") > 500_000.0);
    for number in 0..sent {
        let text = format!(r#"{{"type":"MESSAGE","room":"r","message":{}}}"#, numbered(number));
        assert_eq!(slow.recv(), Frame::text(text), "message {number}");
    }
    let metrics = server.wait_for_metrics("all is sent", |metrics| metrics.value("fanfare_unsent_bytes") == 0.0);
    assert_eq!(metrics.value("fanfare_stored_frame_bytes"), 0.0);
    assert_eq!(metrics.value("fanfare_slow_closes_total"), 0.0);
    slow.send_text(r#"{"type":"PING"}"#);
    assert_eq!(slow.recv_text(), r#"{"type":"PONG"}"#);
}

#[test]
fn the_budget_for_all_together_holds_too() {
    const TOTAL_BYTES_MAX: usize = 1 << 20;
    // As much for each alone, so that it is the sum that goes over. Several workers would divide it.
    let server = unhurried()
        .workers(1)
        .flag("--limits-outbox-bytes-max", TOTAL_BYTES_MAX)
        .flag("--limits-outbox-total-bytes-max", TOTAL_BYTES_MAX)
        .flag("--timeouts-close-ms", 300)
        .ops()
        .start();
    let mut reader = Client::member(&server, "r");
    let mut sender = Client::connect(&server);
    let rooms = ["s0", "s1", "s2", "s3"];
    let _slow = rooms.map(|room| {
        let mut slow = RawClient::upgraded(server.address());
        slow.send_text(&format!(r#"{{"type":"SUBSCRIBE","room":"{room}"}}"#));
        assert!(slow.recv_text().contains("SUBSCRIBED"));
        slow
    });
    for number in 0.. {
        for room in rooms {
            sender.publish_acknowledged(room, &numbered(number));
        }
        let metrics = server.metrics();
        let stored = metrics.value("fanfare_stored_frame_bytes");
        assert!(stored <= TOTAL_BYTES_MAX as f64, "{stored} bytes are kept for all together");
        if metrics.value("fanfare_slow_closes_total") >= 1.0 {
            break;
        }
        assert!(number < 4_000, "4,000 messages to each room were not enough");
    }
    sender.publish("r", "1");
    reader.expect_message("r", "1");
}
