//! What a room's rule makes of members that do not keep up: they are closed, or left behind and given later what they did not take, or
//! given the newest message alone.

use fanfare_core::history::Retention;
use fanfare_core::rules::{Rule, Rules, Slow};
use fanfare_core::{Config, ConnId, Event};
use fanfare_tests::Frame;
use fanfare_tests::config;
use fanfare_tests::embedded::Embedded;
use std::time::Duration;

const FILLER_BYTES: usize = 1_000;
/// More than a member may leave unread.
const MESSAGES: usize = 200;

fn settings(slow: Slow, has_history: bool) -> Config {
    config(|config| {
        let mut rule = Rule::new("**".parse().expect("a pattern"));
        let age_max = Duration::from_secs(60);
        rule.history = has_history.then_some(Retention { messages_max: 1_000, bytes_max: 1 << 20, age_max });
        rule.slow = slow;
        config.rules = Rules::new(vec![rule]).expect("a rule");
        config.limits.outbox_bytes_max = 20 * FILLER_BYTES;
    })
}

/// A sender and a member that is slow from the tenth message on.
fn with_a_slow_member(slow: Slow, has_history: bool, path: &str) -> (Embedded, ConnId, ConnId) {
    let mut room = Embedded::new(settings(slow, has_history));
    let sender = room.client("/");
    let member = room.client(path);
    if path == "/" {
        room.command(member, r#"{"type":"SUBSCRIBE","room":"r"}"#);
    }
    room.publish(sender, "r", 0..10, FILLER_BYTES);
    room.slow.insert(member);
    room.publish(sender, "r", 10..MESSAGES, FILLER_BYTES);
    (room, sender, member)
}

#[test]
fn one_that_is_too_slow_is_closed() {
    let (room, _, _) = with_a_slow_member(Slow::Close, true, "/");
    assert_eq!(room.lone.core.metrics().slow_closes, 1);
}

#[test]
fn one_that_catches_up_gets_everything_in_order() {
    for path in ["/", "/broadcast/r"] {
        let (mut room, sender, member) = with_a_slow_member(Slow::CatchUp, true, path);
        let metrics = room.lone.core.metrics();
        assert_eq!((metrics.slow_closes, metrics.members_behind_now, metrics.members_fallen_behind), (0, 1, 1));
        assert!(metrics.unsent_bytes_now < 3 * FILLER_BYTES as u64, "it is a place, not a queue: {metrics:?}");
        room.recover();
        room.publish(sender, "r", MESSAGES..MESSAGES + 5, FILLER_BYTES);
        assert_eq!(room.numbers(member), (0..MESSAGES + 5).collect::<Vec<_>>(), "{path}");
        assert_eq!(room.lone.core.metrics().members_behind_now, 0);
    }
}

#[test]
fn one_that_wants_the_newest_gets_that_and_what_comes() {
    for has_history in [false, true] {
        let (mut room, sender, member) = with_a_slow_member(Slow::Latest, has_history, "/");
        assert!(room.lone.core.metrics().unsent_bytes_now < 3 * FILLER_BYTES as u64);
        room.recover();
        room.publish(sender, "r", MESSAGES..MESSAGES + 2, FILLER_BYTES);
        let numbers = room.numbers(member);
        // What it had been given before it became slow, what its queue had by then, the newest, and what came after.
        assert_eq!(numbers, (0..=10).chain(MESSAGES - 1..MESSAGES + 2).collect::<Vec<_>>());
        assert_eq!(room.lone.core.metrics().slow_closes, 0);
    }
}

#[test]
fn one_that_wants_the_newest_of_two_rooms_gets_that_of_each() {
    let mut rooms = Embedded::new(settings(Slow::Latest, false));
    let (sender, member) = (rooms.client("/?room=r&room=s"), rooms.client("/?room=r&room=s"));
    rooms.slow.insert(member);
    // Both in one turn. The first turn fills the queue of a member that was quick.
    for (of_r, of_s) in [(0, 1), (2, 3), (4, 5)] {
        let send = |room, number| format!(r#"{{"type":"SEND_MESSAGE","room":"{room}","message":"<{number}>"}}"#);
        let mut bytes = [send("r", of_r), send("s", of_s)].map(|text| Frame::text(&text).masked()).concat();
        rooms.turn(|turn| turn.feed(Event::Bytes { conn: sender, data: &mut bytes }));
    }
    rooms.recover();
    assert_eq!(rooms.numbers(sender), [0, 1, 2, 3, 4, 5]);
    assert_eq!(rooms.numbers(member), [0, 1, 4, 5]);
}

#[test]
fn one_that_leaves_meanwhile_is_owed_nothing() {
    for slow in [Slow::CatchUp, Slow::Latest] {
        let (mut room, sender, member) = with_a_slow_member(slow, true, "/");
        room.command(member, r#"{"type":"UNSUBSCRIBE","room":"r"}"#);
        room.recover();
        room.publish(sender, "r", MESSAGES..MESSAGES + 2, FILLER_BYTES);
        assert!(room.numbers(member).len() <= 12, "{:?}", room.numbers(member));
        room.turn(|turn| turn.feed(Event::Closed { conn: member }));
        let newcomer = room.client("/");
        room.publish(sender, "r", MESSAGES..MESSAGES + 2, FILLER_BYTES);
        assert!(room.numbers(newcomer).is_empty());
    }
}
