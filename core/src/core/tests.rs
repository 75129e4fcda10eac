//! What the core as a whole does with its machines, where that is not seen from outside.

use super::*;
use crate::action::Action;
use crate::event::Event;
use std::time::Duration;

/// Every action is moved from function to function, and every delivery is one. A larger one is moved by a call of memcpy.
#[test]
fn an_action_is_two_cache_lines_at_most() {
    assert!(size_of::<Action<'_>>() <= 128, "{} bytes", size_of::<Action<'_>>());
}

#[test]
fn a_newcomer_that_subscribes_at_once_needs_no_meter() {
    let mut core = Core::new(Config::default());
    let head = "GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let command = r#"{"type":"SUBSCRIBE","room":"room1"}"#;
    let mut frame = [&[0x81, 0x80 | command.len() as u8, 0, 0, 0, 0], command.as_bytes()].concat();
    let now = Time::from_millis(60_000);
    let mut turn = core.turn(now);
    let conn = turn.open().unwrap();
    turn.feed(Event::Bytes { conn, data: &mut head.to_owned().into_bytes() });
    drop(turn.finish());
    for commands in 1..=3 {
        let mut turn = core.turn(now);
        turn.feed(Event::Bytes { conn, data: &mut frame });
        drop(turn.finish());
        let metered = core.cx.slots.get(conn.slot() as u32).meter.is_some();
        assert_eq!(metered, commands > 1, "{commands} at once");
    }
    let mut turn = core.turn(now + Duration::from_secs(20));
    turn.feed(Event::Timeout);
    drop(turn.finish());
    assert!(core.cx.slots.get(conn.slot() as u32).meter.is_none(), "it owes nothing any more");
}
