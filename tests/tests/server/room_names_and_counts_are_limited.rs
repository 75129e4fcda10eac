//! Which names a room can have, and how many rooms a connection.

use fanfare_tests::{Client, Server};
use serde_json::json;

#[test]
fn names_of_1_to_128_bytes_are_rooms() {
    let server = Server::start();
    for room in [
        "r".to_owned(),
        "room 1".to_owned(),
        " ".to_owned(),
        "a/b:c*?[]".to_owned(),
        "\"quoted\" \\ back".to_owned(),
        "räume-😀".to_owned(),
        "x".repeat(128),
        "é".repeat(64),
        "😀".repeat(32),
    ] {
        let mut client = Client::member(&server, &room);
        client.publish(&room, r#""hello""#);
        client.expect_message(&room, r#""hello""#);
        client.unsubscribe(&room);
    }
}

#[test]
fn names_that_are_empty_or_too_long_or_hold_control_characters_are_invalid() {
    let server = Server::start();
    let mut client = Client::connect(&server);
    for room in [
        String::new(),
        "x".repeat(129),
        format!("{}x", "é".repeat(64)),
        "x".repeat(10_000),
        "a\0b".to_owned(),
        "a\nb".to_owned(),
        "\t".to_owned(),
        "\u{1f}".to_owned(),
        "\u{7f}".to_owned(),
    ] {
        for command in [
            json!({"type": "SUBSCRIBE", "room": room, "id": 1}),
            json!({"type": "SEND_MESSAGE", "roomId": room, "message": "m", "id": 1}),
        ] {
            client.send_json(&command);
            let error = client.expect_error("room_invalid");
            assert_eq!(error["id"], 1, "{room:?} -> {error}");
        }
    }
    client.fence();
}

#[test]
fn the_length_of_a_name_is_configured() {
    let server = Server::launch().flag("--limits-room-name-bytes-max", 5).start();
    let mut client = Client::connect(&server);
    client.subscribe("12345");
    client.send(r#"{"type":"SUBSCRIBE","room":"123456"}"#);
    client.expect_error("room_invalid");
}

#[test]
fn room_129_is_refused_until_one_is_left() {
    let server = Server::start();
    let mut client = Client::connect(&server);
    for number in 0..128 {
        client.subscribe(&format!("room {number}"));
    }
    client.send(r#"{"type":"SUBSCRIBE","room":"one too many","id":"x"}"#);
    let error = client.expect_error("too_many_rooms");
    assert_eq!(error["id"], "x");

    // One that it is in already is no further one.
    client.subscribe("room 5");
    client.unsubscribe("room 77");
    client.subscribe("one too many");
    client.send(r#"{"type":"SUBSCRIBE","room":"room 77"}"#);
    client.expect_error("too_many_rooms");

    // The refused one is not a room of this connection, the others are.
    client.publish("room 77", "0");
    for room in ["room 0", "room 127", "one too many"] {
        client.publish(room, "1");
        client.expect_message(room, "1");
    }
}

#[test]
fn the_number_of_rooms_is_configured() {
    let server = Server::launch().flag("--limits-rooms-per-connection-max", 2).start();
    let mut client = Client::connect(&server);
    client.subscribe("a");
    client.subscribe("b");
    client.send(r#"{"type":"SUBSCRIBE","room":"c"}"#);
    client.expect_error("too_many_rooms");
    // Each connection has its own count.
    Client::member(&server, "c");
}
