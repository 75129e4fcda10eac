//! The origin of the clock is the adapter's choice: a clock that began long ago, at the Unix epoch say, is as good as any.

use fanfare_core::time::Time;
use fanfare_core::{Config, Event};
use fanfare_tests::lone_core::{LoneCore, Said, text_to};
use fanfare_tests::upgrade_request;
use std::time::Duration;

/// The start; a time in 2025 in Unix microseconds; and just before four bytes of the core's own units overflow.
const STARTS: [Time; 3] =
    [Time::ZERO, Time::from_micros(1_760_000_000_000_000), Time::from_micros((u32::MAX as u64 - 300) << 15)];

#[test]
fn a_head_has_its_time_and_no_more() {
    for start in STARTS {
        let mut lone = LoneCore::at(start, Config::default());
        let conn = lone.connect();
        let next = lone.core.next_timeout().expect("a head is waited for");
        assert!(next > start && next <= start + Duration::from_secs(70), "{start:?}: {next:?}");
        assert_eq!(lone.wait(Duration::from_secs(9)), []);
        assert!(text_to(&lone.wait(Duration::from_secs(2)), conn).starts_with("HTTP/1.1 408 "));
    }
}

#[test]
fn a_ping_follows_silence_and_nothing_else() {
    for start in STARTS {
        let mut lone = LoneCore::at(start, Config::default());
        let conn = lone.client();
        for _ in 0..5 {
            lone.wait(Duration::from_secs(20));
            lone.command(conn, r#"{"type":"PING"}"#);
            assert_eq!(lone.wait(Duration::from_secs(1)), []);
        }
        assert_eq!(lone.wait(Duration::from_secs(23)), []);
        assert_eq!(lone.wait(Duration::from_secs(2)), [Said::Sent(conn, vec![0x89, 0])]);
        assert!(text_to(&lone.wait(Duration::from_secs(11)), conn).ends_with("no sign of life"));
    }
}

#[test]
fn the_first_turn_may_open_connections() {
    for start in STARTS {
        let mut lone = LoneCore { now: start, ..LoneCore::new(Config::default()) };
        let mut conn = None;
        lone.turn(|turn| {
            conn = Some(turn.open().expect("there is a place"));
            turn.feed(Event::Timeout);
        });
        let conn = conn.expect("set above");
        assert_eq!(lone.wait(Duration::from_secs(9)), []);
        let said = lone.bytes(conn, upgrade_request("/", ""));
        assert!(text_to(&said, conn).starts_with("HTTP/1.1 101 "));
    }
}
