//! Who reads by `GET /sse` hears what members hear, and comes back without a loss wherever its stream was cut.

use fanfare_core::broker::memory::MemoryBroker;
use fanfare_core::history::Retention;
use fanfare_core::rules::{Rule, Rules};
use fanfare_core::{Auth, Config, ConnId, Event, Identity};
use fanfare_tests::embedded::Embedded;
use fanfare_tests::event_stream::EventStream;
use fanfare_tests::lone_core::Said;
use fanfare_tests::{config, head_bytes};
use std::collections::BTreeSet;
use std::time::Duration;

/// Rooms that begin with `h` keep history.
fn with_histories(change: impl FnOnce(&mut Config)) -> Embedded {
    let config = config(|config| {
        let mut rule = Rule::new("h*".parse().expect("a pattern"));
        rule.history = Some(Retention { messages_max: 100, bytes_max: 100_000, age_max: Duration::from_secs(60) });
        config.rules = Rules::new(vec![rule]).expect("a rule");
        change(config);
    });
    Embedded::with_broker(config.clone(), MemoryBroker::new(&config))
}

fn reader(embedded: &mut Embedded, query: &str, fields: &str) -> ConnId {
    embedded.request(&format!("GET /sse?{query} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n"))
}

/// The head of the response and what a browser makes of the body.
fn read(embedded: &Embedded, conn: ConnId) -> (String, EventStream) {
    let bytes = embedded.bytes_to(conn);
    let (head, body) = bytes.split_at(head_bytes(&bytes).expect("a response"));
    (String::from_utf8(head.to_vec()).expect("a head"), EventStream::read(body))
}

fn numbers(stream: &EventStream) -> Vec<usize> {
    let messages = stream.of_kind("MESSAGE").into_iter();
    messages
        .map(|text| text.split(['<', '>']).nth(1).and_then(|number| number.parse().ok()).expect("a number"))
        .collect()
}

#[test]
fn it_is_told_what_members_are_told() {
    let mut embedded = with_histories(|_| {});
    let conn = reader(&mut embedded, "room=a&room=b", "");
    let sender = embedded.client("/");
    embedded.publish(sender, "a", 1..3, 0);
    embedded.command(sender, "{\"type\":\"SEND_MESSAGE\",\"room\":\"b\",\"message\":[\n\"<3>\"\r\n]}");
    let (head, stream) = read(&embedded, conn);
    assert!(head.starts_with("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"), "{head}");
    assert!(!head.contains("Access-Control") && !head.contains("Content-Length"), "{head}");
    assert!((500..=2_500).contains(&stream.retry_ms.expect("it says when to come back")));
    let kinds: Vec<&str> = stream.events.iter().map(|event| &*event.kind).collect();
    assert_eq!(kinds, ["SUBSCRIBED", "SUBSCRIBED", "MESSAGE", "MESSAGE", "MESSAGE"]);
    assert_eq!(stream.events[2].data, r#"{"type":"MESSAGE","room":"a","message":"<1>"}"#);
    assert_eq!(stream.events[4].data, "{\"type\":\"MESSAGE\",\"room\":\"b\",\"message\":[\n\"<3>\"\n\n]}");
    assert_eq!(stream.last_event_id, "", "rooms without history have no position");
    assert_eq!(embedded.lone.core.metrics().event_streams_now, 1);
}

#[test]
fn a_comment_keeps_it_open_and_nobody_waits_for_its_client() {
    let mut embedded = with_histories(|_| {});
    let conn = reader(&mut embedded, "room=a", "");
    for _ in 0..8 {
        embedded.lone.now = embedded.lone.now + Config::default().timeouts.ping_interval + Duration::from_secs(1);
        embedded.turn(|_| {});
    }
    assert_eq!(read(&embedded, conn).1.comments, 8);
    assert_eq!(embedded.lone.core.metrics().event_streams_now, 1);
}

/// Every message that is missing after a cut comes when the client comes back with what it was told last, wherever the cut was.
fn assert_any_cut_is_healed(query: &str, rooms: &[&str], never_repeats: bool) {
    let mut embedded = with_histories(|_| {});
    let conn = reader(&mut embedded, query, "");
    let sender = embedded.client("/");
    let mut number = 0;
    for round in 0..4 {
        for room in rooms {
            // Several in one turn, and single ones.
            let bytes: Vec<u8> = (0..=round)
                .flat_map(|_| {
                    number += 1;
                    let command = format!(r#"{{"type":"SEND_MESSAGE","room":"{room}","message":"<{number}>"}}"#);
                    fanfare_tests::Frame::text(&command).masked()
                })
                .collect();
            embedded.turn(|turn| turn.feed(Event::Bytes { conn: sender, data: &mut bytes.clone() }));
        }
    }
    let all: Vec<usize> = (1..=number).collect();
    let bytes = embedded.bytes_to(conn);
    let body = &bytes[head_bytes(&bytes).expect("a response")..];
    assert_eq!(numbers(&EventStream::read(body)), all);
    let mut ids = BTreeSet::new();
    for cut in 0..=body.len() {
        let before = EventStream::read(&body[..cut]);
        if before.last_event_id.is_empty() || !ids.insert((before.last_event_id.clone(), before.events.len())) {
            continue;
        }
        let fields = format!("Last-Event-ID: {}\r\n", before.last_event_id);
        let back = reader(&mut embedded, query, &fields);
        let (_, after) = read(&embedded, back);
        assert_eq!(after.of_kind("GAP"), Vec::<&str>::new(), "cut at {cut}");
        let told = after.of_kind("SUBSCRIBED").into_iter();
        // A room of which nothing is known yet begins with what comes.
        let known = told.filter(|text| text.contains(r#""recovered":true"#)).count();
        if known < rooms.len() {
            assert!(before.of_kind("SUBSCRIBED").len() <= rooms.len(), "{before:?}");
            continue;
        }
        let (before, after) = (numbers(&before), numbers(&after));
        let heard: BTreeSet<usize> = before.iter().chain(&after).copied().collect();
        assert_eq!(heard.into_iter().collect::<Vec<_>>(), all, "cut at {cut}: {before:?} and {after:?}");
        if never_repeats {
            assert_eq!(before.len() + after.len(), number, "cut at {cut}: {before:?} and {after:?}");
        }
        embedded.turn(|turn| turn.feed(Event::Closed { conn: back }));
    }
    assert!(ids.len() > rooms.len() * 4, "it was cut between many events: {ids:?}");
}

#[test]
fn a_stream_about_one_room_goes_on_behind_its_last_event() {
    assert_any_cut_is_healed("room=h", &["h"], true);
}

#[test]
fn a_stream_about_several_rooms_goes_on_in_all_of_them() {
    assert_any_cut_is_healed("room=h1&room=h2&room=h%203", &["h1", "h2", "h 3"], false);
}

/// The only room of a stream may be one that its user joins anyway.
#[test]
fn a_stream_about_a_users_own_rooms_goes_on_in_them() {
    for joined in [&[][..], &["h"]] {
        let mut embedded = with_histories(|config| {
            let mut own = Rule::new("user:{user}".parse().expect("a pattern"));
            own.history = Some(Retention { messages_max: 100, bytes_max: 100_000, age_max: Duration::from_secs(60) });
            config.rules = Rules::new(vec![own]).expect("a rule").with_own_rooms();
            config.auth = Some(Auth::default());
        });
        let mut identity = Identity::new("ann");
        identity.join = joined.iter().map(|room| (*room).into()).collect();
        let come = |embedded: &mut Embedded, id: &str| {
            let fields = format!("Authorization: Bearer x\r\nLast-Event-ID: {id}\r\n");
            let conn = reader(embedded, "", &fields);
            embedded.turn(|turn| turn.feed(Event::Authenticated { conn, outcome: Ok(&identity) }));
            conn
        };
        let first = come(&mut embedded, "");
        let say = |embedded: &mut Embedded, number: u32| {
            let text = format!(r#"{{"type":"SEND_MESSAGE","room":"user:ann","message":"<{number}>","id":{number}}}"#);
            embedded.turn(|turn| turn.feed(Event::Command { text: &text, user: None }));
        };
        (1..4).for_each(|number| say(&mut embedded, number));
        let stream = read(&embedded, first).1;
        assert_eq!(numbers(&stream), [1, 2, 3]);
        (4..6).for_each(|number| say(&mut embedded, number));
        let back = come(&mut embedded, &stream.last_event_id);
        assert_eq!(numbers(&read(&embedded, back).1), [4, 5], "{joined:?} behind {}", stream.last_event_id);
    }
}

/// A stream that a browser could not go on with is refused, whoever brings its rooms.
#[test]
fn names_of_a_users_own_rooms_count_as_well() {
    let mut embedded = with_histories(|config| {
        config.limits.request_head_bytes_max = 1_000;
        config.auth = Some(Auth::default());
    });
    let mut identity = Identity::new("a".repeat(200));
    identity.join = (0..6).map(|number| format!("room {number}").into()).collect();
    let conn = reader(&mut embedded, "", "Authorization: Bearer x\r\n");
    embedded.turn(|turn| turn.feed(Event::Authenticated { conn, outcome: Ok(&identity) }));
    let answer = String::from_utf8(embedded.bytes_to(conn)).expect("text");
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("Last-Event-ID"), "{answer}");
}

#[test]
fn an_id_wins_over_the_url_and_a_strange_one_does_not() {
    let mut embedded = with_histories(|_| {});
    let first = reader(&mut embedded, "room=h", "");
    let sender = embedded.client("/");
    embedded.publish(sender, "h", 1..6, 0);
    let id = read(&embedded, first).1.events[3].last_event_id.clone();
    let mut heard = |query: &str, id: &str| {
        let conn = reader(&mut embedded, query, &format!("Last-Event-ID: {id}\r\n"));
        numbers(&read(&embedded, conn).1)
    };
    assert_eq!(heard("room=h&history=1", &id), [4, 5]);
    assert_eq!(heard("room=h&history=1", "of another server"), [5]);
    assert_eq!(heard("room=h&history=1&room=a", &id), [5], "an id about one room says nothing of several");
}

#[test]
fn who_does_not_read_is_told_why_it_ends_and_loses_no_more_than_that() {
    for query in ["room=h", "room=h&room=h2"] {
        let mut embedded = with_histories(|config| config.limits.outbox_bytes_max = 20_000);
        let conn = reader(&mut embedded, query, "");
        embedded.lone.takes = |_, bytes| bytes;
        let sender = embedded.client("/");
        embedded.publish(sender, "h", 1..3, 100);
        embedded.slow.insert(conn);
        embedded.publish(sender, "h", 3..80, 1_000);
        embedded.recover();
        let (_, stream) = read(&embedded, conn);
        assert_eq!(stream.of_kind("CLOSED"), [r#"{"type":"CLOSED","code":4008,"reason":"too slow"}"#], "{query}");
        let heard = numbers(&stream);
        let back = reader(&mut embedded, query, &format!("Last-Event-ID: {}\r\n", stream.last_event_id));
        let rest = numbers(&read(&embedded, back).1);
        let all: BTreeSet<usize> = heard.iter().chain(&rest).copied().collect();
        assert_eq!(all.into_iter().collect::<Vec<_>>(), (1..80).collect::<Vec<_>>(), "{query}: {heard:?} and {rest:?}");
    }
}

#[test]
fn requests_that_are_none_are_told_why() {
    let mut embedded = with_histories(|config| config.limits.request_head_bytes_max = 1_000);
    let status = |embedded: &mut Embedded, request: &str| {
        let conn = embedded.request(request);
        String::from_utf8(embedded.bytes_to(conn)).expect("text")
    };
    let none = status(&mut embedded, "GET /sse HTTP/1.1\r\nHost: h\r\n\r\n");
    assert!(none.starts_with("HTTP/1.1 400 ") && none.ends_with("/sse?room=a&room=b"), "{none}");
    let wrong = status(&mut embedded, "GET /sse?room= HTTP/1.1\r\nHost: h\r\n\r\n");
    assert!(wrong.starts_with("HTTP/1.1 400 "), "{wrong}");
    let names: String = (0..20).map(|number| format!("&room=r{number}")).collect();
    let many = status(&mut embedded, &format!("GET /sse?{} HTTP/1.1\r\nHost: h\r\n\r\n", &names[1..]));
    assert!(many.starts_with("HTTP/1.1 400 ") && many.contains("Last-Event-ID"), "{many}");
    let page = status(&mut embedded, "GET /sse?room=a HTTP/1.1\r\nHost: h\r\nOrigin: http://other\r\n\r\n");
    assert!(page.starts_with("HTTP/1.1 403 "), "{page}");
    let own = status(&mut embedded, "GET /sse?room=a HTTP/1.1\r\nHost: h\r\nOrigin: http://h\r\n\r\n");
    assert!(own.starts_with("HTTP/1.1 200 ") && own.contains("\r\nAccess-Control-Allow-Origin: http://h\r\n"), "{own}");
    let head = status(&mut embedded, "HEAD /sse?room=a HTTP/1.1\r\nHost: h\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("text/event-stream"), "{head}");
    let old = status(&mut embedded, "GET /sse?room=a HTTP/1.0\r\n\r\n");
    assert!(old.starts_with("HTTP/1.1 200 ") && old.contains("SUBSCRIBED"), "nginx asks so by default: {old}");
}

#[test]
fn it_ends_with_the_server() {
    let mut embedded = with_histories(|_| {});
    let conn = reader(&mut embedded, "room=a", "");
    embedded.turn(|turn| turn.feed(Event::Shutdown));
    let (_, stream) = read(&embedded, conn);
    assert_eq!(stream.of_kind("CLOSED"), [r#"{"type":"CLOSED","code":1012,"reason":"the server restarts"}"#]);
    embedded.turn(|turn| turn.feed(Event::Closed { conn }));
    assert!(embedded.said.contains(&Said::Close(conn)));
    let late = reader(&mut embedded, "room=a", "");
    assert!(String::from_utf8_lossy(&embedded.bytes_to(late)).starts_with("HTTP/1.1 503 "));
}

#[test]
fn what_its_client_says_is_work_and_nothing_else() {
    let mut embedded = with_histories(|_| {});
    let conn = reader(&mut embedded, "room=a", "");
    embedded.command(conn, r#"{"type":"SUBSCRIBE","room":"b"}"#);
    assert_eq!(read(&embedded, conn).1.of_kind("SUBSCRIBED").len(), 1);
    for _ in 0..100 {
        embedded.turn(|turn| turn.feed(Event::Bytes { conn, data: &mut vec![b'x'; 100_000] }));
    }
    assert_eq!(read(&embedded, conn).1.of_kind("CLOSED").len(), 1, "it sent too much");
}
