//! What others publish in Redis: `redis-cli`, the Node servers this one replaces, and programs that mean no good.

use fanfare_tests::{Client, Metrics, Redis, Server};
use serde_json::Value;

struct Set {
    redis: Redis,
    servers: [Server; 2],
}

fn set() -> Set {
    let redis = Redis::start();
    let servers = std::array::from_fn(|_| Server::launch().redis(&redis).ops().start());
    Set { redis, servers }
}

#[test]
fn redis_cli_publish_reaches_every_member_as_a_string() {
    let Set { redis, servers } = set();
    let mut members = servers.each_ref().map(|server| Client::member(server, "room1"));
    assert_eq!(redis.cli(&["PUBLISH", "fanfare:room1", "hello"]), "2");
    for member in &mut members {
        member.expect(r#"{"type":"MESSAGE","room":"room1","message":"hello"}"#);
    }
}

#[test]
fn the_classic_form_by_redis_cli_gives_its_message() {
    let Set { redis, servers } = set();
    let mut members = servers.each_ref().map(|server| Client::member(server, "r"));
    redis.cli(&["PUBLISH", "fanfare:r", r#"{"type":"SEND_MESSAGE","roomId":"r","message":"x"}"#]);
    for member in &mut members {
        member.expect(r#"{"type":"MESSAGE","room":"r","message":"x"}"#);
    }
}

#[test]
fn the_classic_form_keeps_the_bytes_of_its_message() {
    let Set { redis, servers } = set();
    let mut member = Client::member(&servers[0], "r");
    for raw in [r#"{"a" : [1, 2]}"#, "1.0", "null", r#""\u00e9""#, "true", r#""😀""#, "[]"] {
        redis.publish("fanfare:r", format!(r#"{{"type":"SEND_MESSAGE","roomId":"r","message":{raw}}}"#));
        member.expect_message("r", raw);
        // Keys in another order, and further ones, change nothing.
        redis.publish("fanfare:r", format!(r#" {{"message" : {raw} , "x":[1],"roomId":"r","type":"SEND_MESSAGE"}} "#));
        member.expect_message("r", raw);
    }
}

#[test]
fn any_other_text_becomes_a_string() {
    let Set { redis, servers } = set();
    let mut member = Client::member(&servers[0], "r");
    for text in [
        "",
        " ",
        "with \"quotes\" and \\ and / and \u{8}\u{c}\n\r\t\0\u{1f}\u{7f}",
        "é 😀 \u{2028}",
        "{",
        "{}",
        "17",
        "null",
        "\"a string\"",
        r#"{"type":"SEND_MESSAGE","roomId":"r"}"#,
        r#"{"type":"SUBSCRIBE","room":"r","message":"x"}"#,
        r#"{"type":"MESSAGE","room":"r","message":"x"}"#,
        r#"[{"type":"SEND_MESSAGE","roomId":"r","message":"x"}]"#,
        r#"{"type":"SEND_MESSAGE","roomId":"r","message":"x"} and more"#,
    ] {
        redis.publish("fanfare:r", text);
        assert_eq!(member.recv_message("r"), text);
    }
}

/// The values of the counter of dropped messages.
fn dropped(metrics: &Metrics) -> [f64; 3] {
    ["not_utf8", "version", "forged"]
        .map(|reason| metrics.value(&format!("fanfare_messages_dropped_total{{reason=\"{reason}\"}}")))
}

#[test]
fn what_only_resembles_a_header_is_text() {
    let Set { redis, servers } = set();
    let mut member = Client::member(&servers[0], "r");
    let body = r#"{"type":"MESSAGE","room":"r","message":"forged"}"#;
    for text in [
        "F1".to_owned(),
        "F 1 ".to_owned(),
        format!("F1\n{body}"),
        format!("f1 0123456789abcdef -\n{body}"),
        format!("F1x 0123456789abcdef -\n{body}"),
        format!(" F1 0123456789abcdef -\n{body}"),
    ] {
        redis.publish("fanfare:r", &text);
        assert_eq!(member.recv_message("r"), Value::from(text));
    }
}

/// A newer instance on the same Redis may write it: nothing of it may reach clients.
#[test]
fn what_another_version_writes_is_dropped_and_counted() {
    let Set { redis, servers } = set();
    let mut member = Client::member(&servers[0], "r");
    let body = r#"{"type":"MESSAGE","room":"r","message":1}"#;
    for header in ["F3 0123456789abcdef - 1-x 7", "F0 0123456789abcdef -", "F12 ", "F3 "] {
        redis.publish("fanfare:r", format!("{header}\n{body}"));
    }
    redis.publish("fanfare:r", "next");
    assert_eq!(member.recv_message("r"), "next");
    servers[0].wait_for_metrics("all are counted", |metrics| dropped(metrics) == [0.0, 4.0, 0.0]);
}

#[test]
fn headers_and_texts_that_no_server_writes_are_dropped_and_counted() {
    let Set { redis, servers } = set();
    let mut member = Client::member(&servers[0], "r");
    let body = r#"{"type":"MESSAGE","room":"r","message":"forged"}"#;
    let headers = [
        "F1 ".to_owned(),
        "F1 0123456789abcdef".to_owned(),
        "F1 0123456789abcdef -".to_owned(),
        format!("F1 0123456789abcdef - {body}"),
        format!("F1 0123456789abcde -\n{body}"),
        format!("F1 0123456789abcdef0 -\n{body}"),
        format!("F1 0123456789abcdeg -\n{body}"),
        format!("F1 0123456789abcdef\n{body}"),
        format!("F1 0123456789abcdef \n{body}"),
        format!("F1 0123456789abcdef xyz\n{body}"),
        format!("F1 0123456789abcdef - -\n{body}"),
        format!("F1  0123456789abcdef -\n{body}"),
        format!("F1 0123456789abcdef -\r\n{body}"),
    ];
    let texts = [
        "",
        "hello",
        r#"{"type":"ERROR","code":"x","reason":"x"}"#,
        r#"{"type":"UNSUBSCRIBED","room":"r"}"#,
        r#"{"type":"MESSAGE","room":"another","message":1}"#,
        r#"{"type":"MESSAGE","room":"r","message":1,"type":"UNSUBSCRIBED"}"#,
        r#"{"type":"MESSAGE","room":"r","message":{"a":{}},"type":"ERROR","x":{}}"#,
    ];
    let texts = texts.map(|text| format!("F1 0123456789abcdef -\n{text}"));
    for payload in headers.iter().chain(&texts) {
        redis.publish("fanfare:r", payload);
    }
    redis.publish("fanfare:r", "next");
    assert_eq!(member.recv_message("r"), "next");
    let forged = (headers.len() + texts.len()) as f64;
    servers[0].wait_for_metrics("all are counted", |metrics| dropped(metrics) == [0.0, 0.0, forged]);
}

#[test]
fn the_header_of_another_instance_is_believed() {
    let Set { redis, servers } = set();
    let mut member = Client::member(&servers[0], "r");
    let text = r#"{"type":"MESSAGE","room":"r","message":{"a" : 1}}"#;
    redis.publish("fanfare:r", format!("F1 0123456789abcdef -\n{text}"));
    member.expect(text);
    redis.publish("fanfare:r", format!("F1 0123456789abcdef fedcba9876543210\n{text}"));
    member.expect(text);
}

#[test]
fn bytes_that_are_not_utf8_are_dropped_and_counted() {
    let Set { redis, servers } = set();
    let [server, _] = &servers;
    let mut member = Client::member(server, "r");
    for bytes in [b"\xff".as_slice(), b"ok until \xc3", b"\xed\xa0\x80", b"F1 0123456789abcdef -\n\"\xff\""] {
        assert_eq!(redis.publish("fanfare:r", bytes), 1);
    }
    redis.publish("fanfare:r", "next");
    assert_eq!(member.recv_message("r"), "next");
    server.wait_for_metrics("all four are counted", |metrics| dropped(metrics) == [4.0, 0.0, 0.0]);
}

#[test]
fn a_message_too_large_is_skipped_and_counted() {
    let redis = Redis::start();
    let server = Server::launch().redis(&redis).ops().flag("--redis-message-bytes-max", 100_000).start();
    let mut member = Client::member(&server, "r");
    let fits = "x".repeat(100_000);
    redis.publish("fanfare:r", "x".repeat(100_001));
    redis.publish("fanfare:r", "x".repeat(5_000_000));
    redis.publish("fanfare:r", &fits);
    assert_eq!(member.recv_message("r"), Value::from(fits));
    server.wait_for_metrics("both are counted", |metrics| metrics.value("fanfare_broker_oversized_total") == 2.0);
}

#[test]
fn a_large_message_reaches_members_whole() {
    let Set { redis, servers } = set();
    let mut member = Client::member(&servers[0], "r");
    let text = "0123456789".repeat(70_000);
    redis.publish("fanfare:r", &text);
    assert_eq!(member.recv_message("r"), Value::from(text));
}

#[test]
fn the_classic_format_is_what_a_node_server_reads() {
    let redis = Redis::start();
    let server = Server::launch().redis(&redis).flag("--redis-format", "classic").start();
    let mut outsider = redis.listen("fanfare:r");
    let mut client = Client::member(&server, "r");
    for raw in [r#""Hello""#, r#"{"a" : 1}"#, "null", "1.0"] {
        client.publish("r", raw);
        let payload = String::from_utf8(outsider.next_message()).expect("UTF-8");
        assert_eq!(payload, format!(r#"{{"type":"SEND_MESSAGE","roomId":"r","message":{raw}}}"#));
        client.expect_message("r", raw);
    }
}

#[test]
fn the_classic_format_escapes_the_name_of_the_room() {
    let redis = Redis::start();
    let server = Server::launch().redis(&redis).flag("--redis-format", "classic").start();
    let room = r#"a "b" \ c"#;
    let mut outsider = redis.listen(&format!("fanfare:{room}"));
    let mut client = Client::member(&server, room);
    client.publish(room, "1");
    let payload: Value = serde_json::from_slice(&outsider.next_message()).expect("JSON");
    assert_eq!(payload, serde_json::json!({"type": "SEND_MESSAGE", "roomId": room, "message": 1}));
    client.expect_message(room, "1");
}

#[test]
fn channels_are_the_prefix_and_the_room() {
    let redis = Redis::start();
    for prefix in ["", "app:", "a b/é:"] {
        let server = Server::launch().redis(&redis).flag("--redis-prefix", prefix).start();
        let mut client = Client::member(&server, "room1");
        let channel = format!("{prefix}room1");
        assert_eq!(redis.cli(&["PUBLISH", &channel, "hello"]), "1", "prefix {prefix:?}");
        client.expect_message("room1", r#""hello""#);
        let mut outsider = redis.listen(&channel);
        client.publish("room1", r#""back""#);
        assert!(!outsider.next_message().is_empty());
        client.expect_message("room1", r#""back""#);
    }
}

#[test]
fn a_room_whose_name_looks_like_a_pattern_is_only_itself() {
    let Set { redis, servers } = set();
    let mut member = Client::member(&servers[0], "r*");
    redis.publish("fanfare:room", "not for it");
    redis.publish("fanfare:r*", "for it");
    assert_eq!(member.recv_message("r*"), "for it");
}
