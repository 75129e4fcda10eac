//! A fence: a sign behind all that was published before.

use super::*;
use crate::broker::{Ask, FenceId};

fn ask(script: &mut Script, number: u64) {
    script.session.ask(Ask::Fence { id: FenceId::new(number) });
}

fn message(text: &str) -> Vec<u8> {
    push(b'>', &["message", "fanfare:r", text])
}

#[test]
fn a_fence_is_told_behind_the_messages_before_it() {
    let mut script = Script::up(RedisConfig::default());
    ask(&mut script, 4);
    assert_eq!(script.sent(Role::Subscriber), [["PING"]]);
    assert!(script.events().is_empty());
    script.hear(Role::Subscriber, &[&message("1")[..], PONG, &message("2")].concat());
    assert_eq!(script.events(), ["message r: 1", "fenced 4", "message r: 2"]);
}

#[test]
fn in_resp2_and_among_subscriptions_it_is_told_from_other_answers() {
    let mut script = Script::up(RedisConfig::default());
    script.session.subscribe("a");
    script.sent(Role::Subscriber);
    ask(&mut script, 1);
    ask(&mut script, 2);
    assert_eq!(script.sent(Role::Subscriber), [["PING"], ["PING"]]);
    script.hear(Role::Subscriber, &confirmation("subscribe", "fanfare:a"));
    script.hear(Role::Subscriber, &push(b'*', &["pong", ""]));
    assert_eq!(script.events(), ["subscribed a", "fenced 1"]);
    script.hear(Role::Subscriber, PONG);
    assert_eq!(script.events(), ["fenced 2"]);
}

#[test]
fn an_error_is_an_answer_and_may_be_trouble() {
    let mut script = Script::up(RedisConfig::default());
    ask(&mut script, 1);
    ask(&mut script, 2);
    script.sent(Role::Subscriber);
    script.hear(Role::Subscriber, b"-NOPERM no PING for you\r\n-BUSY a script runs\r\n");
    let events = script.events();
    assert_eq!(events[..2], ["fenced 1", "fenced 2"]);
    assert!(events[2].starts_with("refusing: "), "{events:?}");
}

#[test]
fn where_there_is_no_connection_it_is_forgotten() {
    let mut script = Script::new(RedisConfig::default());
    ask(&mut script, 1);
    script.connect(Role::Subscriber);
    assert_eq!(script.events(), ["up"]);
    ask(&mut script, 2);
    script.sent(Role::Subscriber);
    script.session.disconnected(link(Role::Subscriber), "gone", script.now);
    assert_eq!(script.events(), ["down: gone"]);
    script.connect(Role::Subscriber);
    assert_eq!(script.events(), ["up"]);
}

#[test]
fn a_fence_is_as_good_as_a_probe() {
    let config = RedisConfig::default();
    let (interval, timeout) = (config.probe_interval, config.probe_timeout);
    let mut script = Script::up(config);
    ask(&mut script, 1);
    assert_eq!(script.sent(Role::Subscriber), [["PING"]]);
    script.wait(interval);
    assert!(script.sent(Role::Subscriber).is_empty());
    script.wait(timeout);
    assert!(script.events()[0].starts_with("down: no answer to PING"));
}
