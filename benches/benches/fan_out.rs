//! Fan-out through the core alone: one message from the broker to every member, whose sockets only count.
//!
//! `cargo bench -p fanfare-benches --bench fan_out`

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use fanfare_core::broker::BrokerEvent;
use fanfare_core::time::Time;
use fanfare_core::{Action, Config, ConnId, Core, Event, Rate};
use std::hint::black_box;

const UPGRADE: &str = "GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                       Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
/// A message of 64 bytes as another instance publishes it.
const PAYLOAD: &[u8] = b"F1 0000000000000001 -\n\
    {\"type\":\"MESSAGE\",\"room\":\"r\",\"message\":\"0123456789012345678901234567890123456789012345678901234567890123\"}";

/// A core with one room of this many members.
fn room(members: usize) -> Core {
    // All join at once, so each would be metered.
    let none = Rate::NONE;
    let mut core = Core::new(Config { connections_max: members, messages: none, bytes: none, ..Config::default() });
    feed(&mut core, &[BrokerEvent::Up, BrokerEvent::PublisherUp]);
    let subscribe = r#"{"type":"SUBSCRIBE","room":"r"}"#;
    let frame = [&[0x81, 0x80 | subscribe.len() as u8, 0, 0, 0, 0], subscribe.as_bytes()].concat();
    for _ in 0..members {
        let mut turn = core.turn(Time::ZERO);
        let conn = turn.open().expect("there is a place");
        turn.feed(Event::Bytes { conn, data: &mut [UPGRADE.as_bytes(), &frame].concat() });
        count(turn.finish());
    }
    feed(&mut core, &[BrokerEvent::Subscribed { room: "r" }]);
    core
}

fn feed(core: &mut Core, events: &[BrokerEvent<'_>]) -> usize {
    let mut turn = core.turn(Time::ZERO);
    events.iter().for_each(|event| turn.feed(Event::Broker(*event)));
    count(turn.finish())
}

/// Carries the actions out on sockets that take everything and only count.
fn count(mut actions: fanfare_core::Actions<'_>) -> usize {
    let mut written = 0;
    while let Some(action) = actions.next() {
        if let Action::Send(mut delivery) = action {
            let bytes = delivery.bytes().len();
            while let Some(conn) = delivery.next_target() {
                written += bytes + black_box(conn).slot() % 2;
            }
        }
    }
    written
}

/// Fills the queues of every hundredth member, by sockets that take nothing.
fn stall(core: &mut Core) -> Vec<ConnId> {
    let mut turn = core.turn(Time::ZERO);
    turn.feed(Event::Broker(BrokerEvent::Message { room: "r", payload: PAYLOAD }));
    let mut actions = turn.finish();
    let mut stalled = Vec::new();
    while let Some(action) = actions.next() {
        if let Action::Send(mut delivery) = action {
            while let Some(conn) = delivery.next_target() {
                if conn.slot().is_multiple_of(100) {
                    delivery.short(conn, 0);
                    stalled.push(conn);
                }
            }
        }
    }
    stalled
}

fn fan_out(c: &mut Criterion) {
    let mut group = c.benchmark_group("fan_out");
    for members in [10, 100, 1_000, 10_000, 100_000, 1_000_000] {
        group.throughput(Throughput::Elements(members as u64));
        let message = BrokerEvent::Message { room: "r", payload: PAYLOAD };

        let mut core = room(members);
        group.bench_function(BenchmarkId::new("all_keep_up", members), |b| {
            b.iter(|| feed(&mut core, black_box(&[message])));
        });

        if members >= 100 {
            group.bench_function(BenchmarkId::new("one_percent_lags", members), |b| {
                b.iter(|| {
                    let stalled = stall(&mut core);
                    // They catch up, so that no queue grows from iteration to iteration.
                    let mut turn = core.turn(Time::ZERO);
                    stalled.iter().for_each(|conn| turn.feed(Event::Writable { conn: *conn }));
                    count(turn.finish())
                });
            });
        }
    }
    group.finish();
}

criterion_group! {
    name = benches;
    // The largest rooms take long to build and vary little.
    config = Criterion::default().sample_size(20);
    targets = fan_out
}
criterion_main!(benches);
