//! From a message's first byte to its last there is a time, which is its own: neither the messages before it nor pings shorten or
//! lengthen it.

use fanfare_tests::lone_core::{LoneCore, text_to};
use fanfare_tests::{Frame, config, opcode};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);
const TIME: Duration = Duration::from_secs(30);
const PING: &str = r#"{"type":"PING"}"#;

fn lone() -> LoneCore {
    LoneCore::new(config(|config| {
        config.timeouts.message = TIME;
        config.timeouts.ping_interval = 100 * TIME;
    }))
}

#[test]
fn a_client_that_is_always_in_the_midst_of_a_message_is_not_closed_while_each_ends_in_time() {
    let frame = Frame::text(PING).masked();
    // In the midst of a header, of a mask, and of a payload; or between two fragments.
    let (start, end) = PING.split_at(4);
    let fragments = [Frame::text(start).unfinished().masked(), Frame::new(opcode::CONTINUATION, end).masked()].concat();
    for (message, cut) in [(&frame, 1), (&frame, 3), (&frame, 9), (&fragments, 10), (&fragments, 12)] {
        let mut lone = lone();
        let conn = lone.client();
        lone.bytes(conn, &message[..cut]);
        for _ in 0..100 {
            lone.now = lone.now + SECOND;
            let said = lone.bytes(conn, [&message[cut..], &message[..cut]].concat());
            assert!(text_to(&said, conn).contains("PONG"), "{cut}: {said:?}");
        }
        // The last of them has all of its time, and no more.
        lone.wait(TIME - SECOND);
        assert_eq!(lone.core.metrics().unfinished_closes, 0, "{cut}");
        let said = lone.wait(SECOND);
        assert!(text_to(&said, conn).contains("a message did not end in time"), "{cut}: {said:?}");
    }
}

#[test]
fn pings_between_its_fragments_give_a_message_no_more_time() {
    let mut lone = lone();
    let conn = lone.client();
    lone.bytes(conn, Frame::text("{").unfinished().masked());
    for _ in 0..28 {
        lone.now = lone.now + SECOND;
        let ping = Frame::new(opcode::PING, "").masked();
        lone.bytes(conn, [&ping[..], &ping[..2]].concat());
        lone.bytes(conn, &ping[2..]);
    }
    lone.wait(SECOND);
    assert_eq!(lone.core.metrics().unfinished_closes, 0);
    lone.wait(SECOND);
    assert_eq!(lone.core.metrics().unfinished_closes, 1);
}
