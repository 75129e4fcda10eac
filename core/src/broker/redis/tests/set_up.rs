//! From nothing to `Up`: the first commands, old servers, refusals.

use super::*;

fn config() -> RedisConfig {
    RedisConfig {
        username: Some("ann".to_owned()),
        password: Some("tr0ub4dor&3".to_owned()),
        database: 5,
        client_name: "fan fare".to_owned(),
        ..RedisConfig::default()
    }
}

fn connecting(config: RedisConfig) -> Script {
    let mut script = Script::new(config);
    assert_eq!(
        script.requests(),
        [(Role::Subscriber, ConnectionRequest::Open), (Role::Publisher, ConnectionRequest::Open)]
    );
    assert!(script.session.output(Role::Subscriber).is_empty());
    script.session.connected(Role::Subscriber, script.now);
    script
}

#[test]
fn the_set_up_is_one_write_in_resp3() {
    let mut script = connecting(config());
    assert_eq!(
        script.sent(Role::Subscriber),
        [vec!["HELLO", "3", "AUTH", "ann", "tr0ub4dor&3", "SETNAME", "fan-fare"], vec!["SELECT", "5"]]
    );
    script.hear(Role::Subscriber, HELLO_REPLY);
    assert_eq!(script.session.stats().subscriber.state, LinkState::SettingUp);
    script.hear(Role::Subscriber, b"+OK\r\n");
    assert_eq!(script.events(), ["up"]);
    assert_eq!(script.session.stats().subscriber.state, LinkState::Up);
    assert_eq!(script.session.stats().trouble(), Some("not connected yet"));
}

#[test]
fn without_credentials_name_and_database_hello_is_all() {
    let mut script = connecting(RedisConfig { client_name: String::new(), ..RedisConfig::default() });
    assert_eq!(script.sent(Role::Subscriber), [["HELLO", "3"]]);
    script.hear(Role::Subscriber, HELLO_REPLY);
    assert_eq!(script.events(), ["up"]);
}

#[test]
fn a_server_without_hello_is_spoken_to_in_resp2() {
    for refusal in [
        "-ERR unknown command `HELLO`, with args beginning with: `3`, `AUTH`, `ann`, `tr0ub4dor&3`, \r\n",
        "-ERR unknown command 'HELLO'\r\n",
        "-NOPROTO unsupported protocol version\r\n",
    ] {
        let mut script = connecting(config());
        script.sent(Role::Subscriber);
        script.hear(Role::Subscriber, refusal.as_bytes());
        assert_eq!(
            script.sent(Role::Subscriber),
            [
                vec!["AUTH", "ann", "tr0ub4dor&3"],
                vec!["SELECT", "5"],
                vec!["CLIENT", "SETNAME", "fan-fare"],
                vec!["PING"]
            ]
        );
        // The SELECT that went with HELLO, then the four; a refused name does no harm.
        script.hear(Role::Subscriber, b"-NOAUTH Authentication required.\r\n+OK\r\n+OK\r\n-ERR no names here\r\n");
        assert!(script.events().is_empty());
        script.hear(Role::Subscriber, b"+PONG\r\n");
        assert_eq!(script.events(), ["up"]);
        // And on in RESP2: confirmations and messages are arrays, and so is the PONG.
        script.session.subscribe("a");
        script.sent(Role::Subscriber);
        script.hear(Role::Subscriber, b"*3\r\n$9\r\nsubscribe\r\n$9\r\nfanfare:a\r\n:1\r\n");
        script.wait(Duration::from_secs(5));
        assert_eq!(script.sent(Role::Subscriber), [["PING"]]);
        script.hear(Role::Subscriber, &push(b'*', &["message", "fanfare:a", "hi"]));
        script.hear(Role::Subscriber, b"*2\r\n$4\r\npong\r\n$0\r\n\r\n");
        let mut events = script.events();
        events.retain(|event| !event.starts_with("publisher"));
        assert_eq!(events, ["subscribed a", "message a: hi"]);
    }
}

#[test]
fn without_a_user_an_old_server_gets_the_password_alone() {
    let mut script = connecting(RedisConfig { username: None, ..config() });
    script.sent(Role::Subscriber);
    script.hear(Role::Subscriber, b"-ERR unknown command 'HELLO'\r\n");
    assert_eq!(script.sent(Role::Subscriber)[0], ["AUTH", "tr0ub4dor&3"]);
}

#[test]
fn a_refused_set_up_is_dropped_with_a_reason_and_tried_again_for_ever() {
    let refusals: [(&[u8], &str); 7] = [
        (b"-WRONGPASS invalid username-password pair\r\n", "HELLO refused: WRONGPASS invalid username-password pair"),
        (b"-NOAUTH HELLO must be called\r\n", "HELLO refused: NOAUTH HELLO must be called"),
        (b"-ERR max number of clients reached\r\n", "HELLO refused: ERR max number of clients reached"),
        (b"-ERR cannot use 'tr0ub4dor&3'\r\n", "HELLO refused: ERR"),
        (b"_\r\n-LOADING Redis is loading\r\n", "SELECT 5 refused: LOADING Redis is loading"),
        (b"_\r\n-ERR DB index is out of range\r\n", "SELECT 5 refused: ERR DB index is out of range"),
        (b"HTTP/1.1 400\r\n", "broke the protocol: a reply cannot start with byte 0x48"),
    ];
    let mut script = connecting(config());
    for (refusal, reason) in refusals.iter().cycle().take(42) {
        script.sent(Role::Subscriber);
        script.hear(Role::Subscriber, refusal);
        assert!(script.events().contains(&format!("down: {reason}")));
        assert_eq!(script.session.stats().subscriber.last_error, Some(*reason));
        assert_eq!(script.session.stats().trouble(), Some(*reason));
        assert_eq!(script.session.poll_connection(script.now), Some((Role::Subscriber, ConnectionRequest::Drop)));
        let lost_at = script.now;
        script.open(Role::Subscriber);
        assert!(script.now.since(lost_at) >= Duration::from_millis(50));
        script.session.connected(Role::Subscriber, script.now);
    }
    assert_eq!(script.session.stats().reconnects, 0);
}

#[test]
fn an_old_server_may_refuse_too() {
    for (replies, reason) in [
        (&b"-ERR invalid password\r\n"[..], "AUTH refused: ERR invalid password"),
        (b"+OK\r\n+OK\r\n-NOAUTH Authentication required.\r\n", "set-up refused: NOAUTH Authentication required."),
        (b"+OK\r\n+OK\r\n+OK\r\n-LOADING wait\r\n", "set-up refused: LOADING wait"),
        (
            b"-ERR unknown command `AUTH`, with args beginning with: `ann`, `tr0ub\r\n",
            "AUTH refused: ERR unknown command `AUTH`",
        ),
    ] {
        let mut script = connecting(config());
        script.hear(Role::Subscriber, b"-ERR unknown command 'HELLO'\r\n+OK\r\n");
        script.hear(Role::Subscriber, replies);
        assert_eq!(script.session.stats().subscriber.last_error, Some(reason));
    }
}

#[test]
fn the_password_is_not_printed() {
    let text = format!("{:?} {:?}", config(), RedisSession::new(config()));
    assert!(text.contains("***") && !text.contains("tr0ub"));
}
