//! The commands of one connection concerning one room take effect in the order in which they were sent: what it publishes to a
//! room waits while its SUBSCRIBE for that room does, within bounds, and is neither lost nor left without an answer.

use fanfare_core::broker::{BrokerEvent, PublishError};
use fanfare_core::{Config, ConnId, Dialect, Event, PublishFormat};
use fanfare_tests::lone_core::{LoneCore, Said, text_to};
use fanfare_tests::{Frame, config, upgrade_request};
use std::time::Duration;

const SUBSCRIBED: BrokerEvent<'_> = BrokerEvent::Subscribed { room: "r" };
const REFUSED: BrokerEvent<'_> = BrokerEvent::SubscribeFailed { room: "r", reason: "no permission" };
const DOWN: BrokerEvent<'_> = BrokerEvent::Down { reason: "away" };

fn lone() -> LoneCore {
    LoneCore::new(Config::default())
}

fn send(message: u32) -> String {
    format!(r#"{{"type":"SEND_MESSAGE","room":"r","message":{message},"id":{message}}}"#)
}

fn subscribe(id: u32) -> String {
    format!(r#"{{"type":"SUBSCRIBE","room":"r","id":{id}}}"#)
}

const UNSUBSCRIBE: &str = r#"{"type":"UNSUBSCRIBE","room":"r","id":"u"}"#;

/// All of it in one read.
fn commands(texts: &[&str]) -> Vec<u8> {
    texts.iter().flat_map(|text| Frame::text(*text).masked()).collect()
}

/// The messages that are published, in order, and whether each wants an answer.
fn published(said: &[Said]) -> Vec<(String, bool)> {
    let publishes = said.iter().filter_map(|said| match said {
        Said::Publish(room, payload, id) => Some((room, payload, id)),
        _ => None,
    });
    let message = |payload: &[u8]| {
        let text = std::str::from_utf8(payload).expect("UTF-8");
        let (_, text) = text.split_once(r#""message":"#).expect("a MESSAGE");
        text.strip_suffix('}').expect("an object").to_owned()
    };
    publishes
        .map(|(room, payload, id)| {
            assert_eq!(room, "r");
            (message(payload), id.is_some())
        })
        .collect()
}

fn numbers(said: &[Said]) -> Vec<u32> {
    published(said).into_iter().map(|(message, _)| message.trim_matches('"').parse().expect("a number")).collect()
}

fn close_code(said: &[Said], conn: ConnId) -> Option<u16> {
    let sent = said.iter().find_map(|said| match said {
        Said::Sent(to, bytes) if *to == conn => Some(bytes),
        _ => None,
    });
    let mut rest = &sent?[..];
    while let Some((frame, bytes)) = Frame::parse(rest) {
        if frame.opcode == fanfare_tests::opcode::CLOSE {
            return frame.payload.first_chunk().map(|code| u16::from_be_bytes(*code));
        }
        rest = &rest[bytes..];
    }
    None
}

#[test]
fn a_publish_waits_for_the_subscribe_before_it() {
    for format in [PublishFormat::Fanfare, PublishFormat::Classic] {
        let mut lone = LoneCore::new(config(|config| config.publish_format = format));
        let conn = lone.client();
        let said = lone.bytes(conn, commands(&[&subscribe(1), &send(2), &send(3)]));
        assert_eq!(said, [Said::Subscribe("r".into())]);
        assert_eq!(lone.core.metrics().publishes_deferred_now, 2);
        let said = lone.broker(SUBSCRIBED);
        assert_eq!(numbers(&said), [2, 3]);
        assert!(text_to(&said, conn).contains(r#"{"type":"SUBSCRIBED","room":"r","id":1}"#));
        assert_eq!(lone.core.metrics().publishes_deferred_now, 0);
        assert_eq!(numbers(&lone.command(conn, &send(4))), [4], "and from then on nothing waits");
    }
}

#[test]
fn only_what_is_of_the_same_connection_and_room_waits() {
    let mut lone = lone();
    let (conn, other) = (lone.client(), lone.client());
    lone.command(conn, &subscribe(1));
    assert_eq!(numbers(&lone.command(other, &send(2))), [2]);
    let elsewhere = r#"{"type":"SEND_MESSAGE","room":"elsewhere","message":3}"#;
    assert!(matches!(&lone.command(conn, elsewhere)[..], [Said::Publish(room, ..)] if room == "elsewhere"));
}

#[test]
fn rooms_of_the_url_and_of_the_dialect_are_waited_for_as_well() {
    let mut lone = lone();
    for (path, text) in [("/ws?room=r", send(1)), ("/broadcast/r", "1".to_owned())] {
        let conn = lone.connect();
        let said = lone.bytes(conn, [upgrade_request(path, "").into_bytes(), commands(&[&text])].concat());
        assert!(published(&said).is_empty(), "{said:?}");
    }
    lone.turn(|turn| {
        for (dialect, text) in [(Dialect::Fanfare, send(1)), (Dialect::Broadcast, "1".to_owned())] {
            let conn = turn.open_websocket(dialect, &["r"], None).expect("there is a place");
            turn.feed(Event::Message { conn, message: fanfare_core::Message::Text(&text) });
        }
    });
    assert_eq!(lone.core.metrics().publishes_deferred_now, 4);
    assert_eq!(numbers(&lone.broker(SUBSCRIBED)), [1; 4]);
}

#[test]
fn an_unsubscribe_comes_behind_what_was_sent_before_it() {
    let mut lone = lone();
    let conn = lone.client();
    lone.command(conn, &subscribe(1));
    let again = commands(&[&send(2), UNSUBSCRIBE, &subscribe(3), &send(4)]);
    let said = lone.bytes(conn, again);
    // The first SUBSCRIBE has no effect any more, so nothing is left to wait for; what follows the second one waits.
    assert_eq!(numbers(&said), [2]);
    assert!(text_to(&said, conn).contains(r#""code":"cancelled""#));
    let said = lone.broker(SUBSCRIBED);
    assert!(text_to(&said, conn).contains(r#"{"type":"SUBSCRIBED","room":"r","id":3}"#));
    assert_eq!(numbers(&said), [4]);
}

#[test]
fn a_second_subscribe_changes_nothing() {
    let mut lone = lone();
    let conn = lone.client();
    let said = lone.bytes(conn, commands(&[&subscribe(1), &send(2), &subscribe(3), &send(4)]));
    assert!(text_to(&said, conn).contains(r#""code":"pending""#) && published(&said).is_empty());
    assert_eq!(numbers(&lone.broker(SUBSCRIBED)), [2, 4]);
}

#[test]
fn behind_a_refused_subscribe_it_is_published_as_by_any_other_who_is_no_member() {
    let mut lone = lone();
    let conn = lone.client();
    lone.bytes(conn, commands(&[&subscribe(1), &send(2)]));
    let said = lone.broker(REFUSED);
    assert!(text_to(&said, conn).contains(r#""code":"broker_refused""#));
    assert_eq!(numbers(&said), [2]);

    let broadcaster = lone.connect();
    lone.bytes(broadcaster, [upgrade_request("/broadcast/r", "").into_bytes(), commands(&["3"])].concat());
    let said = lone.broker(REFUSED);
    assert_eq!((numbers(&said), close_code(&said, broadcaster)), (vec![3], Some(1013)));
}

#[test]
fn whoever_sends_and_goes_has_sent() {
    for dialect in ["/classic", "/fanfare"] {
        let mut lone = lone();
        let begin = |lone: &mut LoneCore, message| {
            let conn = lone.connect();
            lone.bytes(conn, upgrade_request(dialect, ""));
            lone.bytes(conn, commands(&[&subscribe(1), &send(message)]));
            conn
        };
        let closing = begin(&mut lone, 2);
        assert_eq!(numbers(&lone.bytes(closing, Frame::close(1000, "").masked())), [2], "a close frame");
        let ended = begin(&mut lone, 3);
        assert_eq!(numbers(&lone.turn(|turn| turn.feed(Event::Closed { conn: ended }))), [3], "an end of file");
        let rude = begin(&mut lone, 4);
        assert_eq!(numbers(&lone.bytes(rude, Frame::text("not masked").unmasked())), [4], "a violation");
        begin(&mut lone, 5);
        begin(&mut lone, 6);
        // Who can be told that it has joined is waited for, the others are not.
        let mut said = lone.turn(|turn| turn.feed(Event::Shutdown));
        said.extend(lone.broker(SUBSCRIBED));
        assert_eq!(numbers(&said), [5, 6], "the server's end");
    }
}

#[test]
fn an_outage_refuses_what_waits_where_that_can_be_told() {
    let mut lone = lone();
    let conn = lone.client();
    let classic = lone.connect();
    lone.bytes(classic, upgrade_request("/classic", ""));
    let without_id = r#"{"type":"SEND_MESSAGE","room":"r","message":3}"#;
    lone.bytes(conn, commands(&[&subscribe(1), &send(2), without_id]));
    lone.bytes(classic, commands(&[&subscribe(1), &send(4)]));
    let told = |said: &[Said]| text_to(said, conn).matches(r#""code":"broker_unavailable""#).count();
    for said in [lone.broker(DOWN), {
        // And while it lasts nothing begins to wait.
        let mut said = lone.bytes(conn, commands(&[&send(2), without_id]));
        said.extend(lone.bytes(classic, commands(&[&send(4)])));
        said
    }] {
        assert_eq!((told(&said), numbers(&said)), (1, vec![3, 4]), "{said:?}");
    }
    // The SUBSCRIBE itself waits on, and with it what is sent when the broker is back.
    assert_eq!(lone.broker(BrokerEvent::Up), [Said::Subscribe("r".into())]);
    assert_eq!(lone.command(conn, &send(5)), []);
    let said = lone.broker(SUBSCRIBED);
    assert_eq!(numbers(&said), [5]);
    assert!(text_to(&said, conn).contains("SUBSCRIBED"));
}

#[test]
fn a_member_from_before_an_outage_waits_for_nothing() {
    let mut lone = lone();
    let conn = lone.member("r");
    lone.broker(DOWN);
    assert_eq!(numbers(&lone.command(conn, &send(1))), [1], "it is the broker that answers");
}

#[test]
fn nothing_waits_without_end_for_a_broker_that_says_nothing() {
    let mut lone = lone();
    let conn = lone.client();
    let without_id = r#"{"type":"SEND_MESSAGE","room":"r","message":3}"#;
    lone.bytes(conn, commands(&[&subscribe(1), &send(2), without_id]));
    assert_eq!(lone.wait(Duration::from_secs(9)), []);
    let deadline = lone.core.next_timeout().expect("something waits");
    assert_eq!(deadline.since(lone.now), Duration::from_secs(1));
    let said = lone.wait(Duration::from_secs(1));
    assert!(text_to(&said, conn).contains(r#""code":"broker_unavailable""#));
    assert_eq!(numbers(&said), [3]);
    assert!(text_to(&lone.broker(SUBSCRIBED), conn).contains("SUBSCRIBED"));
}

/// Messages of 100 bytes and a little.
fn long(message: u32) -> String {
    format!(r#"{{"type":"SEND_MESSAGE","room":"r","message":"{message:0100}","id":{message}}}"#)
}

#[test]
fn what_waits_is_bounded_for_each_connection() {
    let mut lone = LoneCore::new(config(|config| config.limits.deferred_bytes_max = 600));
    let conn = lone.client();
    let said = lone.bytes(conn, commands(&[&subscribe(0), &long(1), &long(2), &long(3)]));
    let text = text_to(&said, conn);
    assert!(text.contains(r#""code":"broker_busy""#) && text.contains(r#""id":3,"room":"r"}"#), "{text}");
    assert_eq!((text.matches("ERROR").count(), lone.core.metrics().publishes_failed), (1, 1));
    let without_id = format!(r#"{{"type":"SEND_MESSAGE","room":"r","message":"{:0100}"}}"#, 4);
    assert!(text_to(&lone.command(conn, &without_id), conn).contains(r#""code":"broker_busy""#), "told all the same");
    assert_eq!(numbers(&lone.broker(SUBSCRIBED)), [1, 2]);
    // Given back: the same again may wait.
    lone.command(conn, UNSUBSCRIBE);
    lone.broker(DOWN);
    lone.broker(BrokerEvent::Up);
    let said = lone.bytes(conn, commands(&[&subscribe(0), &long(1), &long(2)]));
    assert!(!text_to(&said, conn).contains("ERROR"), "{said:?}");
}

#[test]
fn what_waits_is_bounded_in_all_and_one_message_always_may() {
    let mut lone = LoneCore::new(config(|config| {
        (config.limits.deferred_bytes_max, config.limits.deferred_total_bytes_max) = (1, 600);
    }));
    let clients = [(); 3].map(|()| lone.client());
    let refused = clients.map(|conn| {
        let said = lone.bytes(conn, commands(&[&subscribe(0), &long(1)]));
        text_to(&said, conn).contains(r#""code":"broker_busy""#)
    });
    assert_eq!(refused, [false, false, true]);
}

#[test]
fn a_client_that_cannot_be_told_is_closed_with_what_it_sent_before() {
    let mut lone = LoneCore::new(config(|config| config.limits.deferred_bytes_max = 600));
    for path in ["/classic", "/broadcast/r"] {
        let conn = lone.connect();
        lone.bytes(conn, upgrade_request(path, ""));
        let [first, second, third] = match path {
            "/classic" => [1, 2, 3].map(long),
            _ => [1, 2, 3].map(|message| format!("{message:0100}")),
        };
        let join: &[&str] = if path == "/classic" { &[&subscribe(0)] } else { &[] };
        let said = lone.bytes(conn, commands(&[join, &[&first, &second, &third]].concat()));
        assert_eq!((numbers(&said), close_code(&said, conn)), (vec![1, 2], Some(1013)), "{path}");
    }
}

#[test]
fn each_is_answered_once() {
    let mut lone = lone();
    let conn = lone.client();
    lone.bytes(conn, commands(&[&subscribe(1), &send(2), &send(3)]));
    let ids: Vec<_> = lone
        .broker(SUBSCRIBED)
        .into_iter()
        .filter_map(|said| match said {
            Said::Publish(_, _, id) => id,
            _ => None,
        })
        .collect();
    let [first, second] = ids[..] else { panic!("{ids:?}") };
    let said = lone.broker(BrokerEvent::PublishFailed { id: second, error: PublishError::Refused });
    assert!(text_to(&said, conn).contains(r#""id":3}"#));
    assert!(
        text_to(&lone.broker(BrokerEvent::Published { id: first, position: None, receivers: None }), conn)
            .contains(r#"{"type":"ACK","id":2}"#)
    );
}
