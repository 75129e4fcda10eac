//! However many members get each their own part of what a room received in one turn, its memory is that of the messages, not
//! of all that is sent: 250 MB here.

use fanfare_core::broker::BrokerEvent;
use fanfare_core::{Config, ConnId, Event, Turn};
use fanfare_tests::lone_core::{Does, LoneCore, Said, carry_out, take_all};
use fanfare_tests::{Frame, config, upgrade_request};

const MEMBERS: usize = 1_000;
/// What the process may have held at its highest, in KiB: far above what it needs, far below a copy for each member.
const HIGHEST_KIB_MAX: u64 = 64 * 1024;

fn highest_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux tells");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("a line of it");
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number of KiB")
}

/// Feeds a turn, and has more until everything is said; what is sent is counted, and not kept.
fn bytes_sent(lone: &mut LoneCore, feed: impl FnOnce(&mut Turn<'_>)) -> usize {
    let mut bytes = bytes_sent_in_a_turn(lone, feed);
    while lone.core.next_timeout().is_some_and(|next| next <= lone.now) {
        bytes += bytes_sent_in_a_turn(lone, |turn| turn.feed(Event::Timeout));
    }
    bytes
}

fn bytes_sent_in_a_turn(lone: &mut LoneCore, feed: impl FnOnce(&mut Turn<'_>)) -> usize {
    let mut turn = lone.core.turn(lone.now);
    feed(&mut turn);
    let mut sent = 0;
    carry_out(turn, take_all, |does| {
        if let Does::Send(_, bytes) = does {
            sent += bytes.len();
        }
    });
    sent
}

/// A room whose members have each sent one message that shall not come back to them; and what the broker makes of them.
fn room() -> (LoneCore, Vec<ConnId>, Vec<Vec<u8>>) {
    room_of(Config::default())
}

fn room_of(mut config: Config) -> (LoneCore, Vec<ConnId>, Vec<Vec<u8>>) {
    config.limits.members_per_turn_max = usize::MAX;
    let mut lone = LoneCore::new(config);
    let members: Vec<ConnId> = (0..MEMBERS).map(|_| lone.member("r")).collect();
    let text = "x".repeat(200);
    let command = format!(r#"{{"type":"SEND_MESSAGE","room":"r","message":"{text}","echo":false}}"#);
    let said = members.iter().flat_map(|conn| lone.command(*conn, &command)).collect::<Vec<_>>();
    let payloads = said.into_iter().map(|said| match said {
        Said::Publish(_, payload, _) => payload,
        other => panic!("{other:?}"),
    });
    let payloads = payloads.collect();
    (lone, members, payloads)
}

fn feed_all(turn: &mut Turn<'_>, payloads: &[Vec<u8>]) {
    for payload in payloads {
        turn.feed(Event::Broker(BrokerEvent::Message { room: "r", payload }));
    }
}

#[test]
fn everyone_is_spared_its_own_message() {
    let (mut lone, _, payloads) = room();
    let bytes = bytes_sent(&mut lone, |turn| feed_all(turn, &payloads));
    assert!(bytes > 200 * MEMBERS * (MEMBERS - 1));
    assert!(highest_kib() < HIGHEST_KIB_MAX, "{} KiB", highest_kib());
}

#[test]
fn everyone_leaves_behind_the_messages() {
    let (mut lone, _, payloads) = room();
    let bytes = bytes_sent(&mut lone, |turn| {
        feed_all(turn, &payloads);
        turn.feed(Event::Shutdown);
    });
    assert!(bytes > 200 * MEMBERS * (MEMBERS - 1));
    assert!(highest_kib() < HIGHEST_KIB_MAX, "{} KiB", highest_kib());
}

#[test]
fn many_join_before_the_messages() {
    let (mut lone, _, payloads) = room();
    let bytes = bytes_sent(&mut lone, |turn| {
        feed_all(turn, &payloads[..1]);
        for _ in 0..MEMBERS {
            let conn = turn.open().expect("there is a place");
            let subscribe = Frame::text(r#"{"type":"SUBSCRIBE","room":"r"}"#).masked();
            let mut data = [upgrade_request("/", "").into_bytes(), subscribe].concat();
            turn.feed(Event::Bytes { conn, data: &mut data });
        }
        feed_all(turn, &payloads[1..]);
    });
    assert!(bytes > 2 * 200 * MEMBERS * (MEMBERS - 2));
    assert!(highest_kib() < HIGHEST_KIB_MAX, "{} KiB", highest_kib());
}

#[test]
fn nobody_takes_anything() {
    let config = config(|config| config.limits.outbox_total_bytes_max = 8 << 20);
    let (mut lone, members, payloads) = room_of(config);
    lone.takes = |_, bytes| bytes.min(100);
    lone.turn(|turn| feed_all(turn, &payloads));
    assert!(highest_kib() < HIGHEST_KIB_MAX, "{} KiB", highest_kib());
    let metrics = lone.core.metrics();
    assert!(metrics.slow_closes > MEMBERS as u64 / 2, "{} of {}", metrics.slow_closes, members.len());
    assert!(metrics.stored_frame_bytes_now <= 8 << 20);
}
