//! The limit of malformed commands is exact at both ends of its range, and time forgives them.

use fanfare_core::Rate;
use fanfare_core::broker::BrokerEvent;
use fanfare_tests::lone_core::{LoneCore, Said, text_to};
use fanfare_tests::{Frame, config, opcode, upgrade_request};
use std::time::Duration;

/// Whether the connection is closed by the last of `errors` malformed commands, and by none before.
fn closes_with(errors: usize, errors_max: u16) -> bool {
    let mut lone = LoneCore::new(config(|config| {
        config.limits.errors_max = errors_max;
        config.limits.messages = Rate::NONE;
        (config.limits.bytes, config.limits.surplus) = (Rate::NONE, Rate::NONE);
    }));
    let conn = lone.client();
    let said = lone.bytes(conn, Frame::text("x").masked().repeat(errors - 1));
    assert!(!text_to(&said, conn).contains("too many malformed commands"));
    text_to(&lone.command(conn, "x"), conn).contains("too many malformed commands")
}

#[test]
fn none_is_allowed() {
    assert!(closes_with(1, 0));
}

#[test]
fn as_many_as_a_number_of_16_bits_holds_are_allowed() {
    assert!(!closes_with(65_535, u16::MAX));
    assert!(closes_with(65_536, u16::MAX));
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn time_forgives_and_a_listener_with_an_odd_heartbeat_stays() {
    for heartbeat in ["2", "heartbeat", r#"{"type":"KEEPALIVE"}"#] {
        let mut lone = LoneCore::new(config(|_| {}));
        let listener = lone.member("r");
        // A day, twice a minute.
        for _ in 0..2 * 60 * 24 {
            lone.wait(30 * SECOND);
            lone.bytes(listener, Frame::new(opcode::PONG, "").masked());
            let said = lone.command(listener, heartbeat);
            assert!(text_to(&said, listener).contains("ERROR"), "{heartbeat}: {said:?}");
        }
    }
}

#[test]
fn errors_are_forgiven_at_their_rate_and_no_faster() {
    let mut lone =
        LoneCore::new(config(|config| (config.limits.errors_max, config.limits.errors_per_minute) = (3, 20)));
    let conn = lone.client();
    for _ in 0..3 {
        lone.command(conn, "x");
    }
    // One for every 3 s.
    for _ in 0..5 {
        lone.now = lone.now + 3 * SECOND;
        assert!(text_to(&lone.command(conn, "x"), conn).contains("ERROR"));
    }
    lone.now = lone.now + (3 * SECOND - Duration::from_micros(1));
    assert!(text_to(&lone.command(conn, "x"), conn).contains("too many malformed commands"));
}

#[test]
fn without_a_rate_time_forgives_nothing() {
    let mut lone = LoneCore::new(config(|config| (config.limits.errors_max, config.limits.errors_per_minute) = (1, 0)));
    let conn = lone.client();
    lone.command(conn, "x");
    lone.now = lone.now + 1_000_000 * SECOND;
    assert!(text_to(&lone.command(conn, "x"), conn).contains("too many malformed commands"));
}

#[test]
fn text_heartbeats_are_no_errors() {
    let mut lone = LoneCore::new(config(|config| config.limits.errors_max = 0));
    let conn = lone.client();
    for ping in ["ping", "PING", "\"ping\"", "ping\n", r#"{"type":"ping"}"#] {
        assert!(text_to(&lone.command(conn, ping), conn).contains(r#"{"type":"PONG"}"#), "{ping}");
    }
    for silent in ["pong", "PONG", "\"pong\"", "\n", "\r\n"] {
        assert!(lone.command(conn, silent).is_empty(), "{silent:?}");
    }
    let classic = lone.connect();
    lone.bytes(classic, upgrade_request("/classic", ""));
    for text in ["ping", "pong", "\n", r#"{"type":"ping"}"#] {
        assert!(lone.command(classic, text).is_empty(), "{text:?}");
    }
    // There every text is a message.
    let broadcaster = lone.connect();
    lone.bytes(broadcaster, upgrade_request("/broadcast/r", ""));
    lone.broker(BrokerEvent::Subscribed { room: "r" });
    let said = lone.command(broadcaster, "ping");
    assert!(said.iter().any(|said| matches!(said, Said::Publish(room, ..) if room == "r")), "{said:?}");
}
