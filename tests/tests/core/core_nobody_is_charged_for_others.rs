//! What the broker's events make the server tell others is nobody's work: whoever is read next in the turn is not charged for it.

use fanfare_core::broker::BrokerEvent;
use fanfare_core::ws::Message;
use fanfare_core::{Dialect, Event, Rate, Turn};
use fanfare_tests::lone_core::{LoneCore, text_to};
use fanfare_tests::{Frame, config, upgrade_request};

const PING: &str = r#"{"type":"PING"}"#;

/// A core in which a connection may make little work, and 200 clients wait for the broker.
fn many_wait() -> LoneCore {
    let mut lone = LoneCore::new(config(|config| config.limits.bytes = Rate { per_second: 1, burst: 2_000 }));
    for _ in 0..200 {
        let conn = lone.client();
        lone.command(conn, r#"{"type":"SUBSCRIBE","room":"r"}"#);
    }
    lone
}

/// A turn in which all of them are told, and `then` one more is read. Nobody has sent too much.
fn told_and(lone: &mut LoneCore, then: impl FnOnce(&mut Turn<'_>)) {
    let said = lone.turn(|turn| {
        turn.feed(Event::Broker(BrokerEvent::Subscribed { room: "r" }));
        then(turn);
    });
    let told: usize = lone.core.metrics().memberships_now as usize;
    assert!(told >= 200 && said.len() > 200, "{} of {told} were told", said.len());
    assert_eq!(lone.core.metrics().rate_closes, 0);
}

#[test]
fn who_sends_a_command() {
    let mut lone = many_wait();
    let conn = lone.client();
    told_and(&mut lone, |turn| turn.feed(Event::Bytes { conn, data: &mut Frame::text(PING).masked() }));
}

#[test]
fn who_connects_to_a_room() {
    let mut lone = many_wait();
    let conn = lone.connect();
    told_and(&mut lone, |turn| {
        turn.feed(Event::Bytes { conn, data: &mut upgrade_request("/?room=r", "").into_bytes() })
    });
    assert!(text_to(&lone.command(conn, PING), conn).contains("PONG"));
}

#[test]
fn whose_frames_somebody_else_reads() {
    let mut lone = many_wait();
    let mut conn = None;
    lone.turn(|turn| conn = turn.open_websocket(Dialect::Fanfare, &[], None).ok());
    let conn = conn.expect("there is a place");
    told_and(&mut lone, |turn| turn.feed(Event::Message { conn, message: Message::Text(PING) }));
}
