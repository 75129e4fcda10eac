//! What rooms with history take has a bound: messages in memory, questions to the broker, what a turn says again, what waits for what is
//! not known.

use fanfare_core::broker::memory::MemoryBroker;
use fanfare_core::broker::{BrokerEvent, ReadId};
use fanfare_core::history::{Continuity, Epoch, Page, Part, Position, Query, Retention, Stored};
use fanfare_core::rules::{Rule, Rules};
use fanfare_core::{Config, ConnId};
use fanfare_tests::config;
use fanfare_tests::embedded::Embedded;
use fanfare_tests::lone_core::{LoneCore, Said, text_to};
use std::time::Duration;

const EPOCH: Epoch = Epoch { ordinal: 1, random: 7 };
const MIB: usize = 1024 * 1024;

/// All rooms have histories.
fn settings(set: impl FnOnce(&mut Config)) -> Config {
    config(|config| {
        let mut rule = Rule::new("**".parse().expect("a pattern"));
        let age_max = Duration::from_secs(60);
        rule.history = Some(Retention { messages_max: 1_000, bytes_max: 1 << 30, age_max });
        config.rules = Rules::new(vec![rule]).expect("a rule");
        set(config);
    })
}

/// What the broker was asked: behind which offset, or 0 for the newest.
fn asked(said: &[Said]) -> Vec<(ReadId, u64)> {
    let asked = said.iter().filter_map(|said| match said {
        Said::Read(id, _, Query { part: Part::After(after), .. }) => Some((*id, after.offset)),
        Said::Read(id, ..) => Some((*id, 0)),
        _ => None,
    });
    asked.collect()
}

#[test]
fn what_is_said_again_is_said_a_part_a_turn() {
    const TURN_BYTES: usize = MIB + 64 * 1024 + 10_000;
    let mut room = Embedded::new(settings(|_| {}));
    let sender = room.client("/");
    room.publish(sender, "r", 0..30, 10_000);
    // The room stays, and with it the tail.
    room.client("/?room=r");
    let clients: Vec<ConnId> = (0..40).map(|_| room.client("/")).collect();
    room.slow = clients.iter().copied().collect();
    for conn in &clients {
        // This answer fills the socket, so that nothing else is said before it takes more.
        room.command(*conn, r#"{"type":"SUBSCRIBE","room":"other"}"#);
        room.command(*conn, r#"{"type":"SUBSCRIBE","room":"r","history":1000}"#);
    }
    room.bytes.clear();
    room.recover();
    let most = room.bytes.iter().max().expect("there were turns");
    assert!(*most <= TURN_BYTES, "{most} bytes in a turn");
    for conn in clients {
        assert_eq!(room.numbers(conn), (0..30).collect::<Vec<_>>());
    }
}

#[test]
fn messages_in_memory_stay_within_their_budget_and_what_is_not_there_is_read() {
    const BYTES: usize = 100_000;
    let settings = settings(|config| {
        config.history.memory_bytes_max = BYTES;
        config.history.page_messages_max = 10;
    });
    let mut room = Embedded::with_broker(settings, MemoryBroker::new(&Config::default()));
    let sender = room.client("/");
    let names = ["a", "b", "c", "d", "e"];
    let members = names.map(|name| room.client(&format!("/?room={name}")));
    for name in names {
        room.publish(sender, name, 0..20, 1_000);
        let kept = room.lone.core.metrics().history_bytes_now as usize;
        assert!((1..=BYTES).contains(&kept), "{kept}");
    }
    // Sockets that take nothing pin no pages without a bound.
    let late = names.map(|name| (room.client("/"), name));
    room.slow = late.iter().map(|(conn, _)| *conn).collect();
    for (conn, name) in late {
        room.command(conn, &format!(r#"{{"type":"SUBSCRIBE","room":"{name}","history":20}}"#));
        let kept = room.lone.core.metrics().history_bytes_now as usize;
        assert!(kept <= BYTES, "{kept}");
    }
    room.recover();
    assert_eq!(room.lone.core.metrics().members_behind_now, 0);
    for (conn, _) in late {
        let numbers = room.numbers(conn);
        assert_eq!(numbers, (0..20).collect::<Vec<_>>());
    }
    assert!(members.iter().all(|conn| room.numbers(*conn).len() == 20));
}

#[test]
fn so_many_questions_are_asked_at_a_time_and_the_others_wait() {
    let mut lone = LoneCore::new(settings(|config| config.history.reads_in_flight_max = 2));
    let conn = lone.client();
    let mut open = Vec::new();
    for room in 0..5 {
        lone.command(conn, &format!(r#"{{"type":"SUBSCRIBE","room":"{room}"}}"#));
        open.extend(asked(&lone.broker(BrokerEvent::Subscribed { room: &room.to_string() })));
    }
    assert_eq!(open.len(), 2);
    let mut answered = 0;
    while let Some((id, _)) = open.pop() {
        answered += 1;
        let said = lone.broker(BrokerEvent::Read { id, page: &page(0, 1..1) });
        assert!(text_to(&said, conn).contains("SUBSCRIBED"));
        open.extend(asked(&said));
        assert!(open.len() <= 2);
    }
    assert_eq!(answered, 5);
}

#[test]
fn more_questions_of_clients_than_may_wait_are_refused() {
    const WAITING_MAX: usize = 4_096;
    let mut lone = LoneCore::new(settings(|config| {
        config.history.reads_in_flight_max = 1;
        config.limits.messages.per_second = 0;
    }));
    let conn = lone.client();
    let ask = r#"{"type":"HISTORY","room":"r"}"#;
    for _ in 0..1 + WAITING_MAX {
        assert_eq!(text_to(&lone.command(conn, ask), conn), "");
    }
    assert!(text_to(&lone.command(conn, ask), conn).contains("broker_busy"));
}

/// Else clients that read much would hold up whoever joins a room, and whoever joins many rooms would hold up those that read.
#[test]
fn questions_of_clients_and_those_of_the_core_take_turns() {
    const EACH: usize = 20;
    let mut lone = LoneCore::new(settings(|config| config.history.reads_in_flight_max = 1));
    let (reader, joiner) = (lone.client(), lone.client());
    let mut open = Vec::new();
    for _ in 0..EACH {
        open.extend(asked(&lone.command(reader, r#"{"type":"HISTORY","room":"h"}"#)));
    }
    for room in 0..EACH {
        lone.command(joiner, &format!(r#"{{"type":"SUBSCRIBE","room":"{room}"}}"#));
        open.extend(asked(&lone.broker(BrokerEvent::Subscribed { room: &room.to_string() })));
    }
    let mut answered = Vec::new();
    while let Some((id, _)) = open.pop() {
        let said = lone.broker(BrokerEvent::Read { id, page: &page(0, 1..1) });
        let is_joined = text_to(&said, joiner).contains("SUBSCRIBED");
        assert_ne!(is_joined, text_to(&said, reader).contains("HISTORY"), "one of them is answered");
        answered.push(is_joined);
        open.extend(asked(&said));
    }
    assert_eq!(answered, [false, true].repeat(EACH));
}

/// Else nobody would ever become a member of a room that is never quiet: each answer would be followed by another question.
#[test]
fn what_could_not_be_held_is_not_asked_for_when_the_answer_has_it() {
    for (stored, is_there) in [(true, true), (true, false), (false, false)] {
        let mut lone = LoneCore::new(settings(|config| config.history.memory_bytes_max = 0));
        let conn = lone.client();
        lone.command(conn, r#"{"type":"SUBSCRIBE","room":"r"}"#);
        let (id, _) = asked(&lone.broker(BrokerEvent::Subscribed { room: "r" }))[0];
        let message = if stored { announced(1) } else { [b"F1 ", &payload(1)[..]].concat() };
        assert_eq!(lone.broker(BrokerEvent::Message { room: "r", payload: &message }), []);
        let said = lone.broker(BrokerEvent::Read { id, page: &page(u64::from(is_there), 1..1) });
        let is_missing = stored && !is_there;
        assert_eq!(text_to(&said, conn).contains("SUBSCRIBED"), !is_missing);
        assert_eq!(asked(&said).len(), usize::from(is_missing));
    }
}

#[test]
fn what_waits_for_what_is_not_known_is_bounded_and_read_again() {
    const MESSAGES: u64 = 200;
    let mut lone = LoneCore::new(settings(|_| {}));
    let conn = lone.client();
    lone.command(conn, r#"{"type":"SUBSCRIBE","room":"r"}"#);
    let (id, _) = asked(&lone.broker(BrokerEvent::Subscribed { room: "r" }))[0];
    lone.broker(BrokerEvent::Read { id, page: &page(0, 1..1) });
    // The first is missing.
    let mut repairs = Vec::new();
    for offset in 2..=MESSAGES {
        repairs.extend(asked(&lone.broker(BrokerEvent::Message { room: "r", payload: &announced(offset) })));
        assert!(lone.core.metrics().history_bytes_now <= MIB as u64);
    }
    let (id, after) = repairs[0];
    assert_eq!((repairs.len(), after), (1, 0), "it is asked once");
    let mut said = lone.broker(BrokerEvent::Read { id, page: &page(1, 1..2) });
    let (id, after) = asked(&said)[0];
    assert!((50..MESSAGES).contains(&after), "what was held is said, and what was not is asked for: {after}");
    said.extend(lone.broker(BrokerEvent::Read { id, page: &page(MESSAGES, after + 1..MESSAGES + 1) }));
    assert_eq!(offsets_in(&text_to(&said, conn)), (1..=MESSAGES).collect::<Vec<_>>());
}

/// What a client was told, by the offsets in it.
fn offsets_in(told: &str) -> Vec<u64> {
    let rest = told.split(r#","offset":"#).skip(1);
    rest.filter_map(|rest| rest.split_once(['}', ','])?.0.parse().ok()).collect()
}

/// An answer of the broker whose room has had so many messages.
fn page(last: u64, offsets: std::ops::Range<u64>) -> Page {
    Page {
        last: Position { epoch: EPOCH, offset: last },
        first: 1,
        continuity: Continuity::Exact,
        entries: offsets.map(|offset| Stored { offset, time_ms: 1, payload: payload(offset).into() }).collect(),
    }
}

/// What the broker says of a message that is stored.
fn announced(offset: u64) -> Vec<u8> {
    [format!("F2 {EPOCH} {offset} ").as_bytes(), &payload(offset)].concat()
}

fn payload(offset: u64) -> Vec<u8> {
    let filler = "x".repeat(10_000);
    format!("0000000000000001 -\n{{\"type\":\"MESSAGE\",\"room\":\"r\",\"message\":\"{offset}{filler}\"}}").into_bytes()
}
