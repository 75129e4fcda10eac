//! A room that has lost its last member keeps its subscription for a while, so that whoever comes back misses nothing; then it is given
//! up, at that time and once.

use fanfare_core::{ConnId, Event};
use fanfare_tests::config;
use fanfare_tests::lone_core::{LoneCore, Said, text_to};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);
const LINGER: Duration = Duration::from_secs(10);
const MOMENT: Duration = Duration::from_micros(1);

fn lone(linger: Duration) -> LoneCore {
    LoneCore::new(config(|config| {
        config.timeouts.room_linger = linger;
        config.timeouts.ping_interval = 1_000 * LINGER;
    }))
}

fn leave(lone: &mut LoneCore, conn: ConnId) {
    let said = lone.turn(|turn| turn.feed(Event::Closed { conn }));
    assert!(!said.contains(&given_up()), "it lingers");
}

fn given_up() -> Said {
    Said::Unsubscribe("r".to_owned())
}

/// Joins, and is told so at once, because the subscription is still there.
fn come_back(lone: &mut LoneCore) -> ConnId {
    let conn = lone.client();
    let said = lone.command(conn, r#"{"type":"SUBSCRIBE","room":"r"}"#);
    assert!(text_to(&said, conn).contains("SUBSCRIBED") && !said.contains(&Said::Subscribe("r".to_owned())));
    conn
}

#[test]
fn for_its_time_and_no_longer() {
    let mut lone = lone(LINGER);
    let conn = lone.member("r");
    leave(&mut lone, conn);
    assert_eq!(lone.core.next_timeout(), Some(lone.now + LINGER));
    assert_eq!(lone.wait(LINGER - MOMENT), []);
    assert_eq!(lone.wait(MOMENT), [given_up()]);
    assert_eq!(lone.wait(LINGER), []);
}

#[test]
fn anew_when_it_had_a_member_meanwhile() {
    let mut lone = lone(LINGER);
    let conn = lone.member("r");
    leave(&mut lone, conn);
    lone.wait(LINGER - SECOND);
    let conn = come_back(&mut lone);
    lone.wait(SECOND / 2);
    leave(&mut lone, conn);
    // The first deadline, and almost the second.
    assert_eq!(lone.wait(SECOND / 2), []);
    assert_eq!(lone.wait(LINGER - SECOND / 2 - MOMENT), []);
    assert_eq!(lone.wait(MOMENT), [given_up()]);
    assert_eq!(lone.core.next_timeout(), None);
}

#[test]
fn not_while_it_has_a_member() {
    let mut lone = lone(LINGER);
    let conn = lone.member("r");
    leave(&mut lone, conn);
    lone.wait(SECOND);
    let conn = come_back(&mut lone);
    assert_eq!(lone.wait(2 * LINGER), []);
    leave(&mut lone, conn);
    assert_eq!(lone.wait(LINGER - MOMENT), []);
    assert_eq!(lone.wait(MOMENT), [given_up()]);
}

#[test]
fn for_no_time_where_that_is_configured() {
    let mut lone = lone(Duration::ZERO);
    let conn = lone.member("r");
    // The room's end is due in the same turn, or the next at the same time.
    let mut said = lone.turn(|turn| turn.feed(Event::Closed { conn }));
    said.extend(lone.turn(|_| {}));
    assert_eq!(said.iter().filter(|said| **said == given_up()).count(), 1, "{said:?}");
}
