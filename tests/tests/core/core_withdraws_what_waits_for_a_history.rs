//! Whoever may not read a room's history any more is not given what it waits for of it.

use fanfare_core::broker::{BrokerEvent, ReadId};
use fanfare_core::history::{Continuity, Epoch, Page, Position, Retention, Stored};
use fanfare_core::rules::{Grants, Right, Rule, Rules, Who};
use fanfare_core::{Auth, Config, ConnId, Event, Identity};
use fanfare_tests::lone_core::{LoneCore, Said, text_to};
use fanfare_tests::{config, upgrade_request};
use std::time::Duration;

/// A core with a room that everybody may be in, and whose history takes a grant; and a user who has that, or not.
fn lone(set: fn(&mut Config)) -> (LoneCore, ConnId) {
    let mut rule = Rule::new("r*".parse().expect("a pattern"));
    rule.history = Some(Retention { messages_max: 100, bytes_max: 100_000, age_max: Duration::from_secs(60) });
    (rule.permissions.subscribe, rule.permissions.history) = (Some(Who::Anyone), Some(Who::Granted));
    let mut lone = LoneCore::new(config(|config| {
        config.auth = Some(Auth::default());
        config.auth.as_mut().expect("set above").own_rooms = false;
        config.rules = Rules::new(vec![rule]).expect("a rule").with_own_rooms();
        set(config);
    }));
    lone.turn(|turn| turn.feed(Event::WallClock { unix_ms: 1_700_000_000_000 }));
    let conn = lone.connect();
    lone.bytes(conn, upgrade_request("/", "Authorization: Bearer t0ken\r\n"));
    renew(&mut lone, conn, &["r", "r2"]);
    (lone, conn)
}

/// It turns out that the histories of these rooms are granted; what the connection is told then.
fn renew(lone: &mut LoneCore, conn: ConnId, rooms: &[&str]) -> String {
    let mut bob = Identity::new("bob");
    bob.grants = Grants::default().with(Right::History, rooms.iter().copied()).expect("patterns");
    let said = lone.turn(|turn| turn.feed(Event::Authenticated { conn, outcome: Ok(&bob) }));
    text_to(&said, conn)
}

/// The reads that are asked for.
fn reads(said: &[Said]) -> Vec<ReadId> {
    let reads = said.iter().filter_map(|said| match said {
        Said::Read(id, ..) => Some(*id),
        _ => None,
    });
    reads.collect()
}

fn page() -> Page {
    let payload = br#"0000000000000001 -
{"type":"MESSAGE","room":"r","message":"secret"}"#;
    let entries = vec![Stored { offset: 1, time_ms: 1, payload: payload[..].into() }];
    let last = Position { epoch: Epoch { ordinal: 1, random: 7 }, offset: 1 };
    Page { last, first: 1, continuity: Continuity::Exact, entries }
}

#[test]
fn a_history_that_has_been_asked_for_is_not_told() {
    let (mut lone, conn) = lone(|config| config.history.reads_in_flight_max = 1);
    let asked = reads(&lone.command(conn, r#"{"type":"HISTORY","room":"r","id":1}"#));
    // These wait for a place.
    assert_eq!(reads(&lone.command(conn, r#"{"type":"HISTORY","room":"r","id":2}"#)), []);
    assert_eq!(reads(&lone.command(conn, r#"{"type":"HISTORY","room":"r2","id":3}"#)), []);
    let told = renew(&mut lone, conn, &["r2"]);
    for (id, is_refused) in [(1, true), (2, true), (3, false)] {
        assert_eq!(told.contains(&format!(r#""id":{id},"room":"r"#)), is_refused, "{told}");
    }
    assert_eq!(told.matches(r#""code":"forbidden""#).count(), 2, "{told}");
    let mut asked = asked;
    for is_last in [false, false, true] {
        let said = lone.broker(BrokerEvent::Read { id: asked[0], page: &page() });
        assert_eq!(text_to(&said, conn).contains(r#""type":"HISTORY","room":"r2""#), is_last, "{said:?}");
        assert_eq!(text_to(&said, conn).is_empty(), !is_last, "{said:?}");
        asked = reads(&said);
    }
    assert_eq!(asked, []);
}

#[test]
fn a_subscribe_that_waits_for_what_was_said_before_is_refused() {
    for is_confirmed in [false, true] {
        let (mut lone, conn) = lone(|_| {});
        lone.command(conn, r#"{"type":"SUBSCRIBE","room":"r","history":5,"id":1}"#);
        lone.command(conn, r#"{"type":"SUBSCRIBE","room":"r2","id":2}"#);
        let mut asked = Vec::new();
        if is_confirmed {
            asked = reads(&lone.broker(BrokerEvent::Subscribed { room: "r" }));
        }
        let told = renew(&mut lone, conn, &[]);
        assert!(told.contains(r#""code":"forbidden""#) && told.contains(r#""id":1,"room":"r""#), "{told}");
        assert!(!told.contains("r2"), "what begins now needs no history: {told}");
        if !is_confirmed {
            asked = reads(&lone.broker(BrokerEvent::Subscribed { room: "r" }));
        }
        for id in asked {
            let said = lone.broker(BrokerEvent::Read { id, page: &page() });
            assert!(!text_to(&said, conn).contains("secret"), "{said:?}");
        }
        // It may still be in the room.
        lone.command(conn, r#"{"type":"SUBSCRIBE","room":"r","id":3}"#);
        lone.core.check_invariants();
    }
}

/// A room of so many messages, each large, of which a turn says a few to a member.
fn large_page(messages: u64) -> Page {
    let payload = |offset| {
        let large = "x".repeat(30_000);
        format!("{offset:016x} -\n{{\"type\":\"MESSAGE\",\"room\":\"r\",\"message\":\"secret {offset} {large}\"}}")
    };
    let entry = |offset| Stored { offset, time_ms: 1, payload: payload(offset).into_bytes().into() };
    let last = Position { epoch: Epoch { ordinal: 1, random: 7 }, offset: messages };
    Page { last, first: 1, continuity: Continuity::Exact, entries: (1..=messages).map(entry).collect() }
}

#[test]
fn what_is_being_told_ends_with_the_right_to_read_it() {
    let (mut lone, conn) = lone(|_| {});
    lone.command(conn, r#"{"type":"SUBSCRIBE","room":"r","history":20,"id":1}"#);
    let mut asked = reads(&lone.broker(BrokerEvent::Subscribed { room: "r" }));
    let mut told = String::new();
    while !told.contains("secret") {
        let id = asked.pop().expect("it is asked what was said before");
        let said = lone.broker(BrokerEvent::Read { id, page: &large_page(20) });
        told = text_to(&said, conn);
        asked = reads(&said);
    }
    assert!(told.contains(r#""type":"SUBSCRIBED""#) && !told.contains("secret 20 "), "{}", told.len());
    let said = renew(&mut lone, conn, &[]);
    assert!(said.contains(r#"{"type":"UNSUBSCRIBED","room":"r","code":"forbidden"}"#), "{}", &said[..200]);
    for _ in 0..20 {
        let said = text_to(&lone.wait(Duration::from_millis(1)), conn);
        assert!(!said.contains("secret"), "{}", &said[..200]);
    }
    // It may still be in the room.
    let said = lone.command(conn, r#"{"type":"SUBSCRIBE","room":"r","id":3}"#);
    assert!(text_to(&said, conn).contains(r#""type":"SUBSCRIBED""#) || said.contains(&Said::Subscribe("r".into())));
}

#[test]
fn whoever_has_been_told_all_of_it_stays() {
    let (mut lone, conn) = lone(|_| {});
    lone.command(conn, r#"{"type":"SUBSCRIBE","room":"r","history":20,"id":1}"#);
    let mut asked = reads(&lone.broker(BrokerEvent::Subscribed { room: "r" }));
    let mut told = String::new();
    while let Some(id) = asked.pop() {
        let said = lone.broker(BrokerEvent::Read { id, page: &large_page(5) });
        told += &text_to(&said, conn);
        asked = reads(&said);
    }
    for _ in 0..20 {
        told += &text_to(&lone.wait(Duration::from_millis(1)), conn);
    }
    assert!(told.contains("secret 1 ") && told.contains("secret 5 "), "{}", told.len());
    let said = renew(&mut lone, conn, &[]);
    assert!(!said.contains("forbidden"), "{said}");
}
