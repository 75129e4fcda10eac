//! What an adapter may do without thinking: no byte is lost or sent twice, and nothing panics.

use fanfare_core::{Action, Config, Event};
use fanfare_tests::lone_core::{LoneCore, Said, text_to};
use fanfare_tests::{Frame, config, upgrade_request};
use std::time::Duration;

#[test]
fn a_write_reported_as_short_that_was_whole_leaves_nothing_queued() {
    let mut lone = LoneCore::new(Config::default());
    let conn = lone.client();
    for takes in [|_, bytes| bytes, |_, bytes| bytes + 1] {
        lone.takes = |_, _| 5;
        lone.command(conn, r#"{"type":"PING","id":1}"#);
        // Both ways of saying it: of a queue, and of what is new.
        lone.reports_all = true;
        lone.takes = takes;
        let said = lone.turn(|turn| turn.feed(Event::Writable { conn }));
        assert!(text_to(&said, conn).ends_with(r#"pe":"PONG","id":1}"#));
        for id in [2, 3] {
            let said = lone.command(conn, &format!(r#"{{"type":"PING","id":{id}}}"#));
            assert!(text_to(&said, conn).ends_with(&format!(r#"{{"type":"PONG","id":{id}}}"#)));
        }
        assert_eq!(lone.core.metrics().unsent_bytes_now, 0);
    }
}

#[test]
fn actions_dropped_before_their_end_come_with_the_next_turn() {
    let mut lone = LoneCore::new(Config::default());
    let conn = lone.client();
    let mut turn = lone.core.turn(lone.now);
    turn.feed(Event::Bytes { conn, data: &mut Frame::text(r#"{"type":"SUBSCRIBE","room":"r"}"#).masked() });
    turn.feed(Event::Bytes { conn, data: &mut Frame::close(1000, "").masked() });
    drop(turn.finish());
    assert_eq!(lone.turn(|_| {}), [Said::Subscribe("r".into())], "it has been told of no Writable");
    let mut turn = lone.core.turn(lone.now);
    turn.feed(Event::Writable { conn });
    let mut actions = turn.finish();
    let Some(Action::Send(mut delivery)) = actions.next() else { panic!("what was not written") };
    assert_eq!(delivery.next_target(), Some(conn));
    drop(delivery);
    drop(actions);
    assert_eq!(lone.turn(|_| {}), [Said::Close(conn)]);
}

#[test]
fn empty_reads_change_nothing() {
    let mut lone = LoneCore::new(Config::default());
    let conn = lone.connect();
    lone.bytes(conn, "");
    let said = lone.bytes(conn, "\x16\x03\x01");
    assert!(text_to(&said, conn).starts_with("HTTP/1.1 400 "), "what cannot become HTTP is refused at its first byte");

    let conn = lone.client();
    for _ in 0..3 {
        lone.wait(Duration::from_secs(20));
        lone.bytes(conn, "");
    }
    assert_eq!(lone.core.metrics().heartbeat_closes, 1, "they are no sign of life");
}

#[test]
fn a_limit_may_be_as_large_as_a_number() {
    let config = config(|config| {
        config.admission.connections_max = usize::MAX;
        config.admission.surplus_connections_max = usize::MAX;
        config.limits.outbox_bytes_max = usize::MAX;
        config.limits.outbox_total_bytes_max = usize::MAX;
        config.limits.request_head_bytes_max = usize::MAX;
        config.limits.message_bytes_max = usize::MAX;
        config.limits.room_name_bytes_max = usize::MAX;
        config.timeouts.room_linger = Duration::MAX;
        config.timeouts.ping_interval = Duration::MAX;
        config.timeouts.close = Duration::MAX;
    });
    let mut lone = LoneCore::new(config);
    let conn = lone.connect();
    for byte in upgrade_request("/", "").bytes() {
        lone.bytes(conn, [byte]);
    }
    let conn = lone.member("r");
    lone.takes = |_, _| 1;
    lone.command(conn, r#"{"type":"UNSUBSCRIBE","room":"r"}"#);
    lone.turn(|turn| turn.feed(Event::Shutdown));
    lone.wait(Duration::from_secs(1_000_000));
    assert!(lone.core.connections() > 0);
}
