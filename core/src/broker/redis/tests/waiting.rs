//! Publishes that wait for a connection.

use std::time::Duration;

use super::*;

const WAIT: Duration = Duration::from_secs(20);

fn config() -> RedisConfig {
    RedisConfig { publish_wait: WAIT, publishes_in_flight_max: 4, ..RedisConfig::default() }
}

/// The payloads of what was said, or its first word.
fn said(script: &mut Script) -> Vec<String> {
    let word = |command: Vec<String>| if command[0] == "PUBLISH" { command[2].clone() } else { command[0].clone() };
    script.sent(Role::Publisher).into_iter().map(word).collect()
}

fn publish(script: &mut Script, id: u64) {
    script.session.publish("r", format!("p{id}").as_bytes(), Some(PublishId::new(id)));
}

#[test]
fn what_is_published_without_a_connection_is_sent_with_the_next() {
    let mut script = Script::new(config());
    publish(&mut script, 1);
    script.session.publish("r", b"nobody waits", None);
    script.connect(Role::Publisher);
    publish(&mut script, 3);
    assert_eq!(said(&mut script), ["p1", "nobody waits", "p3"]);
    assert_eq!(script.session.stats().publishes_in_flight, 3);
    script.hear(Role::Publisher, b":1\r\n:1\r\n:1\r\n");
    assert_eq!(script.events(), ["publisher up", "published 1", "published 3"]);
    assert_eq!(script.session.stats().publishes_in_flight, 0);
}

#[test]
fn it_waits_no_longer_than_it_may_and_no_more_of_them_than_may() {
    let mut script = Script::new(config());
    script.open(Role::Publisher);
    (1..=5).for_each(|id| publish(&mut script, id));
    assert_eq!(script.events(), ["not published 5: Busy"]);
    script.session.disconnected(link(Role::Publisher), "refused", script.now);
    script.events();
    while script.session.stats().publishes_in_flight > 0 {
        script.now = script.session.next_timeout().unwrap();
        script.session.timeout(script.now);
        for (role, request) in script.requests() {
            if request != ConnectionRequest::Drop {
                script.session.disconnected(link(role), "refused", script.now);
            }
        }
    }
    assert_eq!(script.now, Time::from_millis(1_000) + WAIT);
    let ends = script.events().into_iter().filter(|event| event.starts_with("not published"));
    assert_eq!(
        ends.collect::<Vec<_>>(),
        (1..=4).map(|id| format!("not published {id}: Unavailable")).collect::<Vec<_>>()
    );
}

#[test]
fn of_a_connection_that_is_lost_only_what_was_not_written_waits() {
    let mut script = Script::up(config());
    publish(&mut script, 1);
    let first = script.session.output(link(Role::Publisher)).len();
    (2..=3).for_each(|id| publish(&mut script, id));
    // The second is written in part.
    script.session.written(link(Role::Publisher), first + 3);
    script.session.disconnected(link(Role::Publisher), "broken", script.now);
    assert_eq!(
        script.events(),
        ["not published 1: Unconfirmed", "not published 2: Unavailable", "publisher down: broken"]
    );
    publish(&mut script, 4);
    script.connect(Role::Publisher);
    assert_eq!(said(&mut script), ["p3", "p4"]);
    script.hear(Role::Publisher, b":1\r\n:1\r\n");
    assert_eq!(script.events(), ["publisher up", "published 3", "published 4"]);
}

#[test]
fn unless_they_may_they_fail_at_once() {
    let mut script = Script::up(RedisConfig::default());
    publish(&mut script, 1);
    script.session.disconnected(link(Role::Publisher), "broken", script.now);
    publish(&mut script, 2);
    assert_eq!(
        script.events(),
        ["not published 1: Unavailable", "publisher down: broken", "not published 2: Unavailable"]
    );
}

#[test]
fn it_waits_no_longer_when_it_waits_again() {
    let mut script = Script::new(config());
    publish(&mut script, 1);
    let made = script.now;
    script.connect(Role::Publisher);
    script.now = made + (WAIT - Duration::from_millis(1));
    script.session.disconnected(link(Role::Publisher), "broken before it was written", script.now);
    script.now = made + WAIT;
    script.session.timeout(script.now);
    assert!(script.events().contains(&"not published 1: Unavailable".to_owned()));
}

#[test]
fn who_is_about_to_end_lets_nothing_wait() {
    let mut script = Script::new(config());
    publish(&mut script, 1);
    script.session.stop_waiting();
    publish(&mut script, 2);
    assert_eq!(script.events(), ["not published 1: Unavailable", "not published 2: Unavailable"]);
}

/// Another instance has given Redis the scripts in between, so that the second store of the room may have been made.
#[test]
fn a_store_that_was_refused_without_the_scripts_is_not_made_after_a_later_one() {
    let mut script = Script::new(RedisConfig { keeps_history: true, ..config() });
    script.connect(Role::Publisher);
    script.hear(Role::Publisher, &[&super::storing::names()[..], MEMORY].concat());
    let retention = crate::history::Retention { messages_max: 9, bytes_max: 900, age_max: Duration::from_secs(9) };
    let store = crate::broker::Store { retention: &retention, key: None, removes: None };
    (1..=2).for_each(|id| script.session.store("r", b"m", &store, 0, Some(PublishId::new(id))));
    said(&mut script);
    script.hear(Role::Publisher, b"-NOSCRIPT No matching script.\r\n");
    publish(&mut script, 3);
    script.events();
    script.session.disconnected(link(Role::Publisher), "broken", script.now);
    let events = script.events();
    assert_eq!(events[..2], ["not published 1: Unavailable", "not published 2: Unconfirmed"]);
    script.connect(Role::Publisher);
    script.hear(Role::Publisher, &[&super::storing::names()[..], MEMORY].concat());
    assert_eq!(said(&mut script), ["p3"]);
}
