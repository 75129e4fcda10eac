//! Connections that fall silent, end, or never come about.

use super::*;

#[test]
fn a_silent_connection_is_probed_and_then_given_up() {
    let mut script = Script::up(RedisConfig::default());
    script.wait(Duration::from_millis(4_999));
    assert!(script.sent(Role::Subscriber).is_empty());
    script.wait(Duration::from_millis(1));
    assert_eq!(script.sent(Role::Subscriber), [["PING"]]);
    assert_eq!(script.sent(Role::Publisher), [["ROLE"]]);
    script.hear(Role::Publisher, MASTER);
    script.wait(Duration::from_millis(4_999));
    assert!(script.events().is_empty());
    script.wait(Duration::from_millis(1));
    assert_eq!(script.events(), ["down: no answer to PING within 5000 ms"]);
    assert_eq!(script.requests()[0], (Role::Subscriber, ConnectionRequest::Drop));
    assert_eq!(script.session.stats().publisher.state, LinkState::Up);
}

#[test]
fn any_byte_is_a_sign_of_life() {
    let mut script = Script::up(RedisConfig::default());
    script.wait(Duration::from_secs(5));
    script.sent(Role::Subscriber);
    script.wait(Duration::from_secs(4));
    script.hear(Role::Subscriber, b">");
    script.sent(Role::Publisher);
    script.hear(Role::Publisher, MASTER);
    script.wait(Duration::from_secs(2));
    assert!(script.events().is_empty());
    // Silence counts from that byte, and the first PING may still be answered: there is no second one meanwhile.
    script.wait(Duration::from_secs(3));
    assert!(script.sent(Role::Subscriber).is_empty());
    script.hear(Role::Subscriber, b"3\r\n$7\r\nmessage\r\n$9\r\nfanfare:r\r\n$1\r\nm\r\n+PONG\r\n");
    assert_eq!(script.events(), ["message r: m"]);
    script.wait(Duration::from_secs(5));
    assert_eq!(script.sent(Role::Subscriber), [["PING"]]);
}

#[test]
fn a_subscriber_that_hears_something_is_asked_for_nothing() {
    let mut script = Script::up(RedisConfig::default());
    for _ in 0..8 {
        script.wait(Duration::from_secs(3));
        script.hear(Role::Subscriber, &push(b'>', &["message", "fanfare:r", "m"]));
        assert!(script.sent(Role::Subscriber).is_empty());
        for request in script.sent(Role::Publisher) {
            assert_eq!(request, ["ROLE"]);
            script.hear(Role::Publisher, MASTER);
        }
        assert!(script.session.next_timeout().is_none_or(|timeout| timeout > script.now), "nothing is due");
    }
    assert_eq!(script.events(), ["message r: m"; 8]);
}

#[test]
fn a_publisher_that_does_not_tell_its_role_is_asked_for_no_more_than_a_sign_of_life() {
    let mut script = Script::new(RedisConfig::default());
    script.connect(Role::Subscriber);
    script.open(Role::Publisher);
    script.session.connected(link(Role::Publisher), script.now);
    script.sent(Role::Publisher);
    script.hear(Role::Publisher, &[HELLO_REPLY, b"-ERR unknown command 'ROLE'\r\n", PONG].concat());
    assert_eq!(script.events(), ["up", "publisher up"]);
    script.wait(Duration::from_secs(5));
    assert_eq!(script.sent(Role::Publisher), [["PING"]]);
}

#[test]
fn a_long_pause_of_the_driver_is_no_silence_of_the_server() {
    let mut script = Script::up(RedisConfig::default());
    script.wait(Duration::from_secs(3_600));
    assert!(script.events().is_empty());
    assert_eq!(script.sent(Role::Subscriber), [["PING"]]);
}

#[test]
fn neither_connecting_nor_set_up_may_take_for_ever() {
    let mut script = Script::new(RedisConfig::default());
    script.requests();
    script.wait(Duration::from_secs(3));
    script.session.connected(link(Role::Publisher), script.now);
    script.wait(Duration::from_millis(1_999));
    assert!(script.requests().is_empty());
    script.wait(Duration::from_millis(1));
    let dropped = [(Role::Subscriber, ConnectionRequest::Drop), (Role::Publisher, ConnectionRequest::Drop)];
    assert_eq!(script.requests(), dropped);
    let stats = script.session.stats();
    assert_eq!(stats.subscriber.last_error, Some("no connection within 5000 ms"));
    assert_eq!(stats.publisher.last_error, Some("set-up not finished within 5000 ms"));
    assert_eq!(
        script.events(),
        ["down: no connection within 5000 ms", "publisher down: set-up not finished within 5000 ms"]
    );
}

#[test]
fn a_connection_by_tls_that_is_not_established_may_have_met_a_port_without() {
    let mut script = Script::new(RedisConfig { over_tls: true, ..RedisConfig::default() });
    script.requests();
    script.wait(Duration::from_secs(5));
    let why = "no connection by TLS within 5000 ms: does that port speak it?";
    assert_eq!(script.session.stats().subscriber.last_error, Some(why));
}

#[test]
fn a_connection_that_lasted_is_replaced_soon_and_one_that_did_not_ever_later() {
    let config = RedisConfig::default();
    let mut waits = Vec::new();
    let mut script = Script::new(config.clone());
    for _ in 0..20 {
        script.connect(Role::Subscriber);
        script.now = script.now + Duration::from_millis(4_900);
        script.session.disconnected(link(Role::Subscriber), "reset", script.now);
        let lost_at = script.now;
        script.open(Role::Subscriber);
        waits.push(script.now.since(lost_at));
        script.session.disconnected(link(Role::Subscriber), "refused", script.now);
    }
    assert!(waits.iter().any(|wait| *wait > Duration::from_secs(2)), "{waits:?}");
    assert!(waits.iter().all(|wait| (config.backoff_min..=config.backoff_max).contains(wait)), "{waits:?}");
    script.connect(Role::Subscriber);
    script.now = script.now + config.backoff_max;
    script.session.disconnected(link(Role::Subscriber), "reset", script.now);
    let lost_at = script.now;
    script.open(Role::Subscriber);
    assert!(script.now.since(lost_at) <= 2 * config.backoff_min);
}

#[test]
fn a_loss_is_told_once_then_each_new_reason_and_reconnects_are_counted() {
    let mut script = Script::up(RedisConfig::default());
    script.session.disconnected(link(Role::Subscriber), "end of file", script.now);
    script.session.disconnected(link(Role::Subscriber), "end of file", script.now);
    script.hear(Role::Subscriber, b"+late\r\n");
    assert_eq!(script.events(), ["down: end of file"]);
    for reason in ["end of file", "connection refused", "connection refused"] {
        script.open(Role::Subscriber);
        script.session.disconnected(link(Role::Subscriber), reason, script.now);
    }
    assert_eq!(script.events(), ["down: connection refused"]);
    script.connect(Role::Subscriber);
    assert_eq!(script.events(), ["up"]);
    assert_eq!(script.session.stats().reconnects, 1);
    assert_eq!(script.session.stats().subscriber.last_error, Some("connection refused"));
    assert_eq!(script.session.stats().trouble(), None);
    script.session.disconnected(link(Role::Subscriber), "connection refused", script.now);
    assert_eq!(script.events(), ["down: connection refused"]);
}

#[test]
fn replies_to_nothing_and_broken_replies_end_the_connection() {
    for (role, bytes, reason) in [
        (Role::Publisher, &b":1\r\n"[..], "publisher down: a reply came that nothing was asked for"),
        (Role::Publisher, b"-ERR going away\r\n", "publisher down: ERR going away"),
        (Role::Subscriber, b"+PONG\r\n", "down: a reply came that nothing was asked for"),
        (Role::Subscriber, b"-ERR going away\r\n", "down: ERR going away"),
        (Role::Subscriber, b"?", "down: broke the protocol: a reply cannot start with byte 0x3f"),
        (Role::Subscriber, b"*99999999\r\n", "down: broke the protocol: a reply is too large"),
    ] {
        let mut script = Script::up(RedisConfig::default());
        script.hear(role, bytes);
        assert_eq!(script.events(), [reason]);
        assert_eq!(script.requests()[0], (role, ConnectionRequest::Drop));
    }
}

#[test]
fn a_connection_that_ended_by_itself_needs_no_drop() {
    let mut script = Script::up(RedisConfig::default());
    script.hear(Role::Subscriber, b"?");
    script.session.disconnected(link(Role::Subscriber), "reset", script.now);
    assert!(script.requests().is_empty());
}

#[test]
fn pushes_that_nobody_asked_for_are_ignored() {
    let mut script = Script::up(RedisConfig::default());
    for role in Role::ALL {
        script.hear(role, b">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n");
        script.hear(role, b">4\r\n$8\r\npmessage\r\n$1\r\n*\r\n$9\r\nfanfare:r\r\n$1\r\nm\r\n>0\r\n");
    }
    assert!(script.events().is_empty());
}
