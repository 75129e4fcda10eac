//! What becomes of a publish.

use super::*;

#[test]
fn publishes_are_pipelined_and_answered_in_order() {
    let mut script = Script::up(RedisConfig::default());
    for id in 1..=3 {
        script.publish(id);
    }
    script.session.publish("r", b"no id", None);
    assert_eq!(script.sent(Role::Publisher)[3], ["PUBLISH", "fanfare:r", "no id"]);
    assert_eq!(script.session.stats().publishes_in_flight, 4);
    script.hear(Role::Publisher, b":1\r\n-ERR not allowed\r\n:0\r\n-NOPERM no\r\n");
    assert_eq!(script.events(), ["published 1", "not published 2: Refused", "published 3"]);
    assert_eq!(script.session.stats().publishes_in_flight, 0);
    assert_eq!(script.session.stats().publishes_dropped, 1);
}

#[test]
fn without_a_connection_a_publish_fails_at_once() {
    let mut script = Script::new(RedisConfig::default());
    script.publish(1);
    script.session.publish("r", b"m", None);
    assert!(script.session.has_events());
    assert_eq!(script.events(), ["not published 1: Unavailable"]);
    assert_eq!(script.session.stats().publishes_dropped, 1);
    assert!(script.session.output(link(Role::Publisher)).is_empty());
}

#[test]
fn a_lost_connection_tells_what_was_surely_not_sent_from_what_may_have_been() {
    let mut script = Script::up(RedisConfig::default());
    for id in 1..=4 {
        script.publish(id);
    }
    let one = script.session.output(link(Role::Publisher)).len() / 4;
    script.session.written(link(Role::Publisher), 3 * one - 1);
    script.hear(Role::Publisher, b":1\r\n");
    script.session.disconnected(link(Role::Publisher), "reset", script.now);
    assert_eq!(
        script.events(),
        [
            "published 1",
            "not published 2: Unconfirmed",
            "not published 3: Unavailable",
            "not published 4: Unavailable",
            "publisher down: reset"
        ]
    );
    // Nothing of it reaches the next connection.
    script.connect(Role::Publisher);
    assert!(script.sent(Role::Publisher).is_empty());
    assert_eq!(script.events(), ["publisher up"]);
}

#[test]
fn publishes_in_flight_are_bounded_in_number() {
    let mut script = Script::up(RedisConfig { publishes_in_flight_max: 2, ..RedisConfig::default() });
    for id in 1..=3 {
        script.publish(id);
    }
    script.session.publish("r", b"m", None);
    assert_eq!(script.sent(Role::Publisher).len(), 2);
    assert_eq!(script.events(), ["not published 3: Busy"]);
    assert_eq!(script.session.stats().publishes_dropped, 1);
    script.hear(Role::Publisher, b":1\r\n");
    script.publish(4);
    script.sent(Role::Publisher);
    script.hear(Role::Publisher, b":1\r\n:1\r\n");
    assert_eq!(script.events(), ["published 1", "published 2", "published 4"]);
}

/// A Redis that answers ahead and reads nothing does not make room for more and more.
#[test]
fn an_answer_to_what_was_not_sent_ends_the_connection() {
    for (answer, reason) in [
        (&b":1\r\n"[..], "a reply came to a command that was not sent yet"),
        (b"-ERR you are leaving\r\n", "ERR you are leaving"),
    ] {
        let mut script = Script::up(RedisConfig::default());
        script.publish(1);
        script.hear(Role::Publisher, answer);
        assert_eq!(script.events(), ["not published 1: Unavailable".to_owned(), format!("publisher down: {reason}")]);
    }
}

#[test]
fn publishes_in_flight_are_bounded_in_bytes_until_answered() {
    let client_name = "long".repeat(100);
    let mut script = Script::up(RedisConfig { buffer_bytes_max: 1_000, client_name, ..RedisConfig::default() });
    let payload = [b'x'; 400];
    for id in 1..=3 {
        script.session.publish("r", &payload, Some(PublishId::new(id)));
    }
    assert_eq!(script.events(), ["not published 3: Busy"]);
    // Written is not answered.
    assert_eq!(script.sent(Role::Publisher).len(), 2);
    script.session.publish("r", &payload, Some(PublishId::new(4)));
    assert_eq!(script.events(), ["not published 4: Busy"]);
    script.hear(Role::Publisher, b":0\r\n");
    script.session.publish("r", &payload, Some(PublishId::new(5)));
    assert_eq!(script.events(), ["published 1"]);
    script.sent(Role::Publisher);
    script.hear(Role::Publisher, b":0\r\n:0\r\n");
    assert_eq!(script.events(), ["published 2", "published 5"]);
    // The set-up of the next connection counts for nothing.
    script.session.disconnected(link(Role::Publisher), "reset", script.now);
    script.connect(Role::Publisher);
    script.session.publish("r", &payload, Some(PublishId::new(6)));
    script.session.publish("r", &payload, Some(PublishId::new(7)));
    script.sent(Role::Publisher);
    script.hear(Role::Publisher, b":0\r\n:0\r\n");
    assert_eq!(script.events()[1..], ["publisher up", "published 6", "published 7"]);
}

#[test]
fn events_that_waited_come_before_those_of_new_input() {
    let mut script = Script::up(RedisConfig { publishes_in_flight_max: 1, ..RedisConfig::default() });
    script.publish(1);
    script.publish(2);
    script.sent(Role::Publisher);
    script.hear(Role::Publisher, b":1\r\n");
    assert_eq!(script.events, ["not published 2: Busy", "published 1"]);
    assert!(!script.session.has_events());
}

#[test]
fn a_backlog_leaves_whole_however_little_the_kernel_takes() {
    let mut script = Script::up(RedisConfig::default());
    let mut taken = Vec::new();
    for id in 0..2_000_u32 {
        script.session.publish("r", id.to_string().repeat(100).as_bytes(), None);
        let output = script.session.output(link(Role::Publisher));
        let len = output.len().min(200);
        taken.extend_from_slice(&output[..len]);
        script.session.written(link(Role::Publisher), len);
    }
    while !script.session.output(link(Role::Publisher)).is_empty() {
        let output = script.session.output(link(Role::Publisher));
        let len = output.len().min(30_001);
        taken.extend_from_slice(&output[..len]);
        script.session.written(link(Role::Publisher), len);
    }
    let commands = commands(&taken);
    assert_eq!(commands.len(), 2_000);
    for (id, command) in commands.iter().enumerate() {
        assert_eq!(command[2], id.to_string().repeat(100));
    }
}

#[test]
fn a_probe_among_publishes_keeps_its_place() {
    let mut script = Script::up(RedisConfig::default());
    script.publish(1);
    script.wait(Duration::from_secs(5));
    script.publish(2);
    assert_eq!(script.sent(Role::Publisher)[1], ["ROLE"]);
    script.hear(Role::Publisher, b":1\r\n-NOPERM no right to ROLE\r\n:1\r\n");
    assert_eq!(script.events(), ["published 1", "published 2"]);
    // What it has no right to is not asked for again.
    script.wait(Duration::from_secs(5));
    assert_eq!(script.sent(Role::Publisher), [["PING"]]);
}

#[test]
fn an_answer_that_is_none_ends_the_connection() {
    let mut script = Script::up(RedisConfig::default());
    script.publish(1);
    script.publish(2);
    script.sent(Role::Publisher);
    script.hear(Role::Publisher, b"+QUEUED\r\n:1\r\n");
    assert_eq!(
        script.events(),
        [
            "not published 1: Unconfirmed",
            "not published 2: Unconfirmed",
            "publisher down: PUBLISH was answered with something else than a number"
        ]
    );
}

#[test]
fn warm_buffers_are_kept_while_busy_and_given_back_when_quiet() {
    let mut script = Script::up(RedisConfig::default());
    let capacity = |script: &mut Script| script.session.session().publisher_capacity();
    for _ in 0..4_000 {
        script.session.publish("r", &[b'x'; 1_000], None);
    }
    script.sent(Role::Publisher);
    script.hear(Role::Publisher, &b":0\r\n".repeat(4_000));
    let after_burst = capacity(&mut script);
    assert!(after_burst >= 4_000_000);
    for _ in 0..100 {
        script.session.publish("r", &[b'x'; 1_000], None);
        script.sent(Role::Publisher);
        script.hear(Role::Publisher, b":0\r\n");
    }
    assert_eq!(capacity(&mut script), after_burst, "a burst may come again");
    for _ in 0..4_000 {
        script.session.publish("r", &[b'x'; 1_000], None);
        script.sent(Role::Publisher);
        script.hear(Role::Publisher, b":0\r\n");
    }
    assert!(capacity(&mut script) <= 128 * 1024, "a steady load needs less");
}
