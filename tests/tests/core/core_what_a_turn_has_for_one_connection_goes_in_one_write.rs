//! Replies and the messages of several rooms that come in one turn are one write per connection, each in its order; and what
//! is not taken of it is kept once for all.

use fanfare_core::broker::BrokerEvent;
use fanfare_core::{Action, Config, ConnId, Event};
use fanfare_tests::lone_core::{LoneCore, Said, text_to};
use fanfare_tests::{Frame, config};

/// Two connections in both rooms, one in either.
fn two_rooms() -> (LoneCore, [ConnId; 4]) {
    let mut lone = LoneCore::new(Config::default());
    let conns = ["a", "b", "a", "b"].map(|room| lone.member(room));
    for (conn, room) in conns.into_iter().zip(["b", "a"]) {
        lone.command(conn, &format!(r#"{{"type":"SUBSCRIBE","room":"{room}"}}"#));
    }
    (lone, conns)
}

fn messages(lone: &mut LoneCore, messages: &[(&str, &str)]) -> Vec<Said> {
    lone.turn(|turn| {
        for (room, text) in messages {
            turn.feed(Event::Broker(BrokerEvent::Message { room, payload: text.as_bytes() }));
        }
    })
}

fn writes_to(said: &[Said], conn: ConnId) -> usize {
    said.iter().filter(|said| matches!(said, Said::Sent(to, _) if *to == conn)).count()
}

/// Where each of these stands in what the connection was sent.
fn order(said: &[Said], conn: ConnId, texts: &[&str]) -> Vec<Option<usize>> {
    let all = text_to(said, conn);
    texts.iter().map(|text| all.find(text)).collect()
}

#[test]
fn messages_of_several_rooms_are_one_write_to_whoever_is_in_them() {
    let (mut lone, [both, both_too, only_a, only_b]) = two_rooms();
    let said = messages(&mut lone, &[("a", "one"), ("b", "two"), ("a", "three")]);
    for conn in [both, both_too, only_a, only_b] {
        assert_eq!(writes_to(&said, conn), 1);
    }
    for conn in [both, both_too] {
        let order = order(&said, conn, &["one", "three", "two"]);
        assert!(order.is_sorted() && order[0].is_some(), "{order:?}");
    }
    assert_eq!(order(&said, only_a, &["two"]), [None]);
    assert_eq!(order(&said, only_b, &["one", "three"]), [None, None]);
    let metrics = lone.core.metrics();
    assert_eq!(metrics.deliveries, 9);
}

#[test]
fn a_reply_goes_with_the_messages_that_follow_it() {
    let (mut lone, [conn, ..]) = two_rooms();
    let said = lone.turn(|turn| {
        let mut ping = Frame::text(r#"{"type":"PING","id":"mine"}"#).masked();
        turn.feed(Event::Bytes { conn, data: &mut ping });
        turn.feed(Event::Broker(BrokerEvent::Message { room: "b", payload: b"text" }));
    });
    assert_eq!(writes_to(&said, conn), 1);
    let order = order(&said, conn, &["mine", "text"]);
    assert!(order.is_sorted() && order[0].is_some(), "{order:?}");
}

#[test]
fn what_was_sent_is_counted_once() {
    let (mut lone, _) = two_rooms();
    let before = lone.core.metrics().bytes_out;
    let said = messages(&mut lone, &[("a", "one"), ("b", "two")]);
    let sent: usize = said.iter().map(|said| if let Said::Sent(_, bytes) = said { bytes.len() } else { 0 }).sum();
    assert_eq!(lone.core.metrics().bytes_out - before, sent as u64);
}

#[test]
fn whatever_is_not_taken_follows_without_a_gap_and_is_kept_once() {
    let texts = [("a", "first ".repeat(200)), ("b", "second ".repeat(200)), ("a", "third ".repeat(200))];
    let texts: Vec<(&str, &str)> = texts.iter().map(|(room, text)| (*room, &text[..])).collect();
    let (mut lone, conns) = two_rooms();
    let whole = messages(&mut lone, &texts);
    for taken in [0, 1, 100, 1_300, 2_600, 3_000, 3_900] {
        let (mut lone, _) = two_rooms();
        lone.takes = match taken {
            0 => |_, _| 0,
            1 => |_, _| 1,
            100 => |_, _| 100,
            1_300 => |_, bytes| bytes.min(1_300),
            2_600 => |_, bytes| bytes.min(2_600),
            3_000 => |_, bytes| bytes.min(3_000),
            _ => |_, bytes| bytes.min(3_900),
        };
        let mut said = messages(&mut lone, &texts);
        let kept = lone.core.metrics().stored_frame_bytes_now;
        assert!(kept <= 4_200, "{kept} bytes are kept of about 4,000, which two do not take");
        lone.takes = |_, bytes| bytes;
        said.extend(lone.turn(|turn| conns.iter().for_each(|conn| turn.feed(Event::Writable { conn: *conn }))));
        for conn in conns {
            assert_eq!(text_to(&said, conn), text_to(&whole, conn), "{taken} bytes were taken");
        }
        assert_eq!(lone.core.metrics().stored_frame_bytes_now, 0);
    }
}

#[test]
fn nothing_is_put_off_to_another_turn() {
    let (mut lone, [both, ..]) = two_rooms();
    let said = messages(&mut lone, &[("a", "alone")]);
    assert!(text_to(&said, both).contains("alone"));
    assert_eq!(lone.turn(|_| {}), []);
}

/// How many connections each delivery of a turn goes to in which these rooms have something to say.
fn targets(lone: &mut LoneCore, rooms: &[&str]) -> Vec<usize> {
    let mut turn = lone.core.turn(lone.now);
    rooms.iter().for_each(|room| turn.feed(Event::Broker(BrokerEvent::Message { room, payload: b"text" })));
    let (mut actions, mut targets) = (turn.finish(), Vec::new());
    while let Some(action) = actions.next() {
        let Action::Send(mut delivery) = action else { panic!("{action:?}") };
        targets.push(std::iter::from_fn(|| delivery.next_target()).count());
    }
    drop(actions);
    lone.core.check_invariants();
    targets
}

#[test]
fn whoever_is_in_one_of_the_rooms_shares_its_delivery_with_the_others() {
    let (mut lone, _) = two_rooms();
    for room in ["a", "b"].repeat(5) {
        lone.member(room);
    }
    assert_eq!(targets(&mut lone, &["a", "b"]), [6, 6, 1, 1], "the last two are in both");
    assert_eq!(targets(&mut lone, &["a"]), [8], "nothing else is said to anybody");
}

#[test]
fn more_rooms_than_buffers_are_kept_for_may_speak_at_once_again_and_again() {
    let mut lone = LoneCore::new(config(|config| config.limits.members_per_turn_max = 2_000));
    let rooms: Vec<String> = (0..1_100).map(|number| format!("room {number}")).collect();
    for room in &rooms {
        lone.member(room);
    }
    let rooms: Vec<&str> = rooms.iter().map(String::as_str).collect();
    for _ in 0..3 {
        assert!(targets(&mut lone, &rooms).into_iter().eq([1; 1_100]), "each room in one delivery");
    }
}
