//! However many sockets become writable at once, and however many deadlines come together, a turn does a bounded part of the work, and
//! the next turns the rest at once.

use fanfare_core::broker::BrokerEvent;
use fanfare_core::{Config, ConnId, Event, Rate};
use fanfare_tests::lone_core::{LoneCore, Said, text_to};
use fanfare_tests::{Frame, config, upgrade_request};
use std::time::Duration;

/// What a turn may write to sockets that are writable again: 1 MiB, or 64 writes of up to 64 KiB.
const BYTES_MAX: usize = 1024 * 1024 + 64 * 1024;
const WRITES_MAX: usize = 64;

fn sent(said: &[Said]) -> impl Iterator<Item = (ConnId, &Vec<u8>)> {
    said.iter().filter_map(|said| match said {
        Said::Sent(conn, bytes) if !bytes.is_empty() => Some((*conn, bytes)),
        _ => None,
    })
}

/// Members of one room that have taken nothing of its messages, which are so many of so many bytes.
fn laggards(members: usize, messages: usize, bytes: usize) -> (LoneCore, Vec<ConnId>) {
    let mut lone = LoneCore::new(Config::default());
    let members: Vec<ConnId> = (0..members).map(|_| lone.member("r")).collect();
    lone.takes = |_, _| 0;
    let filler = "x".repeat(bytes);
    for number in 0..messages {
        let payload = format!("<{number}>{filler}");
        lone.broker(BrokerEvent::Message { room: "r", payload: payload.as_bytes() });
        while lone.core.next_timeout().is_some_and(|timeout| timeout <= lone.now) {
            lone.turn(|_| {});
        }
    }
    lone.takes = |_, bytes| bytes;
    (lone, members)
}

/// All become writable in one turn. What each turn said, until there is no more to do at once.
fn drained(lone: &mut LoneCore, members: &[ConnId]) -> Vec<Vec<Said>> {
    let mut turns = vec![lone.turn(|turn| members.iter().for_each(|conn| turn.feed(Event::Writable { conn: *conn })))];
    while lone.core.next_timeout().is_some_and(|timeout| timeout <= lone.now) {
        turns.push(lone.turn(|_| {}));
    }
    turns
}

#[test]
fn sockets_that_become_writable_together_are_written_to_a_part_a_turn() {
    for (members, messages, bytes) in [(500, 3, 10), (40, 20, 16_000)] {
        let (mut lone, members) = laggards(members, messages, bytes);
        let turns = drained(&mut lone, &members);
        for said in &turns {
            let (writes, bytes) = sent(said).fold((0, 0), |(writes, all), (_, bytes)| (writes + 1, all + bytes.len()));
            assert!(writes <= WRITES_MAX && bytes <= BYTES_MAX, "{writes} writes of {bytes} bytes in a turn");
        }
        let said = turns.concat();
        for conn in &members {
            let text = text_to(&said, *conn);
            let numbers: Vec<usize> = (0..messages).filter_map(|number| text.find(&format!("<{number}>"))).collect();
            assert!(numbers.len() == messages && numbers.is_sorted(), "{conn:?}: every message, in order: {numbers:?}");
        }
        assert_eq!(lone.core.metrics().unsent_bytes_now, 0);
    }
}

#[test]
fn who_goes_while_it_waits_to_be_written_to_is_passed_over() {
    let (mut lone, members) = laggards(200, 1, 10);
    lone.turn(|turn| members.iter().for_each(|conn| turn.feed(Event::Writable { conn: *conn })));
    // Nobody of these has had its turn, and the newcomers get their places.
    let gone = &members[100..];
    lone.turn(|turn| gone.iter().for_each(|conn| turn.feed(Event::Closed { conn: *conn })));
    let newcomers: Vec<ConnId> = (0..100).map(|_| lone.client()).collect();
    let said = drained(&mut lone, &[]).concat();
    assert!(newcomers.iter().all(|conn| text_to(&said, *conn).is_empty()));
    assert_eq!(lone.core.metrics().unsent_bytes_now, 0);
}

#[test]
fn deadlines_that_come_together_are_met_a_part_a_turn() {
    const CLIENTS: usize = 1_000;
    const DEADLINES_MAX: usize = 256;
    let mut lone = LoneCore::new(Config::default());
    let clients: Vec<ConnId> = (0..CLIENTS).map(|_| lone.client()).collect();
    lone.now = lone.now + Config::default().timeouts.ping_interval + Duration::from_millis(40);
    let mut pinged = Vec::new();
    while pinged.len() < CLIENTS {
        assert!(lone.core.next_timeout().is_some_and(|timeout| timeout <= lone.now), "the rest is due at once");
        let said = lone.turn(|_| {});
        assert!(sent(&said).count() <= DEADLINES_MAX);
        pinged.extend(sent(&said).map(|(conn, _)| conn));
    }
    pinged.sort();
    pinged.dedup();
    assert_eq!((pinged.len(), clients.len()), (CLIENTS, CLIENTS), "each once");
}

#[test]
fn messages_that_do_not_end_in_time_are_ended_a_part_a_turn() {
    const CLIENTS: usize = 600;
    const ENDS_MAX: usize = 256;
    let mut lone = LoneCore::new(config(|config| config.timeouts.message = Duration::from_secs(5)));
    for _ in 0..CLIENTS {
        let conn = lone.client();
        lone.bytes(conn, Frame::text("the beginning").unfinished().masked());
    }
    lone.now = lone.now + Duration::from_secs(6);
    let mut ended = 0;
    while ended < CLIENTS {
        assert!(lone.core.next_timeout().is_some_and(|timeout| timeout <= lone.now), "the rest is due at once");
        let closes = sent(&lone.turn(|_| {})).count();
        assert!((1..=ENDS_MAX).contains(&closes), "{closes} in a turn");
        ended += closes;
    }
    assert_eq!((ended, lone.core.metrics().unfinished_closes), (CLIENTS, CLIENTS as u64));
}

#[test]
fn rooms_that_have_lingered_are_given_up_a_part_a_turn() {
    const ROOMS: usize = 1_200;
    const ROOMS_MAX: usize = 512;
    let mut lone = LoneCore::new(Config::default());
    let members: Vec<ConnId> = (0..ROOMS).map(|room| lone.member(&format!("room {room}"))).collect();
    lone.turn(|turn| members.iter().for_each(|conn| turn.feed(Event::Closed { conn: *conn })));
    lone.now = lone.now + Config::default().timeouts.room_linger;
    let mut given_up = 0;
    while given_up < ROOMS {
        assert!(lone.core.next_timeout().is_some_and(|timeout| timeout <= lone.now), "the rest is due at once");
        let said = lone.turn(|_| {});
        let rooms = said.iter().filter(|said| matches!(said, Said::Unsubscribe(_))).count();
        assert!((1..=ROOMS_MAX).contains(&rooms), "{rooms} in a turn");
        given_up += rooms;
    }
    assert_eq!(given_up, ROOMS);
}

/// A large room in which much has been said, of which most members have yet to be given their part, and one of these.
fn behind() -> (LoneCore, ConnId) {
    let mut lone = LoneCore::new(Config::default());
    let members: Vec<ConnId> = (0..400).map(|_| lone.member("r")).collect();
    let said = lone.turn(|turn| {
        for _ in 0..100 {
            turn.feed(Event::Broker(BrokerEvent::Message { room: "r", payload: &[b'x'; 20_000] }));
        }
    });
    let waits = |conn: &&ConnId| text_to(&said, **conn).is_empty();
    let conn = *members.iter().find(waits).expect("not all have been given it");
    (lone, conn)
}

#[test]
fn who_subscribes_again_is_not_given_all_that_waits_for_it_at_once() {
    let (mut lone, conn) = behind();
    let said = lone.command(conn, r#"{"type":"SUBSCRIBE","room":"r"}"#);
    let bytes: usize = sent(&said).filter(|(to, _)| *to == conn).map(|(_, bytes)| bytes.len()).sum();
    assert!(text_to(&said, conn).contains("SUBSCRIBED") && bytes <= 64 * 1024, "{bytes} bytes");
}

#[test]
fn who_closes_is_given_nothing_more_of_its_rooms() {
    let (mut lone, conn) = behind();
    let text = text_to(&lone.bytes(conn, Frame::close(1000, "").masked()), conn);
    assert!(!text.is_empty() && !text.contains('x'), "a close frame and nothing else: {} bytes", text.len());
}

#[test]
fn what_is_said_to_who_joins_by_its_url_is_charged() {
    let mut lone = LoneCore::new(config(|config| config.limits.bytes = Rate { per_second: 500, burst: 1_000 }));
    let rooms: Vec<String> = (0..60).map(|room| format!("a-room-with-a-name-{room}")).collect();
    for room in &rooms {
        lone.member(room);
    }
    let query: String = rooms.iter().map(|room| format!("room={room}&")).collect();
    let conn = lone.connect();
    let said = lone.bytes(conn, upgrade_request(&format!("/?{query}"), ""));
    assert!(text_to(&said, conn).contains("SUBSCRIBED"));
    assert_eq!(lone.core.metrics().rate_closes, 1, "more than a kilobyte was said at once");
}
