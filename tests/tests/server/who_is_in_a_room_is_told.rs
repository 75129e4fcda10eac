//! Who is in a room: members are told who is there and who comes and goes, with what their credentials tell others of them.

use fanfare_tests::{Client, Launch, Server, eventually};
use serde_json::{Value, json};

const SECRET: &str = "a secret of thirty-two bytes or more";
const RULES: &str =
    "[[rooms]]\nmatch = \"chat:*\"\npresence = true\n\n[[rooms]]\nmatch = \"quiet\"\npresence = \"nobody\"\n";

fn launch() -> Launch {
    Server::launch().file(RULES).flag("--auth-secret", SECRET).flag("--auth-own-rooms", "off")
}

/// Connects as this user, of whom others are told this.
fn connect(server: &Server, user: &str, info: Option<&str>) -> Client {
    let more = info.map(|info| ["--info", info]);
    let arguments = ["token", "--user", user].into_iter().chain(more.into_iter().flatten());
    let output = Server::launch().flag("--auth-secret", SECRET).args(arguments).run();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let token = String::from_utf8(output.stdout).expect("a token in UTF-8");
    Client::connect_to(server.address(), &format!("/ws?token={}", token.trim_end()))
}

fn answer(client: &mut Client, room: &str) -> Value {
    client.send_json(&json!({ "type": "PRESENCE", "room": room, "id": 1 }));
    client.recv_json()
}

#[test]
fn members_are_told_who_is_there_and_who_comes_and_goes() {
    let server = launch().flag("--presence-linger-ms", 0).start();
    let mut alice = connect(&server, "alice", Some(r#"{ "name": "Alice" }"#));
    alice.subscribe("chat:1");
    let alone = json!({
        "type": "PRESENT", "room": "chat:1", "id": 1,
        "users": [{ "user": "alice", "connections": 1, "info": { "name": "Alice" } }], "total": 1, "more": false,
    });
    eventually("alice is there", || (answer(&mut alice, "chat:1") == alone).then_some(()));

    let mut bob = connect(&server, "bob", None);
    bob.send(r#"{"type":"SUBSCRIBE","room":"chat:1","presence":true}"#);
    bob.expect_json(&json!({ "type": "SUBSCRIBED", "room": "chat:1" }));
    let present = bob.recv_json();
    assert_eq!(
        (&present["type"], &present["id"], &present["users"][0]),
        (&json!("PRESENT"), &Value::Null, &alone["users"][0])
    );
    // Whether bob's own coming was known when he was told who is there is a matter of time.
    if present["total"] == 1 {
        bob.expect_json(&json!({ "type": "JOINED", "room": "chat:1", "user": "bob" }));
    }
    let mut carol = connect(&server, "carol", Some("[7]"));
    carol.subscribe("chat:1");
    bob.expect_json(&json!({ "type": "JOINED", "room": "chat:1", "user": "carol", "info": [7] }));
    carol.unsubscribe("chat:1");
    bob.expect_json(&json!({ "type": "LEFT", "room": "chat:1", "user": "carol" }));
    alice.leave();
    bob.expect_json(&json!({ "type": "LEFT", "room": "chat:1", "user": "alice" }));
}

#[test]
fn a_user_who_comes_back_in_time_has_not_left() {
    let server = launch().flag("--presence-linger-ms", 600_000).start();
    let mut bob = connect(&server, "bob", None);
    bob.send(r#"{"type":"SUBSCRIBE","room":"chat:1","presence":true}"#);
    bob.expect_json(&json!({ "type": "SUBSCRIBED", "room": "chat:1" }));
    if bob.recv_json()["total"] == 0 {
        bob.expect_json(&json!({ "type": "JOINED", "room": "chat:1", "user": "bob" }));
    }
    let joined = |user: &str| json!({ "type": "JOINED", "room": "chat:1", "user": user });
    let mut alice = connect(&server, "alice", None);
    alice.subscribe("chat:1");
    bob.expect_json(&joined("alice"));
    alice.leave();
    connect(&server, "alice", None).subscribe("chat:1");
    connect(&server, "eve", None).subscribe("chat:1");
    bob.expect_json(&joined("eve"));
}

#[test]
fn whoever_may_not_see_who_is_there_is_refused() {
    let server = launch().start();
    let mut bob = connect(&server, "bob", None);
    for (room, code) in [("quiet", "forbidden"), ("lobby", "presence_unavailable")] {
        bob.send_json(&json!({ "type": "PRESENCE", "room": room }));
        bob.expect_error(code);
        bob.send_json(&json!({ "type": "SUBSCRIBE", "room": room, "presence": true }));
        bob.expect_error(code);
        bob.subscribe(room);
    }
}
