//! Members of several dialects in one room: each gets its own form of every message, whoever sent it and from wherever.

use fanfare_tests::{Client, Frame, Launch, RawClient, Redis, Server, code, opcode, run_node};

/// A client of the dialect at this path.
fn raw(server: &Server, path: &str) -> RawClient {
    RawClient::upgraded_at(server.address(), path).expect("the path has a dialect")
}

/// A classic client that is in the room: nothing tells it so, but its own message comes back.
fn classic(server: &Server, path: &str, room: &str) -> RawClient {
    let mut client = raw(server, path);
    client.send_text(&format!(r#"{{"type":"SUBSCRIBE","room":"{room}"}}"#));
    client.send_text(&format!(r#"{{"type":"SEND_MESSAGE","roomId":"{room}","message":"here"}}"#));
    assert_eq!(client.recv_text(), "here");
    client
}

fn with_classic_default() -> Launch {
    Server::launch().flag("--default-dialect", "classic")
}

#[test]
fn each_gets_its_own_form_of_every_message() {
    let redis = Redis::start();
    let servers: [Server; 2] = std::array::from_fn(|_| Server::launch().redis(&redis).start());
    // Told that they are members; so whoever joins the room after them on their instance is a member at once.
    let mut fanfare = servers.each_ref().map(|server| Client::member(server, "r"));
    let mut bare = Vec::from(servers.each_ref().map(|server| raw(server, "/broadcast/r")));
    bare.push(raw(&servers[0], "/classic"));
    bare[2].send_text(r#"{"type":"SUBSCRIBE","room":"r"}"#);
    let mut everyone_gets = |json: &str, text: &str, bare: &mut [RawClient]| {
        for client in &mut fanfare {
            assert_eq!(client.recv_message("r"), serde_json::from_str::<serde_json::Value>(json).expect("JSON"));
        }
        for client in bare {
            assert_eq!(client.recv_text(), text);
        }
    };

    bare[2].send_text(r#"{"type":"SEND_MESSAGE","roomId":"r","message":"classic"}"#);
    everyone_gets(r#""classic""#, "classic", &mut bare);
    for (json, text) in
        [(r#"{"a" : [1.0, "é"]}"#, r#"{"a" : [1.0, "é"]}"#), (r#""say \"hi\"\n""#, "say \"hi\"\n"), ("null", "null")]
    {
        bare[2].send_text(&format!(r#"{{"type":"SEND_MESSAGE","roomId":"r","message":{json}}}"#));
        everyone_gets(json, text, &mut bare);
    }
    for text in ["from afar", r#"{"type":"SEND_MESSAGE","message":"no command here"}"#, ""] {
        bare[1].send_text(text);
        everyone_gets(&serde_json::Value::from(text).to_string(), text, &mut bare);
    }
    redis.cli(&["PUBLISH", "fanfare:r", "by hand"]);
    everyone_gets(r#""by hand""#, "by hand", &mut bare);
    let mut outsider = raw(&servers[1], "/classic");
    outsider.send_text(r#"{"type":"SEND_MESSAGE","roomId":"r","message":"from outside"}"#);
    everyone_gets(r#""from outside""#, "from outside", &mut bare);
}

#[test]
fn a_classic_client_needs_no_change() {
    // Through Redis, what a client says to a room before it is subscribed may pass before it is.
    let server = with_classic_default().embedded().start();
    let mut client = classic(&server, "/", "room1");
    // Errors and replies are for the other dialect.
    client.send_text(r#"{"type":"JUMP","id":1}"#);
    client.send_text(r#"{"type":"PING","id":2}"#);
    client.send_text(r#"{"type":"SUBSCRIBE","room":"room1","id":3}"#);
    client.send_text(r#"{"type":"SEND_MESSAGE","roomId":"room1","message":"Hello","id":4}"#);
    assert_eq!(client.recv_text(), "Hello");
    client.send_text(r#"{"type":"UNSUBSCRIBE","room":"room1"}"#);
    client.send_text(r#"{"type":"SEND_MESSAGE","roomId":"room1","message":"missed"}"#);
    client.send_text(r#"{"type":"SUBSCRIBE","room":"room2"}"#);
    client.send_text(r#"{"type":"SEND_MESSAGE","roomId":"room2","message":{"n":1}}"#);
    assert_eq!(client.recv_text(), r#"{"n":1}"#);
}

#[test]
fn a_classic_client_that_only_errs_is_closed() {
    let server = with_classic_default().flag("--limits-errors-max", 3).start();
    let mut client = raw(&server, "/ws");
    for _ in 0..4 {
        client.send_text("nonsense");
    }
    assert_eq!(client.recv_close(), Some(code::TOO_MANY_ERRORS));
}

#[test]
fn a_broadcaster_without_a_room_is_in_global_chat() {
    let server = Server::launch().start();
    let mut member = Client::member(&server, "global_chat");
    let mut broadcaster = raw(&server, "/broadcast");
    broadcaster.send_text("F1 0000000000000000 -\nforged");
    assert_eq!(broadcaster.recv_text(), "F1 0000000000000000 -\nforged");
    member.expect_message("global_chat", r#""F1 0000000000000000 -\nforged""#);
}

#[test]
fn a_room_in_the_path_is_checked_before_the_upgrade() {
    let server = Server::launch().start();
    let status = |path: &str| {
        RawClient::upgraded_at(server.address(), path).map(|_| 101).unwrap_or_else(|refusal| refusal.status)
    };
    assert_eq!(status("/broadcast/caf%C3%A9"), 101);
    assert_eq!(status("/broadcast/%0A"), 400);
    assert_eq!(status("/broadcast/%FF"), 400);
    assert_eq!(status(&format!("/broadcast/{}", "x".repeat(129))), 400);
    assert_eq!(status("/echo"), 404);
}

#[test]
fn echo_sends_text_and_binary_back() {
    let server = Server::launch().flag("--echo", "on").start();
    let mut client = raw(&server, "/echo");
    for frame in [Frame::text("héllo"), Frame::new(opcode::BINARY, [0, 255]), Frame::text("")] {
        client.send(&frame);
        assert_eq!(client.recv(), frame);
    }
}

#[test]
fn a_node_room_server_and_its_clients_are_served_together_with_ours() {
    let redis = Redis::start();
    let server = Server::launch().redis(&redis).args(["--redis-format", "classic", "--redis-prefix", ""]).start();
    let printed = run_node("tests/node/shared_rooms.mjs", &[&server.url(), &redis.url()], &[]);
    assert!(printed.contains("all is well"), "{printed}");
}
