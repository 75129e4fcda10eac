//! Every refusal of a command that needs no Redis: its code, its id, and that the connection stays open.

use fanfare_tests::{Client, Server, code};
use serde_json::{Value, json};

/// Sends the command without an id, with an integer and with a string; each is refused with the code, and carries what
/// was given. The connection stays open.
#[track_caller]
fn expect_refusal(client: &mut Client, command: &Value, code: &str) {
    for id in [None, Some(json!(17)), Some(json!("seventeen"))] {
        let mut command = command.clone();
        if let Some(id) = &id {
            command["id"] = id.clone();
        }
        client.send_json(&command);
        let error = client.expect_error(code);
        assert_eq!(error.get("id"), id.as_ref(), "{command} -> {error}");
        client.fence();
    }
}

#[test]
fn what_is_not_json_is_bad_json() {
    let server = Server::start();
    let mut client = Client::connect(&server);
    for text in
        ["", " ", "hello", "{", "{\"type\":}", "{'type':'PING'}", "{\"type\":\"PING\"} x", "{\"type\":\"PING\",}"]
    {
        client.send(text);
        let error = client.expect_error("bad_json");
        assert_eq!(error.get("id"), None, "{text:?} -> {error}");
    }
    client.fence();
}

#[test]
fn json_that_is_no_object_is_refused() {
    let server = Server::start();
    let mut client = Client::connect(&server);
    for text in ["[]", "1", "null", "true", "\"PINGS\"", "[{\"type\":\"PING\"}]"] {
        client.send(text);
        let error = client.recv_json();
        assert_eq!(error["type"], "ERROR", "{text} -> {error}");
        assert!(matches!(error["code"].as_str(), Some("bad_json" | "bad_field")), "{text} -> {error}");
    }
    client.fence();
}

#[test]
fn deeply_nested_json_neither_kills_nor_hangs() {
    let server = Server::start();
    let mut client = Client::connect(&server);
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let depth = 65_000 / open.len().max(close.len()) / 2;
        client.send(format!("{}1{}", open.repeat(depth), close.repeat(depth)));
        assert_eq!(client.recv_json()["type"], "ERROR");
    }
    client.send(format!(r#"{{"type":"PING","x":{}{}}}"#, "[".repeat(30_000), "]".repeat(30_000)));
    let reply = client.recv_json();
    assert!(matches!(reply["type"].as_str(), Some("PONG" | "ERROR")), "{reply}");
    client.fence();
}

#[test]
fn a_type_nobody_knows_is_unknown() {
    let server = Server::start();
    let mut client = Client::connect(&server);
    for kind in ["NOPE", "", "subscribe", "MESSAGE", "SUBSCRIBED"] {
        expect_refusal(&mut client, &json!({"type": kind, "room": "r"}), "unknown_type");
    }
}

#[test]
fn what_a_command_needs_is_asked_for() {
    let server = Server::start();
    let mut client = Client::connect(&server);
    for command in [
        json!({}),
        json!({"room": "r"}),
        json!({"type": "SUBSCRIBE"}),
        json!({"type": "UNSUBSCRIBE"}),
        json!({"type": "SEND_MESSAGE"}),
        json!({"type": "SEND_MESSAGE", "roomId": "r"}),
        json!({"type": "SEND_MESSAGE", "message": "m"}),
    ] {
        expect_refusal(&mut client, &command, "missing_field");
    }
}

#[test]
fn a_field_of_the_wrong_kind_is_bad() {
    let server = Server::start();
    let mut client = Client::connect(&server);
    for command in [
        json!({"type": 5}),
        json!({"type": ["PING"]}),
        json!({"type": "SUBSCRIBE", "room": 5}),
        json!({"type": "SUBSCRIBE", "room": ["r"]}),
        json!({"type": "SUBSCRIBE", "room": {"name": "r"}}),
        json!({"type": "UNSUBSCRIBE", "room": true}),
        json!({"type": "SEND_MESSAGE", "roomId": 1.5, "message": "m"}),
        json!({"type": "SEND_MESSAGE", "roomId": "r", "message": "m", "echo": "no"}),
        json!({"type": "SEND_MESSAGE", "roomId": "r", "message": "m", "echo": 0}),
    ] {
        expect_refusal(&mut client, &command, "bad_field");
    }
}

#[test]
fn an_id_that_is_neither_short_string_nor_integer_is_bad() {
    let server = Server::start();
    let mut client = Client::connect(&server);
    for id in [json!("x".repeat(65)), json!("é".repeat(33)), json!(1.5), json!(true), json!([1]), json!({"a": 1})] {
        for command in [
            json!({"type": "PING", "id": id}),
            json!({"type": "SUBSCRIBE", "room": "r", "id": id}),
            json!({"type": "SEND_MESSAGE", "roomId": "r", "message": "m", "id": id}),
        ] {
            client.send_json(&command);
            let error = client.expect_error("bad_field");
            assert_eq!(error.get("id"), None, "{command} -> {error}");
        }
    }
    client.fence();
}

#[test]
fn a_refused_command_has_no_effect() {
    let server = Server::start();
    let mut client = Client::connect(&server);
    client.send_json(&json!({"type": "SUBSCRIBE", "room": "r", "id": 1.5}));
    client.expect_error("bad_field");
    client.send_json(&json!({"type": "SUBSCRIBE", "room": "r", "history": "5"}));
    client.expect_error("bad_field");
    let mut member = Client::member(&server, "r");
    member.publish("r", "1");
    member.expect_message("r", "1");
    client.fence();
}

#[test]
fn what_the_server_does_not_have_is_not_supported() {
    let server = Server::start();
    let mut client = Client::connect(&server);
    expect_refusal(&mut client, &json!({"type": "AUTH", "token": "t"}), "not_supported");
}

#[test]
fn a_room_without_presence_says_so() {
    let server = Server::start();
    let mut client = Client::connect(&server);
    expect_refusal(&mut client, &json!({"type": "PRESENCE", "room": "r"}), "presence_unavailable");
    let subscribe = json!({"type": "SUBSCRIBE", "room": "r", "presence": true});
    expect_refusal(&mut client, &subscribe, "presence_unavailable");
}

#[test]
fn a_room_without_history_says_so() {
    let server = Server::start();
    let mut client = Client::connect(&server);
    let key = "a-key-of-22-characters";
    expect_refusal(&mut client, &json!({"type": "HISTORY", "room": "r", "limit": 10}), "history_unavailable");
    let keyed = json!({"type": "SEND_MESSAGE", "roomId": "r", "message": "m", "key": key});
    expect_refusal(&mut client, &keyed, "key_unsupported");
    client.send(r#"{"type":"SUBSCRIBE","room":"a","history":10}"#);
    client.expect(r#"{"type":"SUBSCRIBED","room":"a"}"#);
    client.send(r#"{"type":"SUBSCRIBE","room":"b","since":{"epoch":"1-00","offset":1}}"#);
    client.expect(r#"{"type":"SUBSCRIBED","room":"b","recovered":false}"#);
}

#[test]
fn a_binary_frame_is_refused() {
    let server = Server::start();
    let mut client = Client::connect(&server);
    for bytes in [b"".as_slice(), b"\xff\x00", br#"{"type":"PING"}"#] {
        client.send_binary(bytes);
        client.expect_error("binary_not_supported");
    }
    client.fence();
}

#[test]
fn errors_name_the_room_they_are_about() {
    let server = Server::start();
    let mut client = Client::connect(&server);
    client.send(r#"{"type":"HISTORY","room":"r","id":2}"#);
    let error = client.expect_error("history_unavailable");
    // The room is told where it is known; here it is.
    assert!(error.get("room").is_none_or(|room| room == "r"), "{error}");
}

#[test]
fn too_many_malformed_commands_close_with_4509() {
    let server = Server::launch().flag("--limits-errors-max", 5).start();
    let mut client = Client::connect(&server);
    for _ in 0..4 {
        client.send("nonsense");
        client.expect_error("bad_json");
    }
    // A good command forgives one.
    client.fence();
    for _ in 0..2 {
        client.send("nonsense");
        client.expect_error("bad_json");
    }
    client.send("nonsense");
    assert_eq!(client.skip_to_close(), code::TOO_MANY_ERRORS);
}

#[test]
fn the_errors_of_one_connection_are_not_those_of_another() {
    let server = Server::launch().flag("--limits-errors-max", 3).start();
    let mut other = Client::member(&server, "r");
    for _ in 0..3 {
        let mut client = Client::connect(&server);
        for _ in 0..4 {
            client.send("nonsense");
        }
        assert_eq!(client.skip_to_close(), code::TOO_MANY_ERRORS);
    }
    other.publish("r", "1");
    other.expect_message("r", "1");
}
