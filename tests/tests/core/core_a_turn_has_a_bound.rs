//! However many sockets become writable at once, and however many deadlines come together, a turn does a bounded part of the work, and
//! the next turns the rest at once.

use fanfare_core::broker::BrokerEvent;
use fanfare_core::{Config, ConnId, Event};
use fanfare_tests::lone_core::{LoneCore, Said, text_to};
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
    lone.now = lone.now + Config::default().ping_interval + Duration::from_millis(40);
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
