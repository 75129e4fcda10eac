//! A WebSocket whose frames someone else reads and writes is a connection like any other: the same rooms, limits, heartbeat and
//! closing; only that whole messages go in and come out.

use fanfare_core::broker::BrokerEvent;
use fanfare_core::{Action, Config, ConnId, Dialect, Event, Message, Messages, Rate, Refused};
use fanfare_tests::lone_core::{LoneCore, Said, text_to};
use fanfare_tests::{Frame, code, config};
use std::net::IpAddr;
use std::time::Duration;

fn open(
    lone: &mut LoneCore,
    dialect: Dialect,
    rooms: &[&str],
    peer: Option<&str>,
) -> (Result<ConnId, Refused>, Vec<Said>) {
    let peer = peer.map(|peer| peer.parse::<IpAddr>().expect("an address"));
    let mut opened = None;
    let said = lone.turn(|turn| opened = Some(turn.open_websocket(dialect, rooms, peer)));
    (opened.expect("set above"), said)
}

fn websocket(lone: &mut LoneCore) -> ConnId {
    open(lone, Dialect::Fanfare, &[], None).0.expect("there is a place")
}

fn member(lone: &mut LoneCore, room: &str) -> ConnId {
    let (conn, said) = open(lone, Dialect::Fanfare, &[room], None);
    if said.contains(&Said::Subscribe(room.to_owned())) {
        lone.broker(BrokerEvent::Subscribed { room });
    }
    conn.expect("there is a place")
}

fn say(lone: &mut LoneCore, conn: ConnId, message: Message<'_>) -> Vec<Said> {
    lone.turn(|turn| turn.feed(Event::Message { conn, message }))
}

/// What `conn` was sent, each message as text for people.
fn messages_to(said: &[Said], conn: ConnId) -> Vec<String> {
    let mut messages = Vec::new();
    for said in said {
        if let Said::Sent(to, bytes) = said
            && *to == conn
        {
            messages.extend(Messages::new(bytes).map(|message| format!("{message:?}")));
        }
    }
    messages
}

fn close_code(said: &[Said], conn: ConnId) -> Option<u16> {
    said.iter().find_map(|said| match said {
        Said::Sent(to, bytes) if *to == conn => Messages::new(bytes).find_map(|message| match message {
            Message::Close(Some((code, _))) => Some(code),
            _ => None,
        }),
        _ => None,
    })
}

const SEND: &str = r#"{"type":"SEND_MESSAGE","room":"r","message":"hi"}"#;

fn deliver(lone: &mut LoneCore, said: &[Said]) -> Vec<Said> {
    let publish = said.iter().find_map(|said| match said {
        Said::Publish(room, payload, _) => Some((room.clone(), payload.clone())),
        _ => None,
    });
    let (room, payload) = publish.expect("something was published");
    lone.broker(BrokerEvent::Message { room: &room, payload: &payload })
}

#[test]
fn both_kinds_of_member_get_the_same_from_both() {
    let mut lone = LoneCore::new(Config::default());
    let (theirs, ours) = (member(&mut lone, "r"), lone.member("r"));
    let published = say(&mut lone, theirs, Message::Text(SEND));
    let of_theirs = deliver(&mut lone, &published);
    let published = lone.command(ours, SEND);
    let of_ours = deliver(&mut lone, &published);
    for said in [of_theirs, of_ours] {
        assert_eq!(messages_to(&said, theirs), [r#"Text("{\"type\":\"MESSAGE\",\"room\":\"r\",\"message\":\"hi\"}")"#]);
        assert_eq!(messages_to(&said, theirs), messages_to(&said, ours));
    }
}

#[test]
fn a_delivery_to_both_kinds_is_one() {
    let mut lone = LoneCore::new(Config::default());
    for _ in 0..3 {
        member(&mut lone, "r");
        lone.member("r");
    }
    let mut turn = lone.core.turn(lone.now);
    turn.feed(Event::Broker(BrokerEvent::Message { room: "r", payload: br#"{"message":1}"# }));
    let (mut actions, mut deliveries, mut targets) = (turn.finish(), 0, 0);
    while let Some(action) = actions.next() {
        let Action::Send(mut delivery) = action else { panic!("{action:?}") };
        let messages: Vec<Message<'_>> = delivery.messages().collect();
        deliveries += 1;
        while delivery.next_target().is_some() {
            assert_eq!(messages.len(), 1);
            targets += 1;
        }
    }
    assert_eq!((deliveries, targets), (1, 6));
}

#[test]
fn rooms_are_joined_at_once() {
    let mut lone = LoneCore::new(Config::default());
    let conn = member(&mut lone, "r");
    let (other, said) = open(&mut lone, Dialect::Fanfare, &["r"], None);
    assert_eq!(messages_to(&said, other.unwrap()), [r#"Text("{\"type\":\"SUBSCRIBED\",\"room\":\"r\"}")"#]);
    for (rooms, expected) in [(&["s", "t"][..], "s"), (&[], "global_chat")] {
        let conn = open(&mut lone, Dialect::Broadcast, rooms, None).0.unwrap();
        lone.broker(BrokerEvent::Subscribed { room: expected });
        let said = say(&mut lone, conn, Message::Text("as it is"));
        assert!(matches!(&said[..], [Said::Publish(room, ..)] if room == expected), "{said:?}");
    }
    assert_eq!(lone.core.metrics().connections_now, 4);
    let said = say(&mut lone, conn, Message::Close(None));
    assert_eq!((messages_to(&said, conn), said.last()), (vec!["Close(None)".to_owned()], Some(&Said::Close(conn))));
    assert_eq!(lone.core.metrics().connections_now, 3);
}

#[test]
fn what_breaks_the_rules_ends_it_with_their_code() {
    let set = config(|config| {
        config.limits.message_bytes_max = 10;
        config.limits.errors_max = 0;
        config.limits.bytes = Rate { per_second: 1, burst: 1_000 };
        config.limits.pings = Rate { per_second: 1, burst: 2 };
    });
    let long = [b'x'; 126];
    let (text, pings) = ("x".repeat(11), [Message::Ping(b"a"), Message::Pong(b"a"), Message::Ping(b"a")]);
    let cases: [(&[Message<'_>], u16); 8] = [
        (&[Message::Text(&text)], code::TOO_BIG),
        (&[Message::Binary(&long)], code::TOO_BIG),
        (&[Message::Ping(&long)], code::PROTOCOL),
        (&[Message::Close(Some((1005, "")))], code::PROTOCOL),
        (&[Message::Text("nonsense")], code::TOO_MANY_ERRORS),
        (&[Message::Binary(b"")], code::TOO_MANY_ERRORS),
        (&[Message::Text(&"x".repeat(1_001))], code::TOO_FAST),
        (&pings, code::TOO_FAST),
    ];
    for (messages, code) in cases {
        let mut lone = LoneCore::new(set.clone());
        let conn = websocket(&mut lone);
        let said: Vec<Said> = messages.iter().flat_map(|message| say(&mut lone, conn, *message)).collect();
        assert_eq!(close_code(&said, conn), Some(code), "{messages:?}");
        assert!(!said.contains(&Said::Shutdown(conn)), "there is no socket to half-close");
        // Nothing that comes now matters, but for the peer's close.
        assert_eq!(say(&mut lone, conn, Message::Text("x")), []);
        assert_eq!(say(&mut lone, conn, Message::Close(None)), [Said::Close(conn)], "{code}");
        assert_eq!(lone.core.connections(), 0);
    }
}

#[test]
fn commands_beyond_the_rate_are_refused_and_binary_ones_too() {
    let mut lone = LoneCore::new(config(|config| config.limits.messages = Rate { per_second: 1, burst: 1 }));
    let conn = websocket(&mut lone);
    let said = say(&mut lone, conn, Message::Binary(b"\0"));
    assert!(text_to(&said, conn).contains("binary_not_supported"), "{said:?}");
    let said = say(&mut lone, conn, Message::Text(r#"{"type":"PING","id":7}"#));
    assert!(text_to(&said, conn).contains(r#""code":"too_fast","#) && text_to(&said, conn).contains("7"), "{said:?}");
}

#[test]
fn it_is_asked_for_a_sign_of_life() {
    let mut lone = LoneCore::new(Config::default());
    let [pongs, silent] = [(); 2].map(|()| websocket(&mut lone));
    assert_eq!(messages_to(&say(&mut lone, pongs, Message::Ping(b"are you there?")), pongs).len(), 1);
    let said = lone.wait(Duration::from_secs(26));
    for conn in [pongs, silent] {
        assert_eq!(messages_to(&said, conn), ["Ping([])"]);
    }
    say(&mut lone, pongs, Message::Pong(b""));
    let said = lone.wait(Duration::from_secs(11));
    assert_eq!((close_code(&said, silent), close_code(&said, pongs)), (Some(code::NO_SIGN_OF_LIFE), None));
    assert!(said.contains(&Said::Close(silent)));
}

#[test]
fn a_server_that_stops_closes_it_and_waits_for_its_answer() {
    let mut lone = LoneCore::new(Config::default());
    let [answers, ends, silent] = [(); 3].map(|()| websocket(&mut lone));
    let said = lone.turn(|turn| turn.feed(Event::Shutdown));
    for conn in [answers, ends, silent] {
        assert_eq!(close_code(&said, conn), Some(code::RESTART));
    }
    assert_eq!(say(&mut lone, answers, Message::Close(Some((code::RESTART, "")))), [Said::Close(answers)]);
    assert_eq!(lone.turn(|turn| turn.feed(Event::Closed { conn: ends })), [Said::Close(ends)]);
    assert_eq!(lone.wait(Duration::from_secs(6)), [Said::Close(silent)]);
    assert_eq!(open(&mut lone, Dialect::Fanfare, &[], None).0, Err(Refused::ShuttingDown));
    assert_eq!(lone.core.metrics().upgrades_refused_draining, 1);
}

#[test]
fn who_is_refused_is_told_why() {
    let mut lone = LoneCore::new(config(|config| {
        config.admission.connections_max = 3;
        config.limits.rooms_per_connection_max = 2;
        config.admission.connections_per_address_max = 1;
    }));
    for rooms in [&["a", "b", "c"][..], &[""], &["a\n"], &[&"x".repeat(129)]] {
        assert_eq!(open(&mut lone, Dialect::Fanfare, rooms, None).0, Err(Refused::Rooms), "{rooms:?}");
    }
    let (first, _) = open(&mut lone, Dialect::Fanfare, &[], Some("192.0.2.1"));
    assert_eq!(open(&mut lone, Dialect::Fanfare, &[], Some("::ffff:192.0.2.1")).0, Err(Refused::Address));
    assert!(open(&mut lone, Dialect::Fanfare, &[], Some("192.0.2.2")).0.is_ok());
    lone.client();
    assert_eq!(open(&mut lone, Dialect::Fanfare, &[], Some("192.0.2.3")).0, Err(Refused::Full));
    say(&mut lone, first.unwrap(), Message::Close(None));
    assert!(open(&mut lone, Dialect::Fanfare, &[], Some("192.0.2.1")).0.is_ok(), "its place is free again");
    let metrics = lone.core.metrics();
    let refused = (metrics.upgrades_invalid, metrics.upgrades_refused_address, metrics.upgrades_refused_full);
    assert_eq!((refused, metrics.upgrades_accepted), ((4, 1, 1), 4));
}

#[test]
fn messages_that_were_not_taken_come_again_whole() {
    let mut lone = LoneCore::new(Config::default());
    let conn = member(&mut lone, "r");
    // Each is more than what a queue is gathered by at once.
    let payloads: Vec<String> = (1..=3).map(|number| number.to_string().repeat(70_000)).collect();
    lone.takes = |_, _| 0;
    for payload in &payloads {
        let payload = format!(r#"{{"message":"{payload}"}}"#);
        lone.broker(BrokerEvent::Message { room: "r", payload: payload.as_bytes() });
    }
    lone.takes = |_, bytes| bytes;
    let said = lone.turn(|turn| turn.feed(Event::Writable { conn }));
    let got = messages_to(&said, conn);
    assert!(said.len() > 1, "a queue this long is not one write");
    assert_eq!(got.len(), 3);
    assert!(payloads.iter().zip(&got).all(|(payload, got)| got.contains(payload.as_str())));
}

#[test]
fn a_message_taken_in_part_counts_as_not_taken() {
    let mut lone = LoneCore::new(Config::default());
    let conn = member(&mut lone, "r");
    lone.takes = |_, bytes| bytes - 1;
    let said = lone.broker(BrokerEvent::Message { room: "r", payload: br#"{"message":"whole"}"# });
    assert_eq!(messages_to(&said, conn), [""; 0]);
    lone.takes = |_, bytes| bytes;
    let said = lone.turn(|turn| turn.feed(Event::Writable { conn }));
    assert!(matches!(&messages_to(&said, conn)[..], [message] if message.contains("whole")), "{said:?}");
}

#[test]
fn a_slow_one_is_closed_behind_a_whole_message() {
    let mut lone = LoneCore::new(config(|config| config.limits.outbox_bytes_max = 1_000));
    let conn = member(&mut lone, "r");
    lone.takes = |_, bytes| bytes / 2;
    for _ in 0..40 {
        lone.broker(BrokerEvent::Message { room: "r", payload: br#"{"message":"more than it reads"}"# });
    }
    lone.takes = |_, bytes| bytes;
    let said = lone.turn(|turn| turn.feed(Event::Writable { conn }));
    assert_eq!(messages_to(&said, conn), [r#"Close(Some((4008, "too slow")))"#]);
}

#[test]
fn bytes_and_messages_are_not_taken_for_each_other() {
    let mut lone = LoneCore::new(Config::default());
    let (theirs, ours, pending) = (websocket(&mut lone), lone.client(), lone.connect());
    assert_eq!(lone.bytes(theirs, Frame::text(r#"{"type":"PING"}"#).masked()), []);
    for conn in [ours, pending] {
        assert_eq!(say(&mut lone, conn, Message::Text(r#"{"type":"PING"}"#)), []);
    }
    assert_eq!(lone.core.metrics().stale_ids, 0);
    say(&mut lone, theirs, Message::Close(None));
    assert_eq!(say(&mut lone, theirs, Message::Text("late")), []);
    assert_eq!(lone.core.metrics().stale_ids, 1);
}
