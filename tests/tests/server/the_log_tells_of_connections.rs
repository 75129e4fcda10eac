//! At `debug` the log has a line for what becomes of each connection, at `info` one for many refusals; neither lets a client write
//! lines of its own.

use fanfare_tests::{Client, RawClient, Server, eventually};
use serde_json::Value;

fn lines(server: &Server, message: &str) -> Vec<Value> {
    let text = server.log().text();
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["message"] == message).collect()
}

fn wait_for(server: &Server, message: &str, holds: impl Fn(&Value) -> bool) -> Value {
    eventually(message, || lines(server, message).into_iter().find(&holds))
}

/// A page of this origin asks for a WebSocket, and may have none.
fn refuse_page(server: &Server, origin: &str) {
    let fields = format!("Origin: {origin}\r\n");
    let refused = RawClient::upgraded_with(server.address(), "/", &fields).err().expect("a refusal");
    assert_eq!(refused.status, 403);
}

#[test]
fn a_connection_is_followed_from_its_beginning_to_its_end() {
    let server = Server::launch().flag("--log-level", "debug").start();
    let mut client = Client::member(&server, "tea");
    let joined = wait_for(&server, "room joined", |line| line["room"] == "tea");
    let conn = joined["conn"].clone();
    let peer = wait_for(&server, "connection accepted", |line| line["conn"] == conn)["peer"].clone();
    assert!(peer.as_str().is_some_and(|peer| peer.starts_with("127.0.0.1:")), "{peer}");
    let opened = wait_for(&server, "connection opened", |line| line["conn"] == conn);
    assert_eq!(opened["dialect"], "Fanfare");
    client.send("nonsense");
    assert_eq!(wait_for(&server, "command refused", |line| line["conn"] == conn)["code"], "bad_json");
    client.send(r#"{"type":"UNSUBSCRIBE","room":"tea"}"#);
    wait_for(&server, "room left", |line| line["conn"] == conn && line["room"] == "tea");
    // Past what it has been answered, to its end.
    client.leave();
    let closed = wait_for(&server, "connection closed", |line| line["conn"] == conn);
    assert_eq!(closed["reason"], "the client closed", "{closed}");
    assert_eq!(closed["messages"].as_u64(), Some(3), "{closed}");
    assert!(closed["age_ms"].is_u64(), "{closed}");
}

#[test]
fn refusals_are_told_one_by_one_at_debug_and_counted_at_info() {
    for level in ["debug", "info"] {
        let flags = ["--origins", "https://example.com", "--log-level", level];
        let server = Server::launch().args(flags).start();
        for _ in 0..5 {
            refuse_page(&server, "https://elsewhere.example");
        }
        let told = wait_for(&server, "requests refused", |line| line["outcome"] == "refused_origin");
        assert_eq!(told["count"].as_u64(), Some(1), "the first is told at once");
        assert_eq!(told["origin"], "https://elsewhere.example");
        if level == "debug" {
            eventually("a line for each", || {
                let refused = lines(&server, "request refused");
                let of_page = |line: &&Value| line["status"] == 403 && line["origin"] == "https://elsewhere.example";
                (refused.iter().filter(of_page).count() == 5).then_some(())
            });
        } else {
            assert!(lines(&server, "request refused").is_empty() && lines(&server, "connection accepted").is_empty());
            assert_eq!(lines(&server, "requests refused").len(), 1, "the others wait for company");
        }
    }
}

#[test]
fn clients_write_no_lines_of_their_own() {
    let mut server = Server::launch().flag("--log-level", "debug").start();
    let mut client = Client::connect(&server);
    client.send("{\"type\":\"SUBSCRIBE\",\"room\":\"a\\nforged \\u001b[31m\",\"id\":1}");
    let refused = wait_for(&server, "command refused", |line| line["code"] == "room_invalid");
    assert_eq!(refused["room"], r"a\nforged \u{1b}[31m");
    client.send(format!(r#"{{"type":"SUBSCRIBE","room":"{}"}}"#, "x".repeat(60_000)));
    let long = |line: &Value| line["room"].as_str().is_some_and(|room| room.starts_with("xxx"));
    let refused = wait_for(&server, "command refused", long);
    assert_eq!(refused["room"].as_str().map(str::len), Some(128));
    drop(client);
    refuse_page(&server, "https://\u{202e}");
    let page = |line: &Value| line["status"] == 403;
    assert_eq!(wait_for(&server, "request refused", page)["origin"], r"https://\u{202e}");
    assert_eq!(wait_for(&server, "requests refused", |_| true)["origin"], r"https://\u{202e}");
    refuse_page(&server, &"x".repeat(5_000));
    let refused =
        wait_for(&server, "request refused", |line| line["origin"].as_str().is_some_and(|it| it.starts_with('x')));
    assert_eq!(refused["origin"].as_str().map(str::len), Some(200));
    assert!(!server.log_to_its_end().text().contains("\nforged"));
}
