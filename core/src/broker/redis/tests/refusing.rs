//! A server that refuses for a while, and one that is demoted.

use super::*;

const BUSY: &[u8] = b"-BUSY Redis is busy running a script.\r\n";
const REFUSING: &str =
    "refusing: it runs a script, and does nothing else meanwhile (BUSY Redis is busy running a script.)";
const DEMOTED: &str = "it is a replica, and what is published there reaches no other server";

/// Waits until something is to be said on this connection.
fn next_said(script: &mut Script, role: Role) -> Vec<Vec<String>> {
    loop {
        let said = script.sent(role);
        if !said.is_empty() {
            return said;
        }
        script.now = script.session.next_timeout().unwrap().max(script.now);
        script.session.timeout(script.now);
        // The other one has nothing to complain of.
        let other = if role == Role::Subscriber { Role::Publisher } else { Role::Subscriber };
        for command in script.sent(other) {
            script.hear(other, if command[0] == "ROLE" { MASTER } else { PONG });
        }
    }
}

#[test]
fn what_is_refused_for_a_while_is_asked_again_at_growing_pauses() {
    let mut script = Script::up(RedisConfig::default());
    script.session.subscribe("held");
    script.sent(Role::Subscriber);
    script.hear(Role::Subscriber, &confirmation("subscribe", "fanfare:held"));
    assert_eq!(script.events(), ["subscribed held"]);

    script.session.subscribe("a");
    script.session.subscribe("b");
    script.session.unsubscribe("held");
    assert_eq!(script.sent(Role::Subscriber).len(), 2);
    script.hear(Role::Subscriber, &BUSY.repeat(2));
    assert_eq!(script.events(), [REFUSING]);
    assert_eq!(script.session.stats().subscriber.state, LinkState::Refusing);
    assert!(script.session.stats().trouble().unwrap().contains("BUSY"));
    assert!(script.sent(Role::Subscriber).is_empty(), "not at once");

    let again = [vec!["SUBSCRIBE", "fanfare:a", "fanfare:b"], vec!["UNSUBSCRIBE", "fanfare:held"], vec!["PING"]];
    let (began, mut longest) = (script.now, Duration::ZERO);
    for _ in 0..20 {
        let asked = script.now;
        assert_eq!(next_said(&mut script, Role::Subscriber), again);
        let pause = script.now.since(asked);
        assert!(pause >= Duration::from_millis(50) && pause <= Duration::from_secs(5));
        longest = longest.max(pause);
        script.wait(Duration::from_millis(1));
        assert!(script.sent(Role::Subscriber).is_empty(), "not again before it is answered");
        assert!(script.session.next_timeout().unwrap() > script.now);
        script.hear(Role::Subscriber, &BUSY.repeat(3));
        assert!(script.events().is_empty(), "nothing new, and nobody is refused");
    }
    assert!(longest > Duration::from_secs(2) && script.now.since(began) > Duration::from_secs(15));

    assert_eq!(next_said(&mut script, Role::Subscriber), again);
    for (kind, channel) in [("subscribe", "fanfare:a"), ("subscribe", "fanfare:b"), ("unsubscribe", "fanfare:held")] {
        script.hear(Role::Subscriber, &confirmation(kind, channel));
    }
    assert_eq!(script.events(), ["subscribed a", "subscribed b", "unsubscribed held"]);
    script.hear(Role::Subscriber, PONG);
    assert_eq!(script.events(), ["willing"]);
    assert_eq!(script.session.stats().subscriber.state, LinkState::Up);
}

#[test]
fn trouble_is_over_only_when_nothing_is_refused_any_more() {
    let mut script = Script::up(RedisConfig::default());
    script.session.subscribe("a");
    script.sent(Role::Subscriber);
    script.hear(Role::Subscriber, BUSY);
    assert_eq!(script.events(), [REFUSING]);
    next_said(&mut script, Role::Subscriber);
    script.hear(Role::Subscriber, &[BUSY, PONG].concat());
    assert!(script.events().is_empty());
    // Who comes meanwhile is asked for at once, and granted, and the rest in its time.
    script.session.subscribe("b");
    assert_eq!(script.sent(Role::Subscriber), [["SUBSCRIBE", "fanfare:b"]]);
    script.hear(Role::Subscriber, &confirmation("subscribe", "fanfare:b"));
    assert_eq!(script.events(), ["subscribed b"]);
    assert_eq!(next_said(&mut script, Role::Subscriber), [vec!["SUBSCRIBE", "fanfare:a"], vec!["PING"]]);
    script.hear(Role::Subscriber, &[&confirmation("subscribe", "fanfare:a"), PONG].concat());
    assert_eq!(script.events(), ["subscribed a", "willing"]);
}

#[test]
fn a_publish_that_is_refused_for_a_while_fails_and_the_next_is_tried() {
    let mut script = Script::up(RedisConfig::default());
    for id in 1..=2 {
        script.publish(id);
    }
    script.session.publish("r", b"m", None);
    script.sent(Role::Publisher);
    script.hear(Role::Publisher, &[BUSY, b":1\r\n", BUSY].concat());
    assert_eq!(script.events(), ["not published 1: Unavailable", "published 2", REFUSING]);
    assert_eq!(script.session.stats().publishes_dropped, 1);
    assert_eq!(next_said(&mut script, Role::Publisher), [["ROLE"]]);
    script.hear(Role::Publisher, MASTER);
    assert_eq!(script.events(), ["willing"]);
}

#[test]
fn publishes_that_are_refused_meanwhile_do_not_put_off_when_it_is_asked_again() {
    let mut script = Script::up(RedisConfig::default());
    let began = script.now;
    while script.now.since(began) < Duration::from_secs(1) {
        script.publish(1);
        if script.sent(Role::Publisher).iter().any(|command| command[0] != "PUBLISH") {
            let longest = 2 * RedisConfig::default().backoff_min;
            assert!(script.now.since(began) <= longest + Duration::from_millis(10));
            return;
        }
        script.hear(Role::Publisher, BUSY);
        script.wait(Duration::from_millis(10));
    }
    panic!("it is not asked again");
}

#[test]
fn a_probe_tells_who_refuses_for_a_while_but_not_who_takes_no_writes() {
    for (answer, refuses) in [
        (&b"-BUSY x\r\n"[..], true),
        (b"-LOADING x\r\n", true),
        (b"-MASTERDOWN x\r\n", true),
        (b"-MISCONF x\r\n", false),
        (b"-NOPERM x\r\n", false),
    ] {
        for role in [Role::Subscriber, Role::Publisher] {
            let mut script = Script::up(RedisConfig::default());
            script.wait(Duration::from_secs(5));
            script.sent(role);
            script.hear(role, answer);
            assert_eq!(script.events().first().is_some_and(|event| event.starts_with("refusing: ")), refuses);
        }
    }
}

#[test]
fn a_connection_that_is_lost_takes_its_trouble_along() {
    let mut script = Script::up(RedisConfig::default());
    script.session.subscribe("a");
    script.sent(Role::Subscriber);
    script.hear(Role::Subscriber, BUSY);
    script.session.disconnected(link(Role::Subscriber), "reset", script.now);
    assert_eq!(script.events(), [REFUSING, "down: reset", "willing"]);
    script.connect(Role::Subscriber);
    assert!(script.sent(Role::Subscriber).is_empty());
}

#[test]
fn a_master_that_is_demoted_is_given_up_however_busy_it_is() {
    let mut script = Script::up(RedisConfig::default());
    for id in 1..=5 {
        script.wait(Duration::from_secs(1));
        script.publish(id);
        let said = script.sent(Role::Publisher);
        script.sent(Role::Subscriber);
        script.hear(Role::Subscriber, &push(b'>', &["message", "fanfare:r", "m"]));
        if said.last().unwrap()[0] == "ROLE" || said[0][0] == "ROLE" {
            script.hear(Role::Publisher, REPLICA);
            assert_eq!(script.sent(Role::Publisher), [["INFO", "cluster"]]);
            script.hear(Role::Publisher, b":1\r\n");
            script.hear(Role::Publisher, b"$18\r\ncluster_enabled:0\n\r\n");
            break;
        }
        script.hear(Role::Publisher, b":1\r\n");
    }
    let events = script.events();
    let of_both = [format!("down: {DEMOTED}"), format!("publisher down: {DEMOTED}")];
    assert!(events.ends_with(&of_both), "{events:?}");
    let both = [Role::Subscriber, Role::Publisher];
    assert_eq!(script.requests(), both.map(|role| (role, ConnectionRequest::Drop)));
}

#[test]
fn read_only_and_signed_out_end_a_connection_wherever_they_are_said() {
    for (error, reason, both) in [
        ("READONLY You can't write", DEMOTED, true),
        ("NOAUTH who", "it wants a password, and none is given (NOAUTH who)", false),
    ] {
        let mut script = Script::up(RedisConfig::default());
        script.publish(1);
        script.sent(Role::Publisher);
        script.hear(Role::Publisher, format!("-{error}\r\n").as_bytes());
        let events = script.events();
        assert_eq!(events[0], "not published 1: Unavailable");
        assert_eq!(events.contains(&format!("down: {reason}")), both);
        assert!(events.contains(&format!("publisher down: {reason}")));

        let mut script = Script::up(RedisConfig::default());
        script.session.subscribe("a");
        script.sent(Role::Subscriber);
        script.hear(Role::Subscriber, format!("-{error}\r\n").as_bytes());
        assert_eq!(script.events()[0], format!("down: {reason}"));
    }
}
