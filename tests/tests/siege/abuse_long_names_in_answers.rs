//! An answer repeats no more of a room's name than a name may have: else a few compressed bytes make the server say 64 KiB.

use fanfare_tests::abuse::{INFLATED_BYTES, compressed, compressing};
use fanfare_tests::{RawClient, Server};
use serde_json::Value;

/// More than any answer needs: an id, a code, a reason, and a name of 128 bytes, each of which JSON may make six.
const ANSWER_BYTES_MAX: usize = 1_200;

/// Names that are too long, of characters of one to four bytes, so that no count of bytes is a boundary in all of them.
fn names() -> Vec<String> {
    ["x", "\u{e9}", "x\u{e9}", "\u{20ac}", "\u{1f600}", "\"", "\u{7f}"]
        .map(|unit| {
            let bytes = unit.len().max(Value::from(unit).to_string().len() - 2);
            unit.repeat((INFLATED_BYTES - 200) / bytes)
        })
        .into()
}

/// The next text must be an `ERROR` that is short, and names the room as far as a name may be long, or not at all; gives its code.
#[track_caller]
fn expect_short_error(client: &mut RawClient, name: &str, name_bytes_max: usize) -> String {
    let text = client.recv_text();
    assert!(text.len() <= ANSWER_BYTES_MAX, "{} bytes: {}...", text.len(), text.chars().take(200).collect::<String>());
    let error: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert_eq!((&error["type"], &error["id"]), (&"ERROR".into(), &7.into()), "{text}");
    if let Some(room) = error["room"].as_str().filter(|room| *room != "r") {
        assert!(room.len() <= name_bytes_max && name.starts_with(room), "{text}");
    }
    error["code"].as_str().expect("a code").to_owned()
}

#[test]
fn an_error_repeats_no_more_than_a_valid_name_may_have() {
    let server = Server::start();
    for name in names() {
        let json = Value::from(name.as_str());
        let mut client = compressing(server.address(), "/fanfare", 15);
        for command in [
            format!(r#"{{"type":"SUBSCRIBE","room":{json},"id":7}}"#),
            format!(r#"{{"type":"UNSUBSCRIBE","room":{json},"id":7}}"#),
            format!(r#"{{"type":"SEND_MESSAGE","roomId":{json},"message":1,"id":7}}"#),
        ] {
            client.write(compressed(&command));
            assert_eq!(expect_short_error(&mut client, &name, 128), "room_invalid");
        }
        // With something else that is wrong, whichever of the two is told.
        for command in [
            format!(r#"{{"type":"SEND_MESSAGE","roomId":{json},"id":7}}"#),
            format!(r#"{{"type":"SEND_MESSAGE","room":"r","roomId":{json},"message":1,"id":7}}"#),
            format!(r#"{{"type":"SUBSCRIBE","room":{json},"since":1,"id":7}}"#),
            format!(r#"{{"type":"PRESENCE","room":{json},"id":7}}"#),
            format!(r#"{{"type":"KNOCK","room":{json},"id":7}}"#),
            format!(r#"{{"type":{json},"room":"r","id":7}}"#),
        ] {
            client.write(compressed(&command));
            expect_short_error(&mut client, &name, 128);
        }
    }
}

#[test]
fn a_shorter_limit_of_names_is_one_of_answers_too() {
    let server = Server::launch().flag("--limits-room-name-bytes-max", 21).start();
    for name in names().iter().map(|name| name.chars().take(40).collect::<String>()) {
        let mut client = RawClient::upgraded(server.address());
        client.send_text(&format!(r#"{{"type":"SUBSCRIBE","room":{},"id":7}}"#, Value::from(name.as_str())));
        assert_eq!(expect_short_error(&mut client, &name, 21), "room_invalid");
    }
}

#[test]
fn a_valid_name_is_repeated_whole() {
    let server = Server::start();
    let name = "\u{e9}".repeat(64);
    let mut client = RawClient::upgraded(server.address());
    client.send_text(&format!(r#"{{"type":"SEND_MESSAGE","roomId":"{name}","id":7}}"#));
    let error: Value = serde_json::from_str(&client.recv_text()).expect("JSON");
    assert_eq!(error["room"], name.as_str(), "{error}");
}
