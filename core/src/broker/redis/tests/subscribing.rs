//! What becomes of subscriptions, and of messages.

use super::*;

#[test]
fn neighbours_are_joined_and_their_order_is_kept() {
    let mut script = Script::up(RedisConfig::default());
    script.session.subscribe("a");
    script.session.subscribe("b");
    script.session.unsubscribe("c");
    script.session.subscribe("d");
    assert_eq!(
        script.sent(Role::Subscriber),
        [vec!["SUBSCRIBE", "fanfare:a", "fanfare:b"], vec!["UNSUBSCRIBE", "fanfare:c"], vec!["SUBSCRIBE", "fanfare:d"]]
    );
    assert!(script.sent(Role::Subscriber).is_empty());
    for (kind, channel) in [("subscribe", "a"), ("subscribe", "b"), ("unsubscribe", "c"), ("subscribe", "d")] {
        script.hear(Role::Subscriber, &confirmation(kind, &format!("fanfare:{channel}")));
    }
    assert_eq!(script.events(), ["subscribed a", "subscribed b", "unsubscribed c", "subscribed d"]);
}

#[test]
fn no_command_names_more_than_512_channels() {
    let mut script = Script::up(RedisConfig::default());
    for room in 0..1_100 {
        script.session.subscribe(&room.to_string());
    }
    let lengths: Vec<usize> = script.sent(Role::Subscriber).iter().map(|command| command.len() - 1).collect();
    assert_eq!(lengths, [512, 512, 76]);
}

#[test]
fn a_refused_batch_is_asked_again_one_by_one() {
    let mut script = Script::up(RedisConfig { prefix: String::new(), ..RedisConfig::default() });
    for room in ["a", "b", "c"] {
        script.session.subscribe(room);
    }
    script.sent(Role::Subscriber);
    script.session.subscribe("d");
    script.session.subscribe("e");
    script.sent(Role::Subscriber);
    script.session.subscribe("f");
    script.hear(Role::Subscriber, b"-NOPERM No permissions to access a channel\r\n");
    script.session.subscribe("g");
    assert!(script.events().is_empty());
    assert_eq!(
        script.sent(Role::Subscriber),
        [["SUBSCRIBE", "f"], ["SUBSCRIBE", "a"], ["SUBSCRIBE", "b"], ["SUBSCRIBE", "c"], ["SUBSCRIBE", "g"]]
    );
    for room in ["d", "e", "f", "a"] {
        script.hear(Role::Subscriber, &confirmation("subscribe", room));
    }
    script.hear(Role::Subscriber, b"-NOPERM No permissions\r\n");
    script.hear(Role::Subscriber, &confirmation("subscribe", "c"));
    script.hear(Role::Subscriber, &confirmation("subscribe", "g"));
    assert_eq!(
        script.events(),
        [
            "subscribed d",
            "subscribed e",
            "subscribed f",
            "subscribed a",
            "failed b: its ACL does not allow that to this user (NOPERM No permissions)",
            "subscribed c",
            "subscribed g"
        ]
    );
}

#[test]
fn a_lost_connection_forgets_everything_asked() {
    let mut script = Script::up(RedisConfig::default());
    script.session.subscribe("sent");
    script.sent(Role::Subscriber);
    script.session.subscribe("unsent");
    script.session.disconnected(link(Role::Subscriber), "reset", script.now);
    script.session.subscribe("while down");
    script.open(Role::Subscriber);
    script.session.subscribe("while connecting");
    script.session.connected(link(Role::Subscriber), script.now);
    script.session.subscribe("while setting up");
    assert_eq!(script.sent(Role::Subscriber), [vec!["HELLO", "3", "SETNAME", "fanfare"], vec!["ROLE"], vec!["PING"]]);
    script.hear(Role::Subscriber, &[HELLO_REPLY, MASTER, PONG].concat());
    script.refuse_canary(Role::Subscriber);
    script.session.subscribe("again");
    assert_eq!(script.sent(Role::Subscriber), [["SUBSCRIBE", "fanfare:again"]]);
    assert_eq!(script.events(), ["down: reset", "up"]);
}

#[test]
fn a_confirmation_that_does_not_match_ends_the_connection() {
    for stray in [
        confirmation("unsubscribe", "fanfare:a"),
        confirmation("subscribe", "fanfare:b"),
        confirmation("subscribe", "a"),
    ] {
        let mut script = Script::up(RedisConfig::default());
        script.session.subscribe("a");
        script.sent(Role::Subscriber);
        script.hear(Role::Subscriber, &stray);
        assert!(script.events()[0].starts_with("down: a confirmation came that nothing was asked for"));
    }
    // Redis taking a subscription away by itself is noticed as well.
    let mut script = Script::up(RedisConfig::default());
    script.hear(Role::Subscriber, &confirmation("unsubscribe", "fanfare:a"));
    assert!(script.events()[0].starts_with("down: "));
}

#[test]
fn messages_come_without_the_prefix_and_as_they_were() {
    let mut script = Script::up(RedisConfig::default());
    let mut bytes = push(b'>', &["message", "fanfare:r", "a\r\nb"]);
    bytes.extend(push(b'>', &["message", "other:r", "no"]));
    bytes.extend(b">3\r\n$7\r\nmessage\r\n$9\r\nfanfare:\xff\r\n$2\r\nno\r\n");
    bytes.extend(push(b'>', &["message", "fanfare:", ""]));
    bytes.extend(b">3\r\n+message\r\n$9\r\nfanfare:s\r\n$1\r\nx\r\n");
    script.hear(Role::Subscriber, &bytes);
    assert_eq!(script.events(), ["message r: a\r\nb", "message : ", "message s: x"]);
    assert_eq!(script.session.stats().ignored, 2);
}

#[test]
fn an_oversized_message_is_skipped_without_being_kept() {
    let mut script = Script::up(RedisConfig { message_bytes_max: 10, ..RedisConfig::default() });
    let large = push(b'>', &["message", "fanfare:r", &"x".repeat(1_000_000)]);
    let mut bytes = push(b'>', &["message", "fanfare:r", "0123456789"]);
    bytes.extend(&large);
    bytes.extend(push(b'>', &["message", "fanfare:r", "after"]));
    for size in [1, 7, 4_096, bytes.len()] {
        for part in bytes.chunks(size) {
            script.hear(Role::Subscriber, part);
            assert!(script.session.session().inbox_capacity() <= 4_096);
        }
        assert_eq!(script.events(), ["message r: 0123456789", "message r: after"]);
    }
    assert_eq!(script.session.stats().oversized, 4);
    // The end of what is skipped is looked at, however it is cut.
    let mut broken = large;
    let end = broken.len() - 2;
    broken[end..].copy_from_slice(b"\rx");
    for cut in [end, end + 1, end + 2] {
        let mut script = Script::up(RedisConfig { message_bytes_max: 10, ..RedisConfig::default() });
        script.hear(Role::Subscriber, &broken[..cut]);
        script.hear(Role::Subscriber, &broken[cut..]);
        assert_eq!(script.events(), ["down: broke the protocol: a string in a reply does not end where it said"]);
    }
}

#[test]
fn a_large_message_in_small_pieces_is_not_looked_at_again_and_again() {
    let mut script = Script::up(RedisConfig::default());
    let payload = "x".repeat(1_000_000);
    let bytes = push(b'>', &["message", "fanfare:r", &payload]);
    // Quadratic work would be 5 * 10^11 steps here.
    for byte in bytes.chunks(1) {
        script.hear(Role::Subscriber, byte);
    }
    assert_eq!(script.events(), [format!("message r: {payload}")]);
}
