//! Every command and its reply: with a string as `id`, with an integer, without one.

use fanfare_tests::{Client, Server};
use serde_json::{Value, json};

/// Values that come back as they are, as JSON: integers of either sign beyond what a double holds exactly, strings up to
/// 64 bytes.
fn ids() -> Vec<Value> {
    let mut ids = vec![json!(0), json!(1), json!(-5), json!(9_007_199_254_740_993_i64), json!(i64::MAX)];
    ids.extend([json!(""), json!("a"), json!("é \"\\ \n 😀"), json!("x".repeat(64)), json!("é".repeat(32))]);
    ids
}

#[test]
fn subscribe_is_always_answered() {
    let server = Server::start();
    let mut client = Client::connect(&server);
    client.send(r#"{"type":"SUBSCRIBE","room":"r"}"#);
    client.expect(r#"{"type":"SUBSCRIBED","room":"r"}"#);
    for id in ids() {
        client.send(format!(r#"{{"type":"SUBSCRIBE","room":"r","id":{id}}}"#));
        client.expect_json(&json!({"type": "SUBSCRIBED", "room": "r", "id": id}));
    }
}

#[test]
fn unsubscribe_is_always_answered() {
    let server = Server::start();
    let mut client = Client::member(&server, "r");
    client.send(r#"{"type":"UNSUBSCRIBE","room":"r"}"#);
    client.expect(r#"{"type":"UNSUBSCRIBED","room":"r"}"#);
    for id in ids() {
        client.send(format!(r#"{{"type":"UNSUBSCRIBE","room":"r","id":{id}}}"#));
        client.expect_json(&json!({"type": "UNSUBSCRIBED", "room": "r", "id": id}));
    }
}

#[test]
fn a_message_with_an_id_is_acknowledged_and_one_without_is_not() {
    let server = Server::start();
    let mut client = Client::connect(&server);
    client.publish("r", "1");
    client.fence();
    for id in ids() {
        client.send(format!(r#"{{"type":"SEND_MESSAGE","roomId":"r","message":1,"id":{id}}}"#));
        client.expect_json(&json!({"type": "ACK", "id": id}));
    }
}

#[test]
fn a_member_that_sends_with_an_id_gets_message_and_acknowledgement() {
    let server = Server::start();
    let mut client = Client::member(&server, "r");
    client.send(r#"{"type":"SEND_MESSAGE","roomId":"r","message":"x","id":7}"#);
    client.expect_in_any_order(&[r#"{"type":"ACK","id":7}"#, r#"{"type":"MESSAGE","room":"r","message":"x"}"#]);
}

#[test]
fn ping_is_answered_with_pong() {
    let server = Server::start();
    let mut client = Client::connect(&server);
    client.send(r#"{"type":"PING"}"#);
    client.expect(r#"{"type":"PONG"}"#);
    for id in ids() {
        client.send(format!(r#"{{"type":"PING","id":{id}}}"#));
        client.expect_json(&json!({"type": "PONG", "id": id}));
    }
}

#[test]
fn replies_have_their_keys_in_a_fixed_order() {
    let server = Server::start();
    let mut client = Client::connect(&server);
    client.send(r#"{"id":1,"room":"r","type":"SUBSCRIBE"}"#);
    client.expect(r#"{"type":"SUBSCRIBED","room":"r","id":1}"#);
    client.send(r#"{"id":"b","type":"SEND_MESSAGE","message":1,"roomId":"other"}"#);
    client.expect(r#"{"type":"ACK","id":"b"}"#);
    client.send(r#"{"id":3,"type":"PING"}"#);
    client.expect(r#"{"type":"PONG","id":3}"#);
    client.send(r#"{"id":4,"room":"r","type":"UNSUBSCRIBE"}"#);
    client.expect(r#"{"type":"UNSUBSCRIBED","room":"r","id":4}"#);
    client.send(r#"{"room":"r","id":5,"type":"HISTORY"}"#);
    let error = client.recv();
    assert!(error.starts_with(r#"{"type":"ERROR","code":"history_unavailable","reason":""#), "{error}");
    assert!(error.contains(r#","id":5"#), "{error}");
}

#[test]
fn room_and_room_id_mean_the_same_everywhere() {
    let server = Server::start();
    let mut client = Client::connect(&server);
    client.send(r#"{"type":"SUBSCRIBE","roomId":"r"}"#);
    client.expect(r#"{"type":"SUBSCRIBED","room":"r"}"#);
    client.send(r#"{"type":"SEND_MESSAGE","room":"r","message":1}"#);
    client.expect_message("r", "1");
    client.send(r#"{"type":"SEND_MESSAGE","roomId":"r","message":2}"#);
    client.expect_message("r", "2");
    client.send(r#"{"type":"UNSUBSCRIBE","roomId":"r"}"#);
    client.expect(r#"{"type":"UNSUBSCRIBED","room":"r"}"#);
}

#[test]
fn unknown_fields_are_ignored() {
    let server = Server::start();
    let mut client = Client::connect(&server);
    client.send(r#"{"type":"SUBSCRIBE","room":"r","colour":"red","nested":{"type":"PING"},"list":[1]}"#);
    client.expect(r#"{"type":"SUBSCRIBED","room":"r"}"#);
    client.send(r#"{"x":null,"type":"SEND_MESSAGE","roomId":"r","y":[],"message":"m","time":1.5}"#);
    client.expect_message("r", r#""m""#);
    client.send(r#"{"type":"PING","room":5,"message":{}}"#);
    client.expect(r#"{"type":"PONG"}"#);
}

#[test]
fn white_space_around_tokens_means_nothing() {
    let server = Server::start();
    let mut client = Client::connect(&server);
    client.send(" {\n\t\"type\" : \"SUBSCRIBE\" ,\r\n \"room\":\"r\" } \n");
    client.expect(r#"{"type":"SUBSCRIBED","room":"r"}"#);
}

#[test]
fn escapes_in_names_and_types_are_resolved() {
    let server = Server::start();
    let mut client = Client::connect(&server);
    client.send(r#"{"type":"SUB\u0053CRIBE","\u0072oom":"\u0072\u00e9"}"#);
    client.expect(r#"{"type":"SUBSCRIBED","room":"ré"}"#);
    client.publish("ré", "1");
    client.expect_message("ré", "1");
}

#[test]
fn subscribing_again_is_confirmed_again_and_delivers_once() {
    let server = Server::start();
    let mut client = Client::connect(&server);
    for _ in 0..3 {
        client.subscribe("r");
    }
    client.publish("r", "1");
    client.expect_message("r", "1");
    client.fence();
    client.unsubscribe("r");
    client.publish("r", "2");
    client.fence();
}

#[test]
fn leaving_a_room_one_is_not_in_is_confirmed() {
    let server = Server::start();
    let mut client = Client::connect(&server);
    for _ in 0..3 {
        client.unsubscribe("never joined");
    }
}

#[test]
fn a_message_can_be_sent_to_a_room_one_is_not_in() {
    let server = Server::start();
    let mut member = Client::member(&server, "r");
    let mut stranger = Client::connect(&server);
    stranger.publish_acknowledged("r", r#""from outside""#);
    member.expect_message("r", r#""from outside""#);
    stranger.fence();
}

#[test]
fn echo_false_spares_the_sender_and_nobody_else() {
    let server = Server::start();
    let mut sender = Client::member(&server, "r");
    let mut other = Client::member(&server, "r");
    sender.send(r#"{"type":"SEND_MESSAGE","roomId":"r","message":1,"echo":false}"#);
    sender.send(r#"{"type":"SEND_MESSAGE","roomId":"r","message":2,"echo":true}"#);
    sender.send(r#"{"type":"SEND_MESSAGE","roomId":"r","message":3,"echo":false,"id":3}"#);
    sender.send(r#"{"type":"SEND_MESSAGE","roomId":"r","message":4}"#);
    for raw in ["1", "2", "3", "4"] {
        other.expect_message("r", raw);
    }
    sender.expect_in_any_order(&[
        r#"{"type":"MESSAGE","room":"r","message":2}"#,
        r#"{"type":"ACK","id":3}"#,
        r#"{"type":"MESSAGE","room":"r","message":4}"#,
    ]);
    sender.fence();
}
