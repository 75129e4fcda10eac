//! From nothing to `Up`: the first commands, old servers, refusals.

use super::*;

fn cache() -> Address {
    Address::Tcp { host: "cache.internal".to_owned(), port: 7000 }
}

fn config() -> RedisConfig {
    RedisConfig {
        topology: Topology::Single(cache()),
        username: Some("ann".to_owned()),
        password: Some("tr0ub4dor&3".to_owned()),
        database: 5,
        client_name: "fan fare".to_owned(),
        ..RedisConfig::default()
    }
}

fn connecting(config: RedisConfig) -> Script {
    let Topology::Single(address) = config.topology.clone() else { panic!("one server") };
    let open = ConnectionRequest::Open { address };
    let mut script = Script::new(config);
    assert_eq!(script.requests(), [(Role::Subscriber, open.clone()), (Role::Publisher, open)]);
    assert!(script.session.output(link(Role::Subscriber)).is_empty());
    script.session.connected(link(Role::Subscriber), script.now);
    script
}

#[test]
fn the_set_up_is_one_write_in_resp3() {
    let mut script = connecting(config());
    assert_eq!(
        script.sent(Role::Subscriber),
        [
            vec!["HELLO", "3", "AUTH", "ann", "tr0ub4dor&3", "SETNAME", "fan-fare"],
            vec!["SELECT", "5"],
            vec!["ROLE"],
            vec!["PING"]
        ]
    );
    script.hear(Role::Subscriber, HELLO_REPLY);
    script.hear(Role::Subscriber, b"+OK\r\n");
    script.hear(Role::Subscriber, MASTER);
    assert_eq!(script.session.stats().subscriber.state, LinkState::SettingUp);
    script.hear(Role::Subscriber, PONG);
    assert_eq!(script.events(), ["up"]);
    assert_eq!(script.session.stats().subscriber.state, LinkState::Up);
    assert_eq!(script.session.stats().trouble(), Some("not connected yet"));
}

#[test]
fn without_credentials_name_and_database_hello_is_all() {
    let mut script = connecting(RedisConfig { client_name: String::new(), ..RedisConfig::default() });
    assert_eq!(script.sent(Role::Subscriber), [vec!["HELLO", "3"], vec!["ROLE"], vec!["PING"]]);
    script.hear(Role::Subscriber, &[HELLO_REPLY, MASTER, PONG].concat());
    assert_eq!(script.events(), ["up"]);
}

#[test]
fn a_server_without_hello_is_spoken_to_in_resp2() {
    for refusal in [
        "-ERR unknown command `HELLO`, with args beginning with: `3`, `AUTH`, `ann`, `tr0ub4dor&3`, \r\n",
        "-ERR unknown command 'HELLO'\r\n",
        "-NOPROTO unsupported protocol version\r\n",
        "-NOPERM this user has no permissions to run the 'hello' command or its subcommand\r\n",
        "-ERR syntax error\r\n",
        "-ERR Syntax error in HELLO option 'setname'\r\n",
        "-ERR wrong number of arguments for 'hello' command\r\n",
        "-ERR command not allowed\r\n",
        "-NOAUTH Authentication required.\r\n",
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
                vec!["ROLE"],
                vec!["PING"]
            ]
        );
        // What went with HELLO, then the five; neither a refused name nor a role that is not told does any harm.
        script.hear(Role::Subscriber, &b"-NOAUTH Authentication required.\r\n".repeat(3));
        script.hear(Role::Subscriber, b"+OK\r\n+OK\r\n-ERR no names here\r\n-ERR unknown command 'ROLE'\r\n");
        assert!(script.events().is_empty());
        script.hear(Role::Subscriber, b"+PONG\r\n");
        assert_eq!(script.events(), ["up"]);
        script.refuse_canary(Role::Subscriber);
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

/// Some providers write it into the URL, and Redis before version 6 knows no users.
#[test]
fn the_user_default_is_no_user_to_an_old_server() {
    let mut script = connecting(RedisConfig { username: Some("default".to_owned()), ..config() });
    assert_eq!(script.sent(Role::Subscriber)[0][2..5], ["AUTH", "default", "tr0ub4dor&3"]);
    script.hear(Role::Subscriber, b"-ERR unknown command 'HELLO'\r\n");
    assert_eq!(script.sent(Role::Subscriber)[0], ["AUTH", "tr0ub4dor&3"]);
}

#[test]
fn a_replica_is_no_use_unless_it_is_one_of_a_cluster() {
    for (info, in_use) in [
        (&b"$30\r\n# Cluster\r\ncluster_enabled:1\r\n\r\n"[..], true),
        (b"=34\r\ntxt:# Cluster\r\ncluster_enabled:1\r\n\r\n", true),
        (b"$30\r\n# Cluster\r\ncluster_enabled:0\r\n\r\n", false),
        (b"$0\r\n\r\n", false),
        (b"-NOPERM no\r\n", false),
    ] {
        let mut script = connecting(RedisConfig::default());
        script.sent(Role::Subscriber);
        script.hear(Role::Subscriber, &[HELLO_REPLY, REPLICA, PONG].concat());
        assert_eq!(script.sent(Role::Subscriber), [["INFO", "cluster"]]);
        script.hear(Role::Subscriber, info);
        let refused = "down: it is a replica, and what is published there reaches no other server";
        assert_eq!(script.events(), [if in_use { "up" } else { refused }]);
    }
}

#[test]
fn whoever_wants_a_password_and_gets_none_is_told_in_words() {
    let mut script = connecting(RedisConfig::default());
    script.sent(Role::Subscriber);
    script.hear(Role::Subscriber, b"-NOAUTH HELLO must be called with the client already authenticated\r\n");
    assert_eq!(
        script.events(),
        [
            "down: HELLO refused: it wants a password, and none is given (NOAUTH HELLO must be called with the client already authenticated)"
        ]
    );
}

#[test]
fn a_server_that_ends_the_connection_before_it_said_a_word_may_speak_tls() {
    let mut script = connecting(RedisConfig::default());
    script.sent(Role::Subscriber);
    script.session.disconnected(link(Role::Subscriber), "it closed the connection", script.now);
    assert_eq!(script.events(), ["down: it closed the connection before it said a word (a port that speaks TLS?)"]);
}

#[test]
fn a_refused_set_up_is_dropped_with_a_reason_and_tried_again_for_ever() {
    let refusals: [(&[u8], &str); 9] = [
        (
            b"-WRONGPASS invalid username-password pair\r\n",
            "HELLO refused: it does not know this user and password (WRONGPASS invalid username-password pair)",
        ),
        (
            b"-DENIED Redis is in protected mode\r\n",
            "HELLO refused: it runs in protected mode and takes connections of its own machine only, until it has a password (DENIED Redis is in protected mode)",
        ),
        (
            b"_\r\n+OK\r\n-BUSY a script\r\n",
            "ROLE refused: it runs a script, and does nothing else meanwhile (BUSY a script)",
        ),
        (
            b"_\r\n+OK\r\n*1\r\n$8\r\nsentinel\r\n",
            "it is a Sentinel, which redis-sentinel:// asks for the Redis that it watches",
        ),
        (b"-ERR max number of clients reached\r\n", "HELLO refused: ERR max number of clients reached"),
        (
            b"-WRONGPASS cannot use 'tr0ub4dor&3'\r\n",
            "HELLO refused: it does not know this user and password (WRONGPASS)",
        ),
        (b"_\r\n-LOADING Redis is loading\r\n", "SELECT refused: it is loading its data (LOADING Redis is loading)"),
        (b"_\r\n-ERR DB index is out of range\r\n", "SELECT refused: ERR DB index is out of range"),
        (b"HTTP/1.1 400\r\n", "what answers there speaks HTTP, and is no Redis (a reply cannot start with byte 0x48)"),
    ];
    let mut script = connecting(config());
    for (refusal, reason) in refusals.iter().cycle().take(42) {
        script.sent(Role::Subscriber);
        script.hear(Role::Subscriber, refusal);
        assert!(script.events().contains(&format!("down: {reason}")));
        assert_eq!(script.session.stats().subscriber.last_error, Some(*reason));
        assert_eq!(script.session.stats().trouble(), Some(*reason));
        assert_eq!(script.session.poll_connection(script.now), Some((link(Role::Subscriber), ConnectionRequest::Drop)));
        let lost_at = script.now;
        script.open(Role::Subscriber);
        assert!(script.now.since(lost_at) >= Duration::from_millis(50));
        script.session.connected(link(Role::Subscriber), script.now);
    }
    assert_eq!(script.session.stats().reconnects, 0);
}

#[test]
fn an_old_server_may_refuse_too() {
    for (replies, reason) in [
        (&b"-ERR invalid password\r\n"[..], "AUTH refused: it has another password (ERR invalid password)"),
        (
            b"-ERR wrong number of arguments for 'auth' command\r\n",
            "AUTH refused: it is older than Redis 6 and knows no users, and the URL names one: leave it out, redis://:PASSWORD@HOST (ERR wrong number of arguments for 'auth' command)",
        ),
        (
            b"+OK\r\n+OK\r\n-NOAUTH Authentication required.\r\n",
            "CLIENT SETNAME refused: it did not take the sign-in (NOAUTH Authentication required.)",
        ),
        (b"+OK\r\n+OK\r\n+OK\r\n_\r\n-LOADING wait\r\n", "PING refused: it is loading its data (LOADING wait)"),
        (
            b"-ERR unknown command `AUTH`, with args beginning with: `ann`, `tr0ub\r\n",
            "AUTH refused: ERR unknown command `AUTH`",
        ),
    ] {
        let mut script = connecting(config());
        script.hear(Role::Subscriber, b"-ERR unknown command 'HELLO'\r\n+OK\r\n_\r\n_\r\n");
        script.hear(Role::Subscriber, replies);
        assert_eq!(script.session.stats().subscriber.last_error, Some(reason));
    }
}

#[test]
fn the_password_is_not_printed() {
    let text = format!("{:?} {:?}", config(), RedisBroker::new(config()));
    assert!(text.contains("***") && !text.contains("tr0ub"));
}
