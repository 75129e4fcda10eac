//! Of a room in which megabytes wait, who leaves is given its next part and no more, and who is spared an echo gets the rest in its turn:
//! so that many of them together do not make a turn long.

use fanfare_core::broker::BrokerEvent;
use fanfare_core::{ConnId, Event};
use fanfare_tests::Frame;
use fanfare_tests::config;
use fanfare_tests::lone_core::{LoneCore, Said, text_to};

const MEMBERS: usize = 400;
/// A member's next part, which is what of the last messages is left in the end.
const PART_BYTES: usize = 64 * 1024;
/// What those who go, or are spared, are given in a turn, with the usual part of it for one group of 64.
const TURN_BYTES: usize = 4 * 1024 * 1024 + 1024 * 1024;

fn sent_bytes(said: &[Said]) -> usize {
    said.iter().map(|said| if let Said::Sent(_, bytes) = said { bytes.len() } else { 0 }).sum()
}

/// A room with so many numbered messages that wait for most of its members, and these.
fn congested(messages: usize) -> (LoneCore, Vec<ConnId>) {
    let mut lone = LoneCore::new(config(|config| config.limits.outbox_total_bytes_max = 1 << 40));
    let members: Vec<ConnId> = (0..MEMBERS).map(|_| lone.member("r")).collect();
    let filler = "x".repeat(10_000);
    let said = lone.turn(|turn| {
        for number in 0..messages {
            let payload = format!("<{number}>{filler}");
            turn.feed(Event::Broker(BrokerEvent::Message { room: "r", payload: payload.as_bytes() }));
        }
    });
    let waiting = members.into_iter().filter(|conn| text_to(&said, *conn).is_empty()).collect();
    (lone, waiting)
}

/// The numbers of the messages that this connection got.
fn numbers(text: &str) -> Vec<usize> {
    text.split('<').skip(1).filter_map(|rest| rest.split_once('>')?.0.parse().ok()).collect()
}

/// Has turns until there is nothing more to do at once.
fn rest(lone: &mut LoneCore) -> Vec<Vec<Said>> {
    let mut turns = Vec::new();
    while lone.core.next_timeout().is_some_and(|timeout| timeout <= lone.now) {
        turns.push(lone.turn(|_| {}));
    }
    turns
}

#[test]
fn who_unsubscribes_gets_its_next_part_and_all_together_no_more_than_a_bound() {
    let (mut lone, waiting) = congested(100);
    let command = Frame::text(r#"{"type":"UNSUBSCRIBE","room":"r"}"#).masked();
    let said = lone.turn(|turn| {
        for conn in &waiting {
            turn.feed(Event::Bytes { conn: *conn, data: &mut command.clone() });
        }
    });
    assert!(waiting.len() > 200 && sent_bytes(&said) <= TURN_BYTES, "{} bytes", sent_bytes(&said));
    let first = text_to(&said, waiting[0]);
    assert!(!numbers(&first).is_empty() && first.len() <= PART_BYTES, "it is given its next part");
    for conn in &waiting {
        let text = text_to(&said, *conn);
        let numbers = numbers(&text);
        assert!(numbers.iter().copied().eq(0..numbers.len()), "without a hole: {numbers:?}");
        assert!(text.contains("UNSUBSCRIBED") && text.rfind("MESSAGE") < text.find("UNSUBSCRIBED"));
    }
    let later = rest(&mut lone).concat();
    assert!(waiting.iter().all(|conn| text_to(&later, *conn).is_empty()), "nothing follows UNSUBSCRIBED");
}

/// What is published of `message` by a connection that wants no echo.
fn without_echo(lone: &mut LoneCore, conn: ConnId, message: &str) -> Vec<u8> {
    let said =
        lone.command(conn, &format!(r#"{{"type":"SEND_MESSAGE","room":"r","message":"{message}","echo":false}}"#));
    let payload = said.into_iter().find_map(|said| match said {
        Said::Publish(_, payload, _) => Some(payload),
        _ => None,
    });
    payload.expect("it is published")
}

#[test]
fn who_wants_no_echo_gets_all_but_that_in_order_and_in_its_turn() {
    let (mut lone, waiting) = congested(100);
    let senders = &waiting[..200];
    // Messages that all are spared but one: its own, twice; and in between one of somebody else's.
    let payloads: Vec<_> = senders
        .iter()
        .flat_map(|conn| [without_echo(&mut lone, *conn, "<1000>"), without_echo(&mut lone, *conn, "<2000>")])
        .collect();
    let said = lone.turn(|turn| {
        for payload in &payloads[..] {
            turn.feed(Event::Broker(BrokerEvent::Message { room: "r", payload }));
        }
    });
    assert!(sent_bytes(&said) <= TURN_BYTES, "{} bytes", sent_bytes(&said));
    let mut turns = vec![said];
    turns.extend(rest(&mut lone));
    for said in &turns[1..] {
        assert!(sent_bytes(said) <= TURN_BYTES, "{} bytes", sent_bytes(said));
    }
    let said = turns.concat();
    let echoes = |numbers: &[usize], of: usize| numbers.iter().filter(|number| **number == of).count();
    for conn in &waiting {
        let numbers = numbers(&text_to(&said, *conn));
        let history: Vec<usize> = numbers.iter().copied().filter(|number| *number < 1_000).collect();
        assert!(history.ends_with(&[98, 99]) && history.is_sorted_by(|a, b| a + 1 == *b), "{history:?}");
        let own = usize::from(senders.contains(conn));
        assert_eq!((echoes(&numbers, 1_000), echoes(&numbers, 2_000)), (200 - own, 200 - own));
    }
}

#[test]
fn who_is_spared_and_goes_gets_the_start_of_the_rest() {
    let (mut lone, waiting) = congested(100);
    let conn = waiting[0];
    let payload = without_echo(&mut lone, conn, "<1000>");
    let mut said = Vec::new();
    for _ in 0..3 {
        said.extend(lone.broker(BrokerEvent::Message { room: "r", payload: &payload }));
        said.extend(lone.broker(BrokerEvent::Message { room: "r", payload: b"<2000>" }));
    }
    while numbers(&text_to(&said, conn)).last().is_none_or(|number| *number < 95) {
        said.extend(lone.turn(|_| {}));
    }
    said.extend(lone.command(conn, r#"{"type":"UNSUBSCRIBE","room":"r"}"#));
    said.extend(rest(&mut lone).concat());
    let numbers = numbers(&text_to(&said, conn));
    assert!(!numbers.contains(&1_000) && numbers.is_sorted(), "{numbers:?}");
    assert_eq!(numbers.len(), numbers.iter().filter(|number| **number < 100).count() + 3, "{numbers:?}");
}

#[test]
fn the_server_that_stops_gives_everybody_all() {
    let (mut lone, waiting) = congested(100);
    let said = lone.turn(|turn| turn.feed(Event::Shutdown));
    for conn in &waiting {
        let numbers = numbers(&text_to(&said, *conn));
        assert_eq!(numbers.len(), 100);
    }
}

#[test]
fn who_goes_in_the_turn_of_messages_gets_them_however_little_it_may_leave_unread() {
    let mut lone = LoneCore::new(config(|config| {
        config.limits.outbox_bytes_max = 400;
        config.limits.group_members_max = 1;
        config.limits.members_per_turn_max = 1;
    }));
    let members = [(); 3].map(|()| lone.member("r"));
    let (payload, command) = ([b'x'; 100], Frame::text(r#"{"type":"UNSUBSCRIBE","room":"r"}"#).masked());
    let said = lone.turn(|turn| {
        for _ in 0..4 {
            turn.feed(Event::Broker(BrokerEvent::Message { room: "r", payload: &payload }));
        }
        for conn in &members {
            turn.feed(Event::Bytes { conn: *conn, data: &mut command.clone() });
        }
    });
    for conn in &members {
        assert_eq!(text_to(&said, *conn).matches(r#""MESSAGE""#).count(), 4);
    }
}
