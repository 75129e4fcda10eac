//! What a socket does not take is kept up to a limit that holds to the byte; and no more is kept than somebody has yet to be sent.

use fanfare_core::broker::BrokerEvent;
use fanfare_core::{Action, Config, ConnId, Event};
use fanfare_tests::config;
use fanfare_tests::lone_core::{LoneCore, Said, text_to};

/// A turn in which rooms have something to say, and in which `slow` takes only the first `taken` bytes of what it is sent. How many
/// bytes that were.
fn say(lone: &mut LoneCore, messages: &[(&str, &str)], slow: ConnId, taken: usize) -> usize {
    let mut turn = lone.core.turn(lone.now);
    for (room, text) in messages {
        turn.feed(Event::Broker(BrokerEvent::Message { room, payload: text.as_bytes() }));
    }
    let (mut actions, mut bytes) = (turn.finish(), 0);
    while let Some(action) = actions.next() {
        let Action::Send(mut delivery) = action else { panic!("{action:?}") };
        while let Some(conn) = delivery.next_target() {
            if conn == slow {
                bytes += delivery.bytes().len();
                delivery.short(conn, taken);
            }
        }
    }
    drop(actions);
    lone.core.check_invariants();
    bytes
}

/// The bytes of all frames that are kept, and those of them that have to be sent to somebody.
fn kept(lone: &LoneCore) -> (usize, usize) {
    let metrics = lone.core.metrics();
    (metrics.stored_frame_bytes_now as usize, metrics.unsent_bytes_now as usize)
}

/// How long the frame of this message is.
fn frame_bytes(message: (&str, &str)) -> usize {
    let mut lone = LoneCore::new(Config::default());
    let conn = lone.member(message.0);
    say(&mut lone, &[message], conn, usize::MAX)
}

#[test]
fn as_much_as_the_limit_allows_and_not_one_byte_more() {
    let message = ("r", "a message of some length");
    let bytes = 3 * frame_bytes(message);
    for (limit, closes) in [(bytes, 0), (bytes - 1, 1)] {
        let mut lone = LoneCore::new(config(|config| config.limits.outbox_bytes_max = limit));
        let conn = lone.member("r");
        for _ in 0..3 {
            say(&mut lone, &[message], conn, 0);
        }
        assert_eq!(lone.core.metrics().slow_closes, closes, "{limit}");
    }
}

#[test]
fn nothing_of_a_message_before_whose_first_byte_it_was_closed() {
    let message = ("r", "a message of some length");
    let frame = frame_bytes(message);
    let mut lone = LoneCore::new(config(|config| config.limits.outbox_bytes_max = 2 * frame));
    let conn = lone.member("r");
    say(&mut lone, &[message, message], conn, frame);
    assert_eq!(kept(&lone), (2 * frame, frame), "a run is kept in one piece");
    say(&mut lone, &[message, message], conn, 0);
    assert_eq!(lone.core.metrics().slow_closes, 1);
    let (stored, unsent) = kept(&lone);
    assert_eq!(stored, unsent, "its close frame alone");
    let said = lone.turn(|turn| turn.feed(Event::Writable { conn }));
    assert!(text_to(&said, conn).ends_with("too slow") && !text_to(&said, conn).contains("MESSAGE"));
    assert_eq!(kept(&lone), (0, 0));
}

#[test]
fn of_several_rooms_what_it_has_not_taken_whole() {
    let (first, second) = (("a", "a message"), ("b", "another message"));
    let (first_bytes, second_bytes) = (frame_bytes(first), frame_bytes(second));
    for taken in 0..=first_bytes + second_bytes {
        let mut lone = LoneCore::new(Config::default());
        let conn = lone.member("a");
        lone.command(conn, r#"{"type":"SUBSCRIBE","room":"b"}"#);
        lone.broker(BrokerEvent::Subscribed { room: "b" });
        assert_eq!(say(&mut lone, &[first, second], conn, taken), first_bytes + second_bytes, "both in one write");
        let stored = if taken < first_bytes { first_bytes } else { 0 };
        let stored = if taken < first_bytes + second_bytes { stored + second_bytes } else { 0 };
        assert_eq!(kept(&lone), (stored, first_bytes + second_bytes - taken), "{taken} bytes were taken");
        let said = lone.turn(|turn| turn.feed(Event::Writable { conn }));
        let rest: usize = said.iter().map(|said| if let Said::Sent(_, bytes) = said { bytes.len() } else { 0 }).sum();
        assert_eq!((rest, kept(&lone)), (first_bytes + second_bytes - taken, (0, 0)));
    }
}
