//! Bytes of a client that the server has and has not looked at may be the sign of life that is waited for: no deadline is judged before.

use fanfare_core::{Config, ConnId, Event, Rate};
use fanfare_tests::lone_core::{LoneCore, Said, text_to};
use fanfare_tests::{Frame, config, opcode};
use std::time::Duration;

/// The clock of deadlines ticks every 33 ms; and after a moment a deadline is judged again.
const MOMENT: Duration = Duration::from_millis(100);

/// A turn of an adapter that has bytes of this connection and has not read them.
fn turn_before_reading(lone: &mut LoneCore, conn: ConnId) -> Vec<Said> {
    lone.turn(|turn| turn.timeout(|other| other == conn))
}

fn is_silent(said: &[Said], conn: ConnId) -> bool {
    text_to(said, conn).contains("no sign of life")
}

#[test]
fn a_websocket_whose_bytes_the_adapter_has() {
    let (ping, pong) =
        (Config::default().timeouts.ping_interval + MOMENT, Config::default().timeouts.pong_timeout + MOMENT);
    let mut lone = LoneCore::new(Config::default());
    let (unread, other) = (lone.client(), lone.client());
    lone.wait(ping);
    lone.now = lone.now + pong;
    let said = turn_before_reading(&mut lone, unread);
    assert!(!is_silent(&said, unread) && is_silent(&said, other), "{said:?}");
    lone.now = lone.now + MOMENT;
    assert!(!is_silent(&turn_before_reading(&mut lone, unread), unread), "however often");
    assert!(is_silent(&lone.wait(MOMENT), unread), "there was nothing after all");
}

#[test]
fn a_request_head_whose_rest_the_adapter_has() {
    let mut lone = LoneCore::new(Config::default());
    let (unread, other) = (lone.connect(), lone.connect());
    lone.now = lone.now + Config::default().timeouts.handshake + MOMENT;
    let said = turn_before_reading(&mut lone, unread);
    assert!(text_to(&said, unread).is_empty() && text_to(&said, other).contains(" 408 "), "{said:?}");
    assert!(text_to(&lone.wait(MOMENT), unread).contains(" 408 "));
}

#[test]
fn a_websocket_whose_bytes_the_core_keeps_because_all_make_too_much_work() {
    let mut lone = LoneCore::new(config(|config| {
        config.limits.surplus = Rate { per_second: 1, burst: 1 };
        (config.limits.bytes, config.limits.messages) = (Rate::NONE, Rate::NONE);
    }));
    let (busy, other) = (lone.client(), lone.client());
    let command = Frame::text(format!(r#"{{"type":"PING","id":"{}"}}"#, "x".repeat(60))).masked();
    lone.turn(|turn| turn.feed(Event::Bytes { conn: busy, data: &mut command.repeat(1_000) }));
    assert!(lone.core.has_unread() && lone.core.is_strained());
    let said = lone.wait(Config::default().timeouts.ping_interval + MOMENT);
    assert!(said.contains(&Said::Sent(busy, Frame::new(opcode::PING, "").unmasked())), "{said:?}");
    let said = lone.wait(Config::default().timeouts.pong_timeout + MOMENT);
    assert!(!is_silent(&said, busy) && is_silent(&said, other), "{said:?}");
    assert!(!is_silent(&lone.wait(MOMENT), busy) && lone.core.has_unread());
}

#[test]
fn a_message_whose_rest_the_adapter_has() {
    let time = Duration::from_secs(5);
    let mut lone = LoneCore::new(config(|config| config.timeouts.message = time));
    let is_ended = |said: &[Said], conn| text_to(said, conn).contains("a message did not end in time");
    let (unread, other) = (lone.client(), lone.client());
    for conn in [unread, other] {
        lone.bytes(conn, Frame::text("the beginning").unfinished().masked());
    }
    lone.now = lone.now + time;
    let said = turn_before_reading(&mut lone, unread);
    assert!(!is_ended(&said, unread) && is_ended(&said, other), "{said:?}");
    // What it had sent was not the end.
    assert!(is_ended(&lone.wait(time), unread));
}
