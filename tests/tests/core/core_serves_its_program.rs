//! The program that a core is a part of publishes, reads and asks without a connection, and neither rights nor limits hold for it.

use fanfare_core::history::Retention;
use fanfare_core::rules::{Rule, Rules};
use fanfare_core::{Config, ConnId, Event};
use fanfare_tests::config;
use fanfare_tests::embedded::Embedded;
use fanfare_tests::lone_core::text_to;
use serde_json::{Value, json};
use std::time::Duration;

fn with_histories(change: impl FnOnce(&mut Config)) -> Embedded {
    Embedded::new(config(|config| {
        let mut rule = Rule::new("h*".parse().expect("a pattern"));
        rule.history = Some(Retention { messages_max: 100, bytes_max: 100_000, age_max: Duration::from_secs(60) });
        config.rules = Rules::new(vec![rule]).expect("a rule");
        change(config);
    }))
}

/// What the program is answered, once all has been answered.
fn ask(embedded: &mut Embedded, command: &Value) -> Vec<Value> {
    let text = command.to_string();
    embedded.turn(|turn| turn.feed(Event::Command { text: &text, user: None }));
    embedded.lone.core.replies().map(|text| serde_json::from_slice(&text).expect("JSON")).collect()
}

#[test]
fn what_it_publishes_reaches_members_and_is_acknowledged_with_its_position() {
    let mut embedded = with_histories(|_| {});
    let member = embedded.client("/?room=h&room=a");
    let plain = ask(&mut embedded, &json!({"type": "SEND_MESSAGE", "room": "a", "message": [1], "id": 1}));
    assert_eq!(plain, [json!({"type": "ACK", "id": 1})]);
    let stored = ask(&mut embedded, &json!({"type": "SEND_MESSAGE", "room": "h", "message": "x", "id": "b"}));
    assert_eq!((&stored[0]["id"], &stored[0]["offset"]), (&json!("b"), &json!(1)));
    let text = text_to(&embedded.said, member);
    assert!(text.contains(r#"{"type":"MESSAGE","room":"a","message":[1]}"#), "{text}");
    assert!(text.contains(r#"{"type":"MESSAGE","room":"h","message":"x","offset":1}"#), "{text}");
    assert_eq!(embedded.lone.core.connections(), 1, "it is no connection");
}

#[test]
fn a_key_has_its_message_stored_once() {
    let mut embedded = with_histories(|_| {});
    let command =
        json!({"type": "SEND_MESSAGE", "room": "h", "message": "x", "id": 1, "key": "0123456789012345678901"});
    let first = ask(&mut embedded, &command);
    assert_eq!(first[0]["offset"], 1);
    assert_eq!(ask(&mut embedded, &command), first);
}

#[test]
fn its_keys_are_its_own() {
    let mut embedded = with_histories(|_| {});
    let stranger = embedded.client("/");
    let key = "0123456789012345678901";
    for marks in ["\u{1}\u{1}", "\u{1}"] {
        let mut command = json!({"type": "SEND_MESSAGE", "room": "h", "message": "stranger's", "id": 1});
        command["key"] = format!("{marks}{key}").into();
        embedded.said.clear();
        embedded.command(stranger, &command.to_string());
        assert!(text_to(&embedded.said, stranger).contains("bad_field"), "{marks:?}");
    }
    let command = json!({"type": "SEND_MESSAGE", "room": "h", "message": "the program's", "id": 1, "key": key});
    assert_eq!(ask(&mut embedded, &command)[0]["offset"], 1);
}

#[test]
fn it_reads_what_rooms_keep() {
    let mut embedded = with_histories(|_| {});
    let sender = embedded.client("/");
    embedded.publish(sender, "h", 1..4, 0);
    let page = ask(&mut embedded, &json!({"type": "HISTORY", "room": "h", "limit": 2, "before": 1000, "id": 1}));
    let offsets: Vec<_> = page[0]["messages"].as_array().expect("messages").iter().map(|one| &one["offset"]).collect();
    assert_eq!(offsets, [2, 3], "{page:?}");
}

#[test]
fn no_limit_holds_for_it_and_whatever_is_refused_is_said() {
    let mut embedded = with_histories(|config| config.limits.errors_max = 1);
    for number in 0..2_000 {
        let answer = ask(&mut embedded, &json!({"type": "SEND_MESSAGE", "room": "a", "message": "x", "id": number}));
        assert_eq!(answer, [json!({"type": "ACK", "id": number})]);
    }
    for number in 0..5 {
        for (command, code) in [
            (json!({"type": "SUBSCRIBE", "room": "a", "id": number}), "unknown_type"),
            (json!({"type": "SEND_MESSAGE", "room": "", "message": 1, "id": number}), "room_invalid"),
            (json!({"type": "HISTORY", "room": "a", "limit": 1, "before": 5, "id": number}), "history_unavailable"),
            (json!({"type": "PRESENCE", "room": "a", "id": number}), "presence_unavailable"),
        ] {
            let answer = ask(&mut embedded, &command);
            assert_eq!((&answer[0]["code"], &answer[0]["id"]), (&json!(code), &json!(number)), "{command}");
        }
    }
}

#[test]
fn it_goes_on_while_clients_are_let_go_and_is_in_nobodys_way() {
    let mut embedded = with_histories(|_| {});
    ask(&mut embedded, &json!({"type": "PING", "id": 1}));
    let clients: Vec<ConnId> = (0..3).map(|_| embedded.client("/?room=a")).collect();
    embedded.turn(|turn| turn.feed(Event::Shutdown));
    let answer = ask(&mut embedded, &json!({"type": "SEND_MESSAGE", "room": "a", "message": "x", "id": 2}));
    assert_eq!(answer, [json!({"type": "ACK", "id": 2})]);
    for conn in clients {
        embedded.turn(|turn| turn.feed(Event::Closed { conn }));
    }
    assert_eq!(embedded.lone.core.connections(), 0);
}
