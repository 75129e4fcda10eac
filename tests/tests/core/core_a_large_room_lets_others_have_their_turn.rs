//! A message to a large room goes out over several turns, each member gets it in order and once, and what others have to say
//! does not wait for its end.

use fanfare_core::broker::BrokerEvent;
use fanfare_core::{Action, Config, ConnId, Event};
use fanfare_tests::config;
use fanfare_tests::lone_core::{LoneCore, Said, carry_out, take_all, text_to};

const MEMBERS: usize = 700;

fn crowd() -> (LoneCore, Vec<ConnId>) {
    let mut lone = LoneCore::new(Config::default());
    let members = (0..MEMBERS).map(|_| lone.member("large")).collect();
    (lone, members)
}

fn message(lone: &mut LoneCore, room: &str, text: &str) -> Vec<Said> {
    lone.broker(BrokerEvent::Message { room, payload: text.as_bytes() })
}

/// Further turns until the core asks for none at once; how many, and what was said.
fn rest(lone: &mut LoneCore) -> (usize, Vec<Said>) {
    let (mut turns, mut said) = (0, Vec::new());
    while lone.core.next_timeout().is_some_and(|timeout| timeout <= lone.now) {
        said.extend(lone.turn(|_| {}));
        turns += 1;
        assert!(turns < 10 * MEMBERS, "it comes to an end");
    }
    (turns, said)
}

fn receivers(said: &[Said]) -> usize {
    said.iter().filter(|said| matches!(said, Said::Sent(..))).count()
}

#[test]
fn it_begins_at_once_and_everybody_gets_it_in_the_end() {
    let (mut lone, members) = crowd();
    let mut said = message(&mut lone, "large", "hello");
    let first = receivers(&said);
    assert!(first > 0 && first < MEMBERS / 2, "{first} in the first turn");
    let (turns, more) = rest(&mut lone);
    assert!(turns > 1);
    said.extend(more);
    assert_eq!(receivers(&said), MEMBERS);
    assert!(members.iter().all(|conn| text_to(&said, *conn).contains("hello")));
}

#[test]
fn its_part_of_a_turn_is_a_sixteenth_of_what_a_turn_may_write() {
    let mut lone = LoneCore::new(config(|config| config.limits.members_per_turn_max = 16 * 300));
    for _ in 0..MEMBERS {
        lone.member("large");
    }
    let first = receivers(&message(&mut lone, "large", "hello"));
    assert!((300..600).contains(&first), "{first} in the first turn, in whole groups");
}

#[test]
fn a_small_room_is_written_to_in_the_turn_of_its_message() {
    let (mut lone, _) = crowd();
    let small = lone.member("small");
    message(&mut lone, "large", "one");
    assert!(text_to(&message(&mut lone, "small", "two"), small).contains("two"));
    assert!(lone.core.next_timeout().is_some_and(|timeout| timeout <= lone.now), "the large room is not done yet");
}

#[test]
fn however_many_small_rooms_there_are_a_large_one_goes_on() {
    let mut lone = LoneCore::new(config(|config| config.limits.members_per_turn_max = 1));
    let members: Vec<ConnId> = (0..300).map(|_| lone.member("large")).collect();
    for room in 0..50 {
        lone.member(&format!("small {room}"));
    }
    let mut said = message(&mut lone, "large", "hello");
    for room in 0..50 {
        said.extend(message(&mut lone, &format!("small {room}"), "hi"));
    }
    assert!(members.iter().all(|conn| text_to(&said, *conn).contains("hello")));
}

#[test]
fn what_comes_meanwhile_goes_along_in_order() {
    let (mut lone, members) = crowd();
    let mut said = message(&mut lone, "large", "first");
    said.extend(message(&mut lone, "large", "second"));
    said.extend(message(&mut lone, "large", "third"));
    said.extend(rest(&mut lone).1);
    assert!(receivers(&said) < 2 * MEMBERS, "{} writes of three messages", receivers(&said));
    for conn in members {
        let text = text_to(&said, conn);
        let order = ["first", "second", "third"].map(|message| text.find(message));
        assert!(order.is_sorted() && order[0].is_some(), "{order:?}");
        assert_eq!(text.matches("MESSAGE").count(), 3, "each once");
    }
}

#[test]
fn whoever_comes_and_goes_meanwhile_gets_what_is_its_own() {
    let (mut lone, members) = crowd();
    message(&mut lone, "large", "before");
    let (waiting, late) = (*members.last().expect("there are some"), lone.client());
    let left = lone.command(waiting, r#"{"type":"UNSUBSCRIBE","room":"large"}"#);
    let text = text_to(&left, waiting);
    assert!(text.find("before") < text.find("UNSUBSCRIBED") && text.contains("before"), "{text}");
    let mut said = lone.command(late, r#"{"type":"SUBSCRIBE","room":"large"}"#);
    said.extend(message(&mut lone, "large", "after"));
    said.extend(rest(&mut lone).1);
    let text = text_to(&said, late);
    assert!(text.find("SUBSCRIBED") < text.find("after") && !text.contains("before"), "{text}");
    assert_eq!(text_to(&said, waiting), "");
}

/// What one write to some members was, without a copy of it: they are gigabytes.
struct Write {
    targets: Vec<ConnId>,
    bytes: usize,
    messages: usize,
}

/// A turn in which the room gets so many messages of 60,000 bytes, and sockets take all.
fn writes(lone: &mut LoneCore, count: usize) -> Vec<Write> {
    let payload = [b'x'; 60_000];
    let mut turn = lone.core.turn(lone.now);
    for _ in 0..count {
        turn.feed(Event::Broker(BrokerEvent::Message { room: "large", payload: &payload }));
    }
    let (mut actions, mut writes) = (turn.finish(), Vec::new());
    while let Some(action) = actions.next() {
        let Action::Send(mut delivery) = action else { panic!("{action:?}") };
        writes.push(Write {
            targets: std::iter::from_fn(|| delivery.next_target()).collect(),
            bytes: delivery.bytes().len(),
            messages: delivery.messages().count(),
        });
    }
    writes
}

fn messages_to(writes: &[Write], conn: ConnId) -> usize {
    writes.iter().filter(|write| write.targets.contains(&conn)).map(|write| write.messages).sum()
}

#[test]
fn more_than_should_wait_is_told_and_goes_out_a_part_at_a_time() {
    let (mut lone, members) = crowd();
    assert!(!lone.core.is_congested());
    let mut all = writes(&mut lone, 80);
    assert!(lone.core.is_congested());
    let first: usize = all.iter().map(|write| write.targets.len()).sum();
    assert!(first <= 64, "{first} writes in one turn");
    while lone.core.next_timeout().is_some_and(|timeout| timeout <= lone.now) {
        all.extend(writes(&mut lone, 0));
    }
    assert!(!lone.core.is_congested());
    assert!(all.iter().all(|write| write.bytes <= 64 * 1024), "a part is what a socket takes at once");
    assert!(members.iter().all(|conn| messages_to(&all, *conn) == 80), "each of them, once");
}

#[test]
fn more_than_may_wait_goes_out_at_once() {
    // Frames of 60,000 bytes and some: 16 MiB are not so many, and these are more.
    for (count, is_too_much) in [(279, false), (280, true)] {
        let (mut lone, members) = crowd();
        let all = writes(&mut lone, count);
        let has_gone_out = members.iter().all(|conn| messages_to(&all, *conn) == count);
        assert_eq!((has_gone_out, lone.core.is_congested()), (is_too_much, !is_too_much), "{count}");
    }
}

#[test]
fn whoever_comes_and_goes_between_the_parts_gets_what_is_its_own() {
    let (mut lone, members) = crowd();
    let (leaver, joiner) = (members[3], lone.client());
    let mut said = large_messages(&mut lone, 3);
    said.extend(lone.command(joiner, r#"{"type":"SUBSCRIBE","room":"large"}"#));
    said.extend(lone.turn(|_| {}));
    said.extend(message(&mut lone, "large", "after"));
    said.extend(lone.command(leaver, r#"{"type":"UNSUBSCRIBE","room":"large"}"#));
    said.extend(message(&mut lone, "large", "the end"));
    said.extend(rest(&mut lone).1);
    let text = text_to(&said, joiner);
    assert_eq!(text.matches("MESSAGE").count(), 2, "what follows its SUBSCRIBED");
    assert!(text.find("SUBSCRIBED") < text.find("after") && text.find("after") < text.find("the end"));
    let text = text_to(&said, leaver);
    assert_eq!(text.matches("MESSAGE").count(), 2, "the part that it had been given, and its next");
    assert!(text.rfind("MESSAGE") < text.find("UNSUBSCRIBED") && !text.contains("the end"), "nothing follows");
    for conn in members.iter().filter(|conn| **conn != leaver) {
        let text = text_to(&said, *conn);
        assert!(text.matches("MESSAGE").count() == 5 && text.find("after") < text.find("the end"));
    }
}

/// A turn in which so many messages of so many bytes come, and sockets take all.
fn pass(lone: &mut LoneCore, count: usize, bytes: usize) {
    let payload = vec![b'x'; bytes];
    let mut turn = lone.core.turn(lone.now);
    for _ in 0..count {
        turn.feed(Event::Broker(BrokerEvent::Message { room: "large", payload: &payload }));
    }
    carry_out(turn, take_all, |_| {});
}

#[test]
fn too_much_waits_until_it_has_gone_out() {
    let (mut lone, _) = crowd();
    pass(&mut lone, 60, 60_000);
    assert!(!lone.core.is_congested(), "less than 4 MiB wait");
    pass(&mut lone, 20, 60_000);
    assert!(lone.core.is_congested());
    while lone.core.next_timeout().is_some_and(|timeout| timeout <= lone.now) {
        pass(&mut lone, 0, 0);
    }
    assert!(!lone.core.is_congested());
}

#[test]
fn what_everybody_has_been_given_does_not_wait_however_long_the_room_speaks() {
    let (mut lone, _) = crowd();
    for _ in 0..12_000 {
        pass(&mut lone, 1, 500);
        assert!(lone.core.next_timeout().is_some_and(|timeout| timeout <= lone.now), "somebody has yet to be given it");
        assert!(!lone.core.is_congested());
    }
}

/// The room gets so many messages of 60,000 bytes in one turn.
fn large_messages(lone: &mut LoneCore, count: usize) -> Vec<Said> {
    let text = "x".repeat(60_000);
    lone.turn(|turn| {
        for _ in 0..count {
            turn.feed(Event::Broker(BrokerEvent::Message { room: "large", payload: text.as_bytes() }));
        }
    })
}

#[test]
fn an_end_of_all_tells_everybody_what_was_waiting() {
    let (mut lone, members) = crowd();
    let mut said = message(&mut lone, "large", "last words");
    said.extend(lone.turn(|turn| turn.feed(Event::Shutdown)));
    for conn in members {
        let text = text_to(&said, conn);
        assert!(text.contains("last words") && text.matches("MESSAGE").count() == 1, "{text}");
    }
}
