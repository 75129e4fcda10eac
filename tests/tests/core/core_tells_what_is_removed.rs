//! What the core makes of a removal: members are told in their order, it is forgotten in memory, and no page that was read before brings it
//! back.

use fanfare_core::broker::{BrokerEvent, PublishError, ReadId};
use fanfare_core::history::{Continuity, Epoch, Page, Part, Position, Removal, Retention, Stored};
use fanfare_core::rules::{Rule, Rules};
use fanfare_core::{ConnId, Event};
use fanfare_tests::lone_core::{LoneCore, Said, text_to};
use fanfare_tests::{config, upgrade_request};
use std::time::Duration;

const EPOCH: Epoch = Epoch { ordinal: 1, random: 7 };
const NEXT: Epoch = Epoch { ordinal: 2, random: 8 };

fn lone() -> LoneCore {
    LoneCore::new(config(|config| {
        let mut rule = Rule::new("r*".parse().expect("a pattern"));
        rule.history = Some(Retention { messages_max: 100, bytes_max: 100_000, age_max: Duration::from_secs(60) });
        config.rules = Rules::new(vec![rule]).expect("a rule");
    }))
}

fn at(offset: u64) -> Position {
    Position { epoch: EPOCH, offset }
}

fn payload(message: &str) -> String {
    format!("0000000000000001 -\n{{\"type\":\"MESSAGE\",\"room\":\"r\",\"message\":\"{message}\"}}")
}

fn stored(offset: u64, payload: &str) -> Stored {
    Stored { offset, time_ms: 1, payload: payload.as_bytes().into() }
}

fn page(last: u64, entries: Vec<Stored>) -> Page {
    Page { last: at(last), first: 1, continuity: Continuity::Exact, entries }
}

/// The one read that is asked for.
#[track_caller]
fn read(said: &[Said]) -> (ReadId, Part) {
    let reads = said.iter().filter_map(|said| match said {
        Said::Read(id, _, query) => Some((*id, query.part)),
        _ => None,
    });
    let reads: Vec<_> = reads.collect();
    assert_eq!(reads.len(), 1, "{said:?}");
    reads[0]
}

fn hear(lone: &mut LoneCore, epoch: Epoch, offset: u64, payload: &str) -> Vec<Said> {
    let published = format!("F2 {epoch} {offset} {payload}");
    lone.broker(BrokerEvent::Message { room: "r", payload: published.as_bytes() })
}

/// A core with a member of the room, which is live behind this offset.
fn live_at(offset: u64) -> (LoneCore, ConnId) {
    let mut lone = lone();
    let member = lone.client();
    lone.command(member, r#"{"type":"SUBSCRIBE","room":"r"}"#);
    let (id, _) = read(&lone.broker(BrokerEvent::Subscribed { room: "r" }));
    lone.broker(BrokerEvent::Read { id, page: &page(offset, Vec::new()) });
    (lone, member)
}

fn resume(lone: &mut LoneCore, epoch: Epoch, offset: u64) -> (ConnId, Vec<Said>) {
    let conn = lone.client();
    let since = format!(r#"{{"epoch":"{epoch}","offset":{offset}}}"#);
    let said = lone.command(conn, &format!(r#"{{"type":"SUBSCRIBE","room":"r","since":{since}}}"#));
    (conn, said)
}

fn answer(lone: &mut LoneCore, id: ReadId, page: &Page) -> Vec<Said> {
    lone.broker(BrokerEvent::Read { id, page })
}

#[test]
fn members_are_told_in_their_order_and_who_cannot_be_told_hears_nothing() {
    let (mut lone, member) = live_at(0);
    let bare = lone.connect();
    lone.bytes(bare, upgrade_request("/classic?room=r", ""));
    assert!(text_to(&hear(&mut lone, EPOCH, 1, &payload("one")), bare).contains("one"));
    let said = hear(&mut lone, EPOCH, 2, "REMOVED 1");
    let told = format!(r#"{{"type":"REMOVED","room":"r","epoch":"{EPOCH}","offset":1,"at":2}}"#);
    assert!(text_to(&said, member).ends_with(&told), "{said:?}");
    assert_eq!(text_to(&said, bare), "");
    assert!(text_to(&hear(&mut lone, EPOCH, 3, &payload("three")), bare).contains("three"), "it goes on");
    let said = hear(&mut lone, EPOCH, 4, "REMOVED ALL");
    let told = format!(r#"{{"type":"REMOVED","room":"r","epoch":"{EPOCH}","through":3,"at":4}}"#);
    assert!(text_to(&said, member).ends_with(&told), "{said:?}");
    assert_eq!((lone.core.metrics().messages_forged, lone.core.metrics().gaps), (0, 0));
}

#[test]
fn what_is_in_memory_is_forgotten() {
    let (mut lone, _) = live_at(0);
    for (offset, message) in [(1, "one"), (2, "two"), (3, "three")] {
        hear(&mut lone, EPOCH, offset, &payload(message));
    }
    hear(&mut lone, EPOCH, 4, "REMOVED 2");
    let (conn, said) = resume(&mut lone, EPOCH, 0);
    let told = text_to(&said, conn);
    assert!(told.contains("\"one\"") && told.contains("\"three\"") && !told.contains("\"two\""), "{told}");
    assert!(told.contains(r#""recovered":true"#) && told.contains(r#""offset":2,"at":4"#) && !told.contains("GAP"));
    hear(&mut lone, EPOCH, 5, "REMOVED ALL");
    let (conn, said) = resume(&mut lone, EPOCH, 0);
    let told = text_to(&said, conn);
    assert!(told.contains(r#""through":4,"at":5"#) && !told.contains("MESSAGE") && !told.contains("GAP"), "{told}");
}

/// A page may be answered to later than the removal is heard, which has been made since it was read.
#[test]
fn a_page_of_before_brings_nothing_back() {
    let before = |last| page(last, vec![stored(1, &payload("one")), stored(2, &payload("two"))]);
    let (mut lone, _) = live_at(2);
    let (conn, said) = resume(&mut lone, EPOCH, 0);
    let (id, part) = read(&said);
    assert_eq!(part, Part::After(at(0)));
    hear(&mut lone, EPOCH, 3, "REMOVED 1");
    let told = text_to(&answer(&mut lone, id, &before(2)), conn);
    assert!(told.contains("\"two\"") && told.contains(r#""offset":1,"at":3"#) && !told.contains("\"one\""), "{told}");

    let client = lone.client();
    let (id, _) = read(&lone.command(client, r#"{"type":"HISTORY","room":"r"}"#));
    hear(&mut lone, EPOCH, 4, "REMOVED 2");
    let told = text_to(&answer(&mut lone, id, &before(3)), client);
    assert!(told.contains("HISTORY") && !told.contains("\"two\""), "{told}");

    // Nor does what has been remembered of a page: nothing is asked for any more.
    let (conn, said) = resume(&mut lone, EPOCH, 0);
    let told = text_to(&said, conn);
    assert!(told.contains(r#""offset":2,"at":4"#) && !told.contains("MESSAGE"), "{told}");
}

/// An empty answer would say that nothing is kept there, and the rest of the room is kept.
#[test]
fn a_history_of_which_all_is_removed_before_it_is_told_is_asked_for_again() {
    let kept = payload("kept");
    for (asked, gone, (offset, found)) in [
        (r#""limit":1"#, 3, (4, "REMOVED 3")),
        (r#""limit":1,"before":3"#, 2, (1, &kept)),
        (r#""limit":1,"after":0"#, 1, (2, &kept)),
    ] {
        let (mut lone, _) = live_at(3);
        let client = lone.client();
        let command = format!(r#"{{"type":"HISTORY","room":"r",{asked},"epoch":"{EPOCH}"}}"#);
        let (id, part) = read(&lone.command(client, &command));
        hear(&mut lone, EPOCH, 4, &format!("REMOVED {gone}"));
        let said = answer(&mut lone, id, &page(3, vec![stored(gone, &payload("gone"))]));
        assert_eq!(text_to(&said, client), "");
        let (id, again) = read(&said);
        assert_eq!(again, part);
        let told = text_to(&answer(&mut lone, id, &page(4, vec![stored(offset, found)])), client);
        assert!(told.contains(&format!(r#""messages":[{{"offset":{offset},"#)), "{told}");
    }
}

#[test]
fn what_was_removed_while_nothing_was_heard_is_told_and_no_gap() {
    let (mut lone, member) = live_at(0);
    hear(&mut lone, EPOCH, 1, &payload("one"));
    let (id, part) = read(&hear(&mut lone, EPOCH, 5, &payload("five")));
    assert_eq!(part, Part::After(at(1)));
    let missed = page(5, vec![stored(4, "REMOVED 1"), stored(5, &payload("five"))]);
    let told = text_to(&answer(&mut lone, id, &missed), member);
    assert!(told.contains(r#""offset":1,"at":4"#) && told.contains(r#""message":"five","offset":5"#), "{told}");
    assert!(!told.contains("GAP"), "{told}");
    let (conn, said) = resume(&mut lone, EPOCH, 0);
    let told = text_to(&said, conn);
    assert!(told.contains("REMOVED") && told.contains("\"five\"") && !told.contains("\"one\""), "{told}");
}

/// With the removal, what it has removed is there again: nobody misses it without a word.
#[test]
fn a_removal_that_is_lost_is_none() {
    let (mut lone, member) = live_at(0);
    hear(&mut lone, EPOCH, 1, &payload("one"));
    hear(&mut lone, EPOCH, 2, "REMOVED 1");
    let (id, _) = read(&hear(&mut lone, NEXT, 2, &payload("another")));
    let last = Position { epoch: NEXT, offset: 2 };
    let entries = vec![stored(2, &payload("another"))];
    let after = Page { last, first: 1, continuity: Continuity::Fenced(1), entries };
    let told = text_to(&answer(&mut lone, id, &after), member);
    assert!(told.contains(r#""fence":1,"reason":"failover""#) && told.contains("another"), "{told}");
    let (_, said) = resume(&mut lone, NEXT, 0);
    assert_eq!(read(&said).1, Part::After(Position { epoch: NEXT, offset: 0 }), "it is not in memory");
}

fn ordered(text: &str) -> Event<'_> {
    Event::Command { text, user: None }
}

#[test]
fn the_program_removes_and_clients_do_not() {
    let mut lone = lone();
    let said = lone.turn(|turn| turn.feed(ordered(r#"{"type":"REMOVE","room":"r","offset":7,"id":1}"#)));
    let [Said::Store(room, stored, Some(id))] = &said[..] else { panic!("{said:?}") };
    assert_eq!((&**room, Removal::of_payload(stored)), ("r", Some(Removal::One(7))));
    let replies = |lone: &mut LoneCore| {
        let replies: Vec<String> =
            lone.core.replies().map(|text| String::from_utf8_lossy(&text).into_owned()).collect();
        replies.concat()
    };
    lone.broker(BrokerEvent::Published { id: *id, position: Some(at(9)), receivers: None });
    assert_eq!(replies(&mut lone), format!(r#"{{"type":"ACK","id":1,"epoch":"{EPOCH}","offset":9}}"#));
    for (error, code) in [(PublishError::NoMessage, "message_unknown"), (PublishError::EpochUnknown, "epoch_unknown")] {
        let said = lone.turn(|turn| turn.feed(ordered(r#"{"type":"REMOVE","room":"r","id":2}"#)));
        let [Said::Store(_, stored, Some(id))] = &said[..] else { panic!("{said:?}") };
        assert_eq!(Removal::of_payload(stored), Some(Removal::All));
        lone.broker(BrokerEvent::PublishFailed { id: *id, error });
        assert!(replies(&mut lone).contains(&format!(r#""code":"{code}""#)));
    }
    assert_eq!(lone.turn(|turn| turn.feed(ordered(r#"{"type":"REMOVE","room":"plain","id":3}"#))), []);
    assert!(replies(&mut lone).contains("history_unavailable"));
    let client = lone.client();
    let said = lone.command(client, r#"{"type":"REMOVE","room":"r","id":4}"#);
    assert!(text_to(&said, client).contains("unknown_type"), "{said:?}");
}

/// Nobody can be told of it where an instance's rules give the room no history, and what claims to be one without a place is none.
#[test]
fn what_is_no_removal_of_this_room_is_not_told() {
    let mut lone = LoneCore::new(config(|_| {}));
    let member = lone.member("r");
    let said = hear(&mut lone, EPOCH, 2, "REMOVED 1");
    assert_eq!(text_to(&said, member), "");
    let said = lone.broker(BrokerEvent::Message { room: "r", payload: b"F1 REMOVED 1" });
    assert_eq!((text_to(&said, member), lone.core.metrics().messages_forged), (String::new(), 1));
}
