//! What is kept for slow readers stays within its limits, and whoever is closed for it is told so between two frames.

use fanfare_core::broker::BrokerEvent;
use fanfare_core::{ConnId, Event, Rate};
use fanfare_tests::lone_core::{LoneCore, Said, text_to};
use fanfare_tests::{Frame, config, opcode, upgrade_request};

fn message(lone: &mut LoneCore, bytes: usize) -> Vec<Said> {
    lone.broker(BrokerEvent::Message { room: "r", payload: &vec![b'x'; bytes] })
}

#[test]
fn cutting_the_queues_of_many_who_share_a_frame_frees_memory() {
    let mut lone = LoneCore::new(config(|config| config.limits.outbox_total_bytes_max = 100_000));
    for _ in 0..64 {
        lone.member("r");
    }
    lone.takes = |_, _| 10;
    message(&mut lone, 60_000);
    message(&mut lone, 30_000);
    assert_eq!(lone.core.metrics().slow_closes, 0, "one copy of each is kept, whoever lags");
    message(&mut lone, 30_000);
    let metrics = lone.core.metrics();
    assert!(metrics.slow_closes > 0);
    assert!(metrics.stored_frame_bytes_now <= 100_000, "{} bytes are kept", metrics.stored_frame_bytes_now);
}

#[test]
fn one_who_lags_more_than_others_goes_first() {
    let mut lone = LoneCore::new(config(|config| config.limits.outbox_total_bytes_max = 50_000));
    let conns: Vec<ConnId> = ["r", "r", "s"].into_iter().map(|room| lone.member(room)).collect();
    lone.takes = |conn, bytes| if conn.slot() == 0 { bytes } else { 10 };
    for _ in 0..5 {
        message(&mut lone, 9_000);
    }
    lone.broker(BrokerEvent::Message { room: "s", payload: &[b'y'; 9_000] });
    lone.takes = |_, bytes| bytes;
    let said = lone.turn(|turn| conns.iter().for_each(|conn| turn.feed(Event::Writable { conn: *conn })));
    assert!(text_to(&said, conns[1]).ends_with("too slow"));
    assert!(text_to(&said, conns[2]).ends_with("y\"}"));
    assert_eq!(lone.core.metrics().slow_closes, 1);
}

#[test]
fn a_frame_larger_than_the_limit_is_ended_before_the_close_frame() {
    let mut lone = LoneCore::new(config(|config| config.limits.outbox_bytes_max = 1_000));
    let conn = lone.member("r");
    lone.takes = |_, _| 10;
    message(&mut lone, 5_000);
    lone.takes = |_, bytes| bytes;
    let said = lone.turn(|turn| turn.feed(Event::Writable { conn }));
    assert!(text_to(&said, conn).ends_with("too slow"));
    assert!(!said.contains(&Said::Close(conn)), "the peer has a moment to answer");
}

#[test]
fn whoever_is_closed_in_the_midst_of_a_frame_gets_its_rest_and_no_other() {
    let mut lone = LoneCore::new(config(|config| config.limits.outbox_bytes_max = 1_000));
    let conn = lone.member("r");
    lone.takes = |_, _| 10;
    lone.turn(|turn| {
        for payload in [br#"{"message":"first"}"#.as_slice(), br#"{"message":"second"}"#, &[b'x'; 1_000]] {
            turn.feed(Event::Broker(BrokerEvent::Message { room: "r", payload }));
        }
    });
    lone.takes = |_, bytes| bytes;
    let said = lone.turn(|turn| turn.feed(Event::Writable { conn }));
    let text = text_to(&said, conn);
    assert!(text.contains("first") && text.ends_with("too slow"), "{text}");
    assert!(!text.contains("second") && !text.contains('x'), "{text}");
    assert_eq!(lone.core.metrics().unsent_bytes_now, 0);
}

#[test]
fn small_replies_are_charged_for_what_it_takes_to_keep_them() {
    let config = config(|config| {
        config.limits.outbox_total_bytes_max = 100_000;
        config.limits.pings = Rate::NONE;
    });
    let mut lone = LoneCore::new(config);
    let conn = lone.client();
    lone.takes = |_, _| 0;
    // 2 bytes each on the wire; each turn's own is kept by itself, in an allocation and two entries of together 50 bytes.
    for _ in 0..100_000 / 50 {
        lone.bytes(conn, Frame::new(opcode::PING, "").masked());
    }
    assert_eq!(lone.core.metrics().slow_closes, 1);
}

/// A private part of a long run for each of many, in the midst of whose frames sockets stop: who is not in the midst of one
/// is told why it is closed, and nobody gets anything behind half a frame.
#[test]
fn whoever_goes_within_a_turn_is_told_between_frames_or_not_at_all() {
    let mut lone = LoneCore::new(config(|config| config.limits.outbox_total_bytes_max = 60_000));
    let members: Vec<ConnId> = (0..80).map(|_| lone.member("r")).collect();
    let frame_bytes = message(&mut lone, 1_000).iter().find_map(|said| match said {
        Said::Sent(_, bytes) => Some(bytes.len()),
        _ => None,
    });
    let frame_bytes = frame_bytes.expect("everyone got it");
    assert_eq!(frame_bytes, 1_046, "which the sizes below rely on");
    lone.takes = |conn, bytes| match conn.slot() % 4 {
        0 => bytes,
        1 => 0,
        2 => bytes.min(1_046 + 100),
        _ => bytes.min(2 * 1_046),
    };
    let said = lone.turn(|turn| {
        for conn in &members {
            turn.feed(Event::Broker(BrokerEvent::Message { room: "r", payload: &[b'x'; 1_000] }));
            let unsubscribe = Frame::text(r#"{"type":"UNSUBSCRIBE","room":"r"}"#);
            turn.feed(Event::Bytes { conn: *conn, data: &mut unsubscribe.masked() });
        }
    });
    assert!(lone.core.metrics().slow_closes > 40);
    let ended = |conn: &ConnId| said.contains(&Said::Close(*conn));
    assert!(members.iter().filter(|conn| ended(conn)).all(|conn| conn.slot() % 4 == 2), "only in the midst of a frame");
    assert!(members.iter().filter(|conn| ended(conn)).count() > 10);
    lone.takes = |_, bytes| bytes;
    let said = lone.turn(|turn| members.iter().for_each(|conn| turn.feed(Event::Writable { conn: *conn })));
    assert!(members.iter().filter(|conn| text_to(&said, **conn).ends_with("too slow")).count() > 20);
    assert_eq!(lone.core.metrics().unsent_bytes_now, 0);
}

/// The same of those who have just come, and whose sockets stop in the midst of the response or of a frame behind it.
#[test]
fn who_has_just_come_is_told_behind_the_whole_response_or_not_at_all() {
    const RESPONSE: usize = 129;
    const FRAME: usize = 89;
    let request = || {
        let ping = Frame::text(format!(r#"{{"type":"PING","id":"{}"}}"#, "x".repeat(64))).masked();
        [upgrade_request("/", "").into_bytes(), ping.repeat(3)].concat()
    };
    let mut lone = LoneCore::new(config(|config| config.limits.outbox_total_bytes_max = 10_000));
    let first = lone.connect();
    let said = lone.bytes(first, request());
    let [Said::Sent(_, bytes)] = &said[..] else { panic!("{said:?}") };
    assert_eq!(bytes.len(), RESPONSE + 3 * FRAME, "which the sizes below rely on");
    let conns: Vec<ConnId> = (0..80).map(|_| lone.connect()).collect();
    lone.takes = |conn, _| match conn.slot() % 4 {
        0 => 100,
        1 => RESPONSE,
        2 => RESPONSE + 50,
        _ => RESPONSE + FRAME,
    };
    let said = lone.turn(|turn| {
        for conn in &conns {
            turn.feed(Event::Bytes { conn: *conn, data: &mut request() });
        }
    });
    assert!(lone.core.metrics().slow_closes > 40);
    let ended = |conn: &ConnId| said.contains(&Said::Close(*conn));
    assert!(conns.iter().filter(|conn| ended(conn)).all(|conn| conn.slot() % 2 == 0), "only in the midst");
    assert!(conns.iter().filter(|conn| ended(conn)).count() > 20);
    lone.takes = |_, bytes| bytes;
    let said = lone.turn(|turn| conns.iter().for_each(|conn| turn.feed(Event::Writable { conn: *conn })));
    assert!(conns.iter().filter(|conn| text_to(&said, **conn).ends_with("too slow")).count() > 20);
}
