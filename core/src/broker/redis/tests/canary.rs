//! What is published has to be heard.

use super::*;

/// The canary's channel.
const CHANNEL: &str = "fanfare:\u{1}canary:fanfare:0000000000000000";
const SILENCE: &str = "what is published is not heard within 5000 ms: the connections that publish and subscribe may lead to \
                       different servers";
const INTERVAL: Duration = Duration::from_millis(4_500);

impl Script {
    /// Both connections are up, and the first number is published, and answered.
    fn with_canary() -> Script {
        let mut script = Script::new(RedisConfig::default());
        script.set_up(Role::Subscriber);
        script.set_up(Role::Publisher);
        assert_eq!(script.events(), ["up", "publisher up"]);
        assert_eq!(script.sent(Role::Subscriber), [["SUBSCRIBE", CHANNEL]]);
        script.hear(Role::Subscriber, &confirmation("subscribe", CHANNEL));
        script.publishes(1);
        script.hear(Role::Publisher, b":1\r\n");
        script
    }

    /// It is time for this number.
    fn publishes(&mut self, number: u64) {
        self.wait(Duration::ZERO);
        assert_eq!(self.sent(Role::Publisher), [["PUBLISH", CHANNEL, &number.to_string()]]);
    }

    fn hears_number(&mut self, number: u64) {
        self.hear(Role::Subscriber, &push(b'>', &["message", CHANNEL, &number.to_string()]));
    }

    /// The publisher is asked for its role, and answers.
    fn tells_role(&mut self) {
        assert_eq!(self.sent(Role::Publisher), [["ROLE"]]);
        self.hear(Role::Publisher, MASTER);
    }
}

#[test]
fn an_idle_session_says_no_more_than_two_commands_in_an_interval() {
    let mut script = Script::with_canary();
    script.hears_number(1);
    let (mut said, began) = (Vec::new(), script.now);
    let mut number: u64 = 1;
    while script.now.since(began) < Duration::from_secs(45) {
        script.now = script.session.next_timeout().unwrap();
        script.wait(Duration::ZERO);
        assert!(script.sent(Role::Subscriber).is_empty(), "it hears something");
        for command in script.sent(Role::Publisher) {
            said.push(command[0].clone());
            script.wait(Duration::from_millis(40));
            if command[0] == "ROLE" {
                script.hear(Role::Publisher, MASTER);
            } else {
                number += 1;
                // In either order.
                let early = number.is_multiple_of(2);
                early.then(|| script.hears_number(number));
                script.hear(Role::Publisher, b":1\r\n");
                (!early).then(|| script.hears_number(number));
            }
        }
    }
    let count = |name: &str| said.iter().filter(|said| *said == name).count();
    assert_eq!((count("PUBLISH"), count("ROLE")), (10, 9));
    assert!(script.events().is_empty(), "no message of a room");
    let stats = script.session.stats();
    assert_eq!((stats.ignored, stats.publishes_in_flight, stats.publishes_dropped), (0, 0, 0));
}

#[test]
fn a_number_that_is_not_heard_ends_the_subscriber_once_it_has_answered_behind() {
    let mut script = Script::with_canary();
    script.wait(Duration::from_millis(4_999));
    assert!(script.sent(Role::Subscriber).is_empty());
    script.wait(Duration::from_millis(1));
    // One for its silence, and one for the number.
    assert_eq!(script.sent(Role::Subscriber), [["PING"], ["PING"]]);
    script.tells_role();
    script.hear(Role::Subscriber, PONG);
    assert!(script.events().is_empty(), "this one was asked for before");
    script.hear(Role::Subscriber, PONG);
    assert_eq!(script.events(), [format!("down: {SILENCE}")]);
    assert_eq!(script.requests()[0], (Role::Subscriber, ConnectionRequest::Drop));
    assert_eq!(script.session.stats().publisher.state, LinkState::Up);
}

#[test]
fn a_number_that_was_left_unread_is_heard_in_front_of_the_answer() {
    let mut script = Script::with_canary();
    // The driver is congested.
    script.wait(Duration::from_secs(60));
    assert_eq!(script.sent(Role::Subscriber), [["PING"], ["PING"]]);
    script.tells_role();
    script.hear(Role::Subscriber, &push(b'>', &["message", "fanfare:r", "m"]));
    script.hears_number(1);
    script.hear(Role::Subscriber, &[PONG, PONG].concat());
    assert_eq!(script.events(), ["message r: m"]);
    script.publishes(2);
}

#[test]
fn where_a_new_subscriber_hears_nothing_either_the_publisher_goes_as_well() {
    let mut script = Script::with_canary();
    let mut number = 1;
    for end in [1, 2] {
        script.wait(Duration::from_secs(5));
        script.sent(Role::Subscriber);
        script.tells_role();
        script.hear(Role::Subscriber, &[PONG, PONG].concat());
        let down = [format!("down: {SILENCE}"), format!("publisher down: {SILENCE}")];
        assert_eq!(script.events(), down[..end]);
        if end == 1 {
            script.set_up(Role::Subscriber);
            assert_eq!(script.sent(Role::Subscriber), [["SUBSCRIBE", CHANNEL]]);
            script.hear(Role::Subscriber, &confirmation("subscribe", CHANNEL));
            assert_eq!(script.events(), ["up"]);
            number += 1;
            script.publishes(number);
            script.hear(Role::Publisher, b":0\r\n");
        }
    }
    // What is heard in between makes the next one the first again.
    script.set_up(Role::Subscriber);
    script.sent(Role::Subscriber);
    script.hear(Role::Subscriber, &confirmation("subscribe", CHANNEL));
    script.set_up(Role::Publisher);
    script.events();
    for heard in [true, false] {
        number += 1;
        script.publishes(number);
        script.hear(Role::Publisher, b":1\r\n");
        if heard {
            script.hears_number(number);
            script.wait(INTERVAL - Duration::from_millis(1));
            script.wait(Duration::from_millis(1));
        }
    }
    script.wait(Duration::from_secs(5));
    let asked = script.sent(Role::Subscriber);
    script.hear(Role::Subscriber, &PONG.repeat(asked.len()));
    assert_eq!(script.events(), [format!("down: {SILENCE}")]);
}

#[test]
fn only_the_last_number_on_its_own_channel_is_heard() {
    let mut script = Script::with_canary();
    script.hears_number(2);
    script.hears_number(0);
    for (channel, payload) in
        [("fanfare:\u{1}canary:fanfare:0000000000000001", "1"), (CHANNEL, ""), (CHANNEL, "x"), ("fanfare:", "1")]
    {
        script.hear(Role::Subscriber, &push(b'>', &["message", channel, payload]));
    }
    assert_eq!(script.events(), ["message : 1"]);
    script.wait(Duration::from_secs(5));
    let asked = script.sent(Role::Subscriber);
    script.hear(Role::Subscriber, &PONG.repeat(asked.len()));
    assert_eq!(script.events(), [format!("down: {SILENCE}")]);
}

#[test]
fn a_number_without_an_answer_is_no_cause() {
    let mut script = Script::new(RedisConfig::default());
    script.set_up(Role::Subscriber);
    script.set_up(Role::Publisher);
    script.sent(Role::Subscriber);
    script.hear(Role::Subscriber, &confirmation("subscribe", CHANNEL));
    script.publishes(1);
    script.events();
    // The publisher's link is the one that has to be given up.
    script.wait(Duration::from_secs(5));
    assert_eq!(script.sent(Role::Subscriber), [["PING"]]);
    script.hear(Role::Subscriber, PONG);
    script.wait(Duration::from_secs(5));
    assert_eq!(script.events(), ["publisher down: no answer to PING within 5000 ms"]);
    script.set_up(Role::Publisher);
    script.publishes(2);
}

#[test]
fn a_refused_channel_is_told_once_and_disturbs_nothing() {
    let mut script = Script::new(RedisConfig::default());
    for told in [Some("its ACL does not allow that to this user (NOPERM no)".to_owned()), None] {
        script.set_up(Role::Subscriber);
        script.session.subscribe("a");
        let asked = [["SUBSCRIBE", CHANNEL], ["SUBSCRIBE", "fanfare:a"]];
        assert_eq!(script.sent(Role::Subscriber), asked, "it shares no command with a room");
        script.hear(Role::Subscriber, b"-NOPERM no\r\n");
        script.hear(Role::Subscriber, &confirmation("subscribe", "fanfare:a"));
        assert_eq!(script.events(), ["up", "subscribed a"]);
        assert_eq!(script.session.take_canary_refusal(), told);
        assert_eq!(script.session.take_complaint(), None);
        script.session.disconnected(link(Role::Subscriber), "gone", script.now);
        script.events();
    }
    script.connect(Role::Subscriber);
    script.connect(Role::Publisher);
    script.wait(Duration::from_secs(5));
    assert_eq!(script.sent(Role::Publisher), [["ROLE"]], "nothing is published to it");
    assert_eq!(script.sent(Role::Subscriber), [["PING"]]);
}

#[test]
fn a_publish_that_is_refused_for_good_is_the_last_one_of_its_connection() {
    let mut script = Script::with_canary();
    script.hears_number(1);
    script.wait(INTERVAL);
    script.publishes(2);
    script.hear(Role::Publisher, b"-NOPERM no\r\n");
    assert!(script.session.take_canary_refusal().is_some_and(|reason| reason.contains("NOPERM")));
    script.wait(Duration::from_secs(5));
    script.tells_role();
    script.hear(Role::Subscriber, PONG);
    assert!(script.events().is_empty());
    script.session.disconnected(link(Role::Publisher), "gone", script.now);
    script.set_up(Role::Publisher);
    script.publishes(3);
}

#[test]
fn an_answer_that_is_no_number_ends_the_canary_and_nothing_else() {
    let mut script = Script::with_canary();
    script.hears_number(1);
    script.wait(INTERVAL);
    script.publishes(2);
    script.hear(Role::Publisher, b"+OK\r\n");
    assert!(script.events().is_empty());
    assert!(script.session.take_canary_refusal().is_some_and(|reason| reason.contains("than a number")));
    script.wait(INTERVAL);
    script.tells_role();
}

#[test]
fn while_redis_refuses_for_a_while_nothing_is_judged() {
    for (answer, events) in [
        (&b"-BUSY x\r\n"[..], &["refusing: it runs a script, and does nothing else meanwhile (BUSY x)"][..]),
        (b"-MISCONF x\r\n", &[]),
        (b"-OOM x\r\n", &[]),
    ] {
        let mut script = Script::with_canary();
        script.hears_number(1);
        script.wait(INTERVAL);
        script.publishes(2);
        script.hear(Role::Publisher, answer);
        assert_eq!(script.events(), events);
        // The subscriber is asked, and answers, and is kept.
        script.wait(Duration::from_secs(5));
        script.sent(Role::Subscriber);
        script.hear(Role::Subscriber, PONG);
        assert!(script.events().is_empty());
        script.sent(Role::Publisher);
        script.hear(Role::Publisher, MASTER);
        assert_eq!(script.session.take_canary_refusal(), None);
    }
}

#[test]
fn a_number_that_is_late_when_trouble_begins_is_not_judged() {
    let mut script = Script::with_canary();
    script.wait(Duration::from_secs(4));
    script.publish(1);
    script.sent(Role::Publisher);
    script.hear(Role::Publisher, b"-BUSY x\r\n");
    script.wait(Duration::from_secs(1));
    assert_eq!(script.sent(Role::Subscriber), [["PING"]], "for its silence alone");
    script.hear(Role::Subscriber, PONG);
    assert_eq!(script.events().len(), 2, "what was refused, and that it is");
}

#[test]
fn a_subscription_that_is_refused_for_a_while_is_asked_for_again() {
    let mut script = Script::new(RedisConfig::default());
    script.set_up(Role::Subscriber);
    script.sent(Role::Subscriber);
    script.hear(Role::Subscriber, b"-BUSY x\r\n");
    script.wait(2 * RedisConfig::default().backoff_min);
    assert_eq!(script.sent(Role::Subscriber), [vec!["SUBSCRIBE", CHANNEL], vec!["PING"]]);
    script.hear(Role::Subscriber, &[&confirmation("subscribe", CHANNEL), PONG].concat());
    script.set_up(Role::Publisher);
    script.publishes(1);
}

#[test]
fn what_the_subscriber_refuses_to_answer_for_a_while_judges_nothing() {
    let mut script = Script::with_canary();
    script.wait(Duration::from_secs(5));
    assert_eq!(script.sent(Role::Subscriber), [["PING"], ["PING"]]);
    script.hear(Role::Subscriber, &[PONG, b"-BUSY x\r\n"].concat());
    assert_eq!(script.events(), ["refusing: it runs a script, and does nothing else meanwhile (BUSY x)"]);
}

#[test]
fn a_number_is_held_back_with_all_else_while_scripts_are_repeated() {
    let mut script = Script::with_canary();
    script.hears_number(1);
    script.session.publish("r", b"m", None);
    script.wait(INTERVAL);
    let said: Vec<_> = script.sent(Role::Publisher).into_iter().map(|command| command[1].clone()).collect();
    assert_eq!(said, ["fanfare:r", CHANNEL], "in its place among the publishes");
    script.session.disconnected(link(Role::Publisher), "gone", script.now);
    assert_eq!(script.session.stats().publishes_dropped, 1, "a number is none");
}

#[test]
fn an_answer_for_an_earlier_number_says_nothing_of_a_later_one() {
    let mut script = Script::with_canary();
    script.wait(Duration::from_secs(5));
    assert_eq!(script.sent(Role::Subscriber), [["PING"], ["PING"]]);
    script.tells_role();
    // What Redis says comes late, and in its order.
    script.hears_number(1);
    script.publishes(2);
    script.hear(Role::Publisher, b":1\r\n");
    script.wait(Duration::from_secs(5));
    assert_eq!(script.sent(Role::Subscriber), [["PING"]], "for the second number");
    script.hear(Role::Subscriber, &[PONG, PONG].concat());
    assert!(script.events().is_empty(), "these were asked for before it was published");
    script.hears_number(2);
    script.hear(Role::Subscriber, PONG);
    assert!(script.events().is_empty());
    assert_eq!(script.session.stats().subscriber.state, LinkState::Up);
}
