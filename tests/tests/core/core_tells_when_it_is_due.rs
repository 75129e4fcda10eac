//! An adapter sleeps until the time that the core names: not a moment too long, and not for nothing.

use fanfare_core::{Event, Rate};
use fanfare_tests::lone_core::{LoneCore, text_to};
use fanfare_tests::{Frame, config};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);
/// Nobody is asked for a sign of life before.
const LATER: Duration = Duration::from_secs(60);

#[test]
fn when_a_message_has_been_unfinished_for_too_long() {
    let mut lone =
        LoneCore::new(config(|config| (config.timeouts.message, config.timeouts.ping_interval) = (30 * SECOND, LATER)));
    let (first, second) = (lone.client(), lone.client());
    let beginning = Frame::text("the beginning").unfinished().masked();
    lone.bytes(first, &beginning);
    let deadline = lone.now + 30 * SECOND;
    lone.now = lone.now + SECOND;
    lone.bytes(second, &beginning);
    assert_eq!(lone.core.next_timeout(), Some(deadline));
    lone.now = deadline;
    let said = lone.turn(|_| {});
    assert!(text_to(&said, first).contains("did not end in time") && text_to(&said, second).is_empty());
    // Before the next deadline of that kind it waits for the first to hang up.
    lone.turn(|turn| turn.feed(Event::Closed { conn: first }));
    assert_eq!(lone.core.next_timeout(), Some(deadline + SECOND));
}

#[test]
fn when_bytes_may_be_looked_at_that_all_together_made_too_much_work_for() {
    let mut lone = LoneCore::new(config(|config| {
        config.limits.surplus = Rate { per_second: 10_000, burst: 1 };
        (config.limits.bytes, config.limits.messages, config.timeouts.ping_interval) = (Rate::NONE, Rate::NONE, LATER);
    }));
    let conn = lone.client();
    let command = Frame::text(format!(r#"{{"type":"PING","id":"{}"}}"#, "x".repeat(60))).masked();
    lone.turn(|turn| turn.feed(Event::Bytes { conn, data: &mut command.repeat(1_000) }));
    let mut looks = 0;
    while lone.core.has_unread() {
        assert!(lone.core.is_strained());
        let due = lone.core.next_timeout().expect("there is something to do");
        assert!(due.since(lone.now) > SECOND, "32 KiB of work are more than a second's");
        lone.now = due;
        assert!(!lone.turn(|_| {}).is_empty(), "that was the time");
        looks += 1;
        assert!(looks < 100, "it comes to an end");
    }
    assert!(looks > 1);
}

#[test]
fn never_while_there_is_nothing_to_do() {
    let mut lone = LoneCore::new(config(|config| config.timeouts.room_linger = SECOND));
    assert_eq!(lone.core.next_timeout(), None);
    let conn = lone.member("r");
    assert!(lone.core.next_timeout().is_some_and(|timeout| timeout > lone.now + 10 * SECOND), "a ping");
    lone.turn(|turn| turn.feed(Event::Closed { conn }));
    assert_eq!(lone.core.next_timeout(), Some(lone.now + SECOND));
    lone.wait(SECOND);
    assert_eq!(lone.core.next_timeout(), None);
}
