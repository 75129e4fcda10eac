//! What the core makes of answers about rooms' histories that come when something else has happened in the meantime.

use fanfare_core::broker::{BrokerEvent, ReadId};
use fanfare_core::history::{Continuity, Epoch, Page, Part, Position, Retention, Stored};
use fanfare_core::rules::{Rule, Rules, Storing};
use fanfare_core::{Config, ConnId, Event};
use fanfare_tests::lone_core::{LoneCore, Said, text_to};
use fanfare_tests::{Frame, config, upgrade_request};
use std::time::Duration;

const SUBSCRIBED: BrokerEvent<'_> = BrokerEvent::Subscribed { room: "r" };
const ENDED: Epoch = Epoch { ordinal: 1, random: 7 };
const EPOCH: Epoch = Epoch { ordinal: 2, random: 8 };

/// A core whose rooms have histories.
fn lone() -> LoneCore {
    lone_with(|_| {})
}

fn lone_with(set: impl FnOnce(&mut Config)) -> LoneCore {
    LoneCore::new(config(|config| {
        set(config);
        let mut rule = Rule::new("**".parse().expect("a pattern"));
        rule.history = Some(Retention { messages_max: 100, bytes_max: 100_000, age_max: Duration::from_secs(60) });
        config.rules = Rules::new(vec![rule]).expect("a rule");
    }))
}

/// The one read that is asked for, and which part of the history.
fn read(said: &[Said]) -> (ReadId, Part) {
    let reads = said.iter().filter_map(|said| match said {
        Said::Read(id, _, query) => Some((*id, query.part)),
        _ => None,
    });
    let reads: Vec<_> = reads.collect();
    assert_eq!(reads.len(), 1, "{said:?}");
    reads[0]
}

fn stored(offset: u64) -> Stored {
    let text = format!("0000000000000001 -\n{{\"type\":\"MESSAGE\",\"room\":\"r\",\"message\":{offset}}}");
    Stored { offset, time_ms: 1, payload: text.into_bytes().into() }
}

/// Five messages of an epoch that has ended, and no other.
fn page(continuity: Continuity, offsets: std::ops::Range<u64>) -> Page {
    let last = Position { epoch: EPOCH, offset: 5 };
    Page { last, first: 1, continuity, entries: offsets.map(stored).collect() }
}

/// A core with a member of the room, which is live.
fn with_member() -> (LoneCore, ConnId) {
    with_member_in(lone())
}

fn with_member_in(mut lone: LoneCore) -> (LoneCore, ConnId) {
    let member = lone.client();
    lone.command(member, r#"{"type":"SUBSCRIBE","room":"r"}"#);
    let (id, _) = read(&lone.broker(SUBSCRIBED));
    lone.broker(BrokerEvent::Read { id, page: &page(Continuity::Exact, 1..1) });
    (lone, member)
}

#[test]
fn a_history_is_not_told_to_who_is_being_closed() {
    let mut lone = lone();
    let failed = |id| BrokerEvent::ReadFailed { id, passes: false };
    let answered = |lone: &mut LoneCore, id, is_failed| match is_failed {
        true => lone.broker(failed(id)),
        false => lone.broker(BrokerEvent::Read { id, page: &page(Continuity::Exact, 1..6) }),
    };
    for is_failed in [false, true] {
        let conn = lone.client();
        let (id, _) = read(&lone.command(conn, r#"{"type":"HISTORY","room":"r"}"#));
        assert!(lone.bytes(conn, Frame::text("not masked").unmasked()).contains(&Said::Shutdown(conn)));
        assert_eq!(answered(&mut lone, id, is_failed), []);
    }
    let conn = lone.client();
    let (id, _) = read(&lone.command(conn, r#"{"type":"HISTORY","room":"r"}"#));
    assert!(text_to(&answered(&mut lone, id, false), conn).contains("HISTORY"), "who is not is told");
}

#[test]
fn a_history_that_cannot_be_asked_for_is_refused_at_once() {
    let mut lone = lone();
    let conn = lone.client();
    let ask = r#"{"type":"HISTORY","room":"r","id":7}"#;
    let (id, _) = read(&lone.command(conn, ask));
    let told = text_to(&lone.broker(BrokerEvent::PublisherDown { reason: "broken" }), conn);
    assert!(told.contains("broker_unavailable") && told.contains(r#""id":7"#), "{told}");
    assert_eq!(lone.broker(BrokerEvent::Read { id, page: &page(Continuity::Exact, 1..6) }), [], "nobody waits for it");
    assert!(text_to(&lone.command(conn, ask), conn).contains("broker_unavailable"));
    assert!(!lone.broker(BrokerEvent::PublisherUp).iter().any(|said| matches!(said, Said::Read(..))));
    read(&lone.command(conn, ask));
}

/// Whoever publishes without the script stores nothing. So an instance does for `"store":false`, and by a rule.
#[test]
fn what_other_programs_publish_into_a_history_is_counted() {
    let (mut lone, member) = with_member();
    let said = |lone: &mut LoneCore, room: &str, payload: &str| {
        let said = lone.broker(BrokerEvent::Message { room, payload: payload.as_bytes() });
        let (count, last) = lone.core.foreign_in_histories();
        (text_to(&said, member), count, last.to_owned())
    };
    let of_instance = r#"{"type":"MESSAGE","room":"r","message":0}"#;
    let of_node = r#"{"type":"SEND_MESSAGE","roomId":"r","message":2}"#;
    for (payload, heard, counted) in [
        (&format!("F1 0000000000000001 -\n{of_instance}")[..], "0", 0),
        ("1", r#""1""#, 1),
        (of_node, "2", 2),
        (&format!("F2 {EPOCH} 6 0000000000000001 -\n{of_instance}"), "0", 2),
    ] {
        let (text, count, last) = said(&mut lone, "r", payload);
        assert!(text.contains(&format!(r#""message":{heard}"#)), "{text}");
        assert_eq!((count, &*last), (counted, if counted == 0 { "" } else { "r" }), "{payload}");
    }
    assert_eq!(lone.core.metrics().history_foreign, 2);
}

#[test]
fn where_nothing_is_stored_nothing_of_others_is_counted() {
    let stores_nothing = LoneCore::new(config(|config| {
        let mut rule = Rule::new("r".parse().expect("a pattern"));
        rule.history = Some(Retention { messages_max: 1, bytes_max: 1, age_max: Duration::from_secs(1) });
        rule.store = Storing::Off;
        config.rules = Rules::new(vec![rule]).expect("a rule");
    }));
    for mut lone in [stores_nothing, LoneCore::new(config(|_| {}))] {
        lone.member("r");
        lone.broker(BrokerEvent::Message { room: "r", payload: b"1" });
        assert_eq!(lone.core.foreign_in_histories(), (0, ""));
    }
}

#[test]
fn a_server_that_stops_tells_who_waits_for_its_place_first() {
    let (mut lone, member) = with_member();
    let conn = lone.client();
    let since = format!(r#""since":{{"epoch":"{ENDED}","offset":4}}"#);
    let (id, _) = read(&lone.command(conn, &format!(r#"{{"type":"SUBSCRIBE","room":"r",{since}}}"#)));
    let said = lone.turn(|turn| turn.feed(Event::Shutdown));
    assert!(text_to(&said, member).contains("restarts") && text_to(&said, conn).is_empty());
    let told = text_to(&lone.broker(BrokerEvent::Read { id, page: &page(Continuity::Exact, 5..6) }), conn);
    assert!(told.find("SUBSCRIBED") < told.find("restarts") && told.contains("SUBSCRIBED"), "{told}");
}

#[test]
fn nobody_becomes_a_member_while_the_subscription_is_lost() {
    let mut lone = lone();
    let conn = lone.client();
    lone.command(conn, r#"{"type":"SUBSCRIBE","room":"r"}"#);
    let (id, _) = read(&lone.broker(SUBSCRIBED));
    lone.broker(BrokerEvent::Down { reason: "broken" });
    let newest = page(Continuity::Exact, 1..1);
    assert_eq!(lone.broker(BrokerEvent::Read { id, page: &newest }), []);
    lone.broker(BrokerEvent::Up);
    let (id, _) = read(&lone.broker(SUBSCRIBED));
    assert!(text_to(&lone.broker(BrokerEvent::Read { id, page: &newest }), conn).contains("SUBSCRIBED"));
}

#[test]
fn who_waits_for_its_place_is_told_that_the_room_is_refused() {
    let (mut lone, member) = with_member();
    let conn = lone.client();
    read(&lone.command(
        conn,
        &format!(r#"{{"type":"SUBSCRIBE","room":"r","since":{{"epoch":"{ENDED}","offset":4}},"id":1}}"#),
    ));
    lone.broker(BrokerEvent::Down { reason: "broken" });
    lone.broker(BrokerEvent::Up);
    let said = lone.broker(BrokerEvent::SubscribeFailed { room: "r", reason: "no" });
    let told = text_to(&said, conn);
    assert!(told.contains(r#""code":"broker_refused""#) && told.contains(r#""id":1"#), "{told}");
    assert!(text_to(&said, member).contains("UNSUBSCRIBED"));
}

#[test]
fn who_has_seen_more_of_an_ended_epoch_than_others_is_not_told_what_they_are() {
    let (mut lone, _) = with_member();
    // Redis has lost what came after the fifth message.
    let clients = [4, 9, 5].map(|offset| (lone.client(), offset));
    let mut asked = Vec::new();
    for (conn, offset) in clients {
        let since = format!(r#""since":{{"epoch":"{ENDED}","offset":{offset}}}"#);
        asked.extend(lone.command(conn, &format!(r#"{{"type":"SUBSCRIBE","room":"r",{since}}}"#)));
    }
    let mut told = Vec::new();
    while asked.iter().any(|said| matches!(said, Said::Read(..))) {
        let (id, part) = read(&asked);
        let Part::After(Position { epoch: ENDED, offset }) = part else { panic!("{part:?}") };
        let answer = match offset {
            0..=5 => page(Continuity::Exact, offset + 1..6),
            _ => page(Continuity::Fenced(5), 6..6),
        };
        asked = lone.broker(BrokerEvent::Read { id, page: &answer });
        told.extend(asked.clone());
    }
    let told = clients.map(|(conn, _)| text_to(&told, conn));
    for (told, offset) in [(&told[0], 4), (&told[2], 5)] {
        assert!(told.contains(&format!(r#""offset":{offset},"recovered":true"#)) && !told.contains("GAP"), "{told}");
    }
    assert!(told[0].contains(r#""message":5"#), "what it has missed follows");
    assert!(told[1].contains(r#""offset":5,"recovered":false"#) && told[1].contains(r#""fence":5"#), "{}", told[1]);
}

/// A page that was read before its last message was stored says nothing of it, and least that it is lost.
#[test]
fn who_comes_back_is_not_judged_by_what_was_read_before() {
    // Nothing stays in memory, so that whatever was missed is read.
    let (mut lone, _) = with_member_in(lone_with(|config| config.history.memory_bytes_max = 0));
    let [earlier, later, newest] = [(); 3].map(|()| lone.client());
    let subscribe = |fields: &str| format!(r#"{{"type":"SUBSCRIBE","room":"r",{fields}}}"#);
    let since = |offset: u64| subscribe(&format!(r#""since":{{"epoch":"{EPOCH}","offset":{offset}}}"#));
    let (id, _) = read(&lone.command(earlier, &since(3)));
    for offset in 6..9 {
        let payload = [format!("F2 {EPOCH} {offset} ").as_bytes(), &stored(offset).payload].concat();
        lone.broker(BrokerEvent::Message { room: "r", payload: &payload });
    }
    assert_eq!(lone.command(later, &since(7)), [], "a question is on its way");
    assert_eq!(lone.command(newest, &subscribe(r#""history":1"#)), []);
    let mut said = lone.broker(BrokerEvent::Read { id, page: &page(Continuity::Exact, 4..6) });
    let mut told = said.clone();
    while said.iter().any(|said| matches!(said, Said::Read(..))) {
        let (id, part) = read(&said);
        let Part::After(Position { epoch: EPOCH, offset }) = part else { panic!("{part:?}") };
        let mut answer = page(Continuity::Exact, offset + 1..9);
        answer.last.offset = 8;
        said = lone.broker(BrokerEvent::Read { id, page: &answer });
        said.extend(lone.turn(|_| {}));
        told.extend(said.clone());
    }
    for (conn, begins, recovered) in
        [(earlier, 3, r#","recovered":true"#), (later, 7, r#","recovered":true"#), (newest, 7, "")]
    {
        let told = text_to(&told, conn);
        assert!(told.contains(&format!(r#""offset":{begins}{recovered}}}"#)) && !told.contains("GAP"), "{told}");
        let offsets: Vec<u64> = (begins + 1..9).collect();
        let position = |offset: &u64| told.find(&format!(r#""message":{offset},"offset":{offset}}}"#));
        assert!(offsets.iter().all(|offset| position(offset).is_some()), "{told}");
        assert_eq!(told.matches(r#""type":"MESSAGE""#).count(), offsets.len(), "{told}");
    }
}

/// Whoever comes one after the other would each cost the broker a read.
#[test]
fn what_was_read_for_one_who_comes_back_is_there_for_the_next() {
    let (mut lone, _) = with_member();
    let resume = |lone: &mut LoneCore, offset: u64| {
        let conn = lone.client();
        let since = format!(r#""since":{{"epoch":"{EPOCH}","offset":{offset}}}"#);
        (conn, lone.command(conn, &format!(r#"{{"type":"SUBSCRIBE","room":"r",{since}}}"#)))
    };
    let (first, said) = resume(&mut lone, 2);
    let (id, part) = read(&said);
    assert_eq!(part, Part::After(Position { epoch: EPOCH, offset: 2 }));
    let told = text_to(&lone.broker(BrokerEvent::Read { id, page: &page(Continuity::Exact, 3..6) }), first);
    assert!(
        [3, 4, 5].iter().all(|offset| told.contains(&format!(r#""message":{offset},"offset":{offset}}}"#))),
        "{told}"
    );
    for (offset, missed) in [(2, 3), (4, 1), (5, 0)] {
        let (next, said) = resume(&mut lone, offset);
        let told = text_to(&said, next);
        assert!(told.contains(r#""recovered":true"#), "{told}");
        assert_eq!(told.matches(r#""type":"MESSAGE""#).count(), missed, "{told}");
        assert!(!said.iter().any(|said| matches!(said, Said::Read(..))), "{said:?}");
    }
    // What nobody has read is asked for.
    let (_, said) = resume(&mut lone, 1);
    assert_eq!(read(&said).1, Part::After(Position { epoch: EPOCH, offset: 1 }));
}

/// Its dialect has no word for what it has missed, so that whatever followed would be taken for what comes next. It has asked for the room
/// again meanwhile, or its own message that it does not want back stands there or comes: each is a reason to give it its part at once.
#[test]
fn who_cannot_be_told_is_given_nothing_behind_what_it_has_missed() {
    for (asks_again, stands_there, comes) in [(true, false, false), (false, true, false), (false, false, true)] {
        let (mut lone, _) = with_member();
        let classic = lone.connect();
        lone.bytes(classic, upgrade_request("/classic?room=r", ""));
        let mut published = lone.command(classic, r#"{"type":"SEND_MESSAGE","room":"r","message":8,"echo":false}"#);
        published.extend(
            lone.command(classic, r#"{"type":"SEND_MESSAGE","room":"r","message":10,"echo":false,"store":false}"#),
        );
        let [Said::Store(_, own_stored, _), Said::Publish(_, own_live, _)] = &published[..] else {
            panic!("{published:?}")
        };
        lone.broker(BrokerEvent::Down { reason: "broken" });
        if asks_again {
            lone.command(classic, r#"{"type":"SUBSCRIBE","room":"r"}"#);
        }
        lone.broker(BrokerEvent::Up);
        let (id, _) = read(&lone.broker(SUBSCRIBED));
        if comes {
            lone.broker(BrokerEvent::Message { room: "r", payload: own_live });
        }
        // The sixth is kept no more.
        let mut missed = page(Continuity::Trimmed, 7..10);
        (missed.last.offset, missed.first) = (9, 7);
        if stands_there {
            missed.entries[1].payload = own_stored[..].into();
        }
        let told = text_to(&lone.broker(BrokerEvent::Read { id, page: &missed }), classic);
        assert!(told.contains("messages have been missed"), "{told}");
        assert!(!told.contains(['7', '8', '9']), "{asks_again} {stands_there} {comes}: {told}");
    }
}
