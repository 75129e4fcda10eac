//! Backends publish, read and ask by the HTTP API, of whatever instance they like, as far as their keys go.

use fanfare_tests::backend::{ALL, READER, ask_api, assert_problem, json_of, keys, with_api};
use fanfare_tests::{Authority, Client, Launch, Redis, Response, Server, connect_tls, http, stored};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;

fn launch() -> Launch {
    with_api(stored::server())
}

fn publish(server: &Server, room: &str, body: &Value) -> Response {
    ask_api(server, ALL, &format!("POST /v1/rooms/{room}/messages"), "", &body.to_string())
}

#[test]
fn what_is_published_reaches_members_everywhere() {
    let redis = Redis::start();
    let servers = [0, 1].map(|_| stored::launch(&redis.url()).api(&keys()).start());
    let mut member = Client::connect(&servers[1]);
    member.subscribe("plain");
    let plain = publish(&servers[0], "plain", &json!({"message": {"a": [1, "é"]}}));
    assert_eq!((plain.status, json_of(&plain)), (200, json!({"room": "plain"})));
    assert_eq!(member.recv_json()["message"], json!({"a": [1, "é"]}));
    let kept = json_of(&publish(&servers[0], "chat:1", &json!({"message": "x"})));
    assert_eq!((&kept["room"], &kept["offset"]), (&json!("chat:1"), &json!(1)), "{kept}");
    let page = json_of(&ask_api(&servers[1], READER, "GET /v1/rooms/chat:1/messages?limit=10", "", ""));
    assert_eq!((&page["epoch"], &page["messages"][0]["message"]), (&kept["epoch"], &json!("x")), "{page}");
}

#[test]
fn a_message_travels_byte_for_byte() {
    let server = launch().start();
    let mut member = Client::connect(&server);
    member.subscribe("a");
    let message = r#"{"z":1, "a" : 1.50, "é":"\u00e9", "n":12345678901234567890123}"#;
    let response =
        ask_api(&server, ALL, "POST /v1/rooms/a/messages", "", &format!(r#"{{"store":true,"message":{message}}}"#));
    assert_eq!(response.status, 200, "{}", response.text());
    let text = member.recv();
    assert!(text.ends_with(&format!(r#","message":{message}}}"#)), "{text}");
}

#[test]
fn a_key_has_a_message_stored_once() {
    let server = launch().start();
    let send = |text: &str| {
        let body = json!({"message": text}).to_string();
        ask_api(&server, ALL, "POST /v1/rooms/chat:1/messages", "Idempotency-Key: order-17\r\n", &body)
    };
    let first = json_of(&send("a"));
    assert_eq!(first["offset"], 1);
    assert_eq!(json_of(&send("a")), first);
    assert_problem(&send("b"), 422, "key_reused");
}

#[test]
fn a_batch_tells_what_became_of_each() {
    let server = launch().start();
    let batch = json!({"messages": [
        {"room": "chat:1", "message": 1}, {"room": "chat:1", "message": 2}, {"room": "plain", "message": 3, "key": "k"},
        {"user": "ann b", "message": 4}, {"message": 5}
    ]});
    let answer = json_of(&ask_api(&server, ALL, "POST /v1/publish", "", &batch.to_string()));
    let results = answer["results"].as_array().expect("results");
    assert_eq!((&results[0]["offset"], &results[1]["offset"]), (&json!(1), &json!(2)), "{answer}");
    assert_eq!(results[2]["problem"]["code"], "key_unsupported");
    assert_eq!(results[3]["room"], "user:ann%20b");
    assert_eq!(results[4]["problem"]["code"], "bad_field");
}

#[test]
fn keys_say_who_may_ask_what() {
    let server = launch().start();
    let body = json!({"message": 1}).to_string();
    assert_problem(&ask_api(&server, READER, "POST /v1/rooms/a/messages", "", &body), 403, "forbidden");
    for wrong in ["", "x", &ALL[1..]] {
        let refused = ask_api(&server, wrong, "POST /v1/rooms/a/messages", "", &body);
        assert_problem(&refused, 401, "unauthorised");
        assert_eq!(refused.field("www-authenticate"), Some("Bearer"));
    }
    let document =
        http(server.api_address(), "GET /v1/openapi.json HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    assert_eq!(json_of(&document)["openapi"], "3.1.0");
}

#[test]
fn what_is_wrong_is_told() {
    let server = launch().start();
    let post = |body: &str| ask_api(&server, ALL, "POST /v1/rooms/a/messages", "", body);
    assert_problem(&post("{"), 400, "bad_json");
    assert_problem(&post("{}"), 400, "bad_json");
    assert_problem(&post(r#"{"message":1,"massage":2}"#), 400, "bad_json");
    assert_problem(&post(&format!(r#"{{"message":"{}"}}"#, "x".repeat(70_000))), 413, "message_too_large");
    assert_problem(&post(&format!(r#"{{"message":"{}"}}"#, "x".repeat(400_000))), 413, "body_too_large");
    let control = ask_api(&server, ALL, "POST /v1/rooms/a%0A/messages", "", r#"{"message":1}"#);
    assert_problem(&control, 400, "room_invalid");
    let get = |path: &str| ask_api(&server, ALL, &format!("GET {path}"), "", "");
    assert_problem(&get("/v1/rooms/a/messages"), 409, "history_unavailable");
    assert_problem(&get("/v1/rooms/a/presence"), 409, "presence_unavailable");
    assert_problem(&get("/v1/rooms/chat:1/messages?limit=x"), 400, "bad_query");
    assert_problem(&get("/v1/rooms/chat:1/messages?after=1&before=2"), 400, "bad_query");
    assert_problem(&get("/v1/nothing"), 404, "not_found");
    assert_problem(&ask_api(&server, ALL, "PUT /v1/publish", "", ""), 405, "method_not_allowed");
}

#[test]
fn keys_that_are_wrong_are_told_before_anything_opens() {
    let output = Server::launch().flag("--api-listen", "127.0.0.1:0").args(["check-config"]).run();
    let text = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(output.status.code() != Some(0) && text.contains("api.keys_file"), "{text}");
    let server = Server::launch().api("[[keys]]\nname = \"a\"\nkey = \"short\"\nrights = []\n").run();
    let text = String::from_utf8_lossy(&server.stderr);
    assert!(text.contains("fewer than 32 bytes") && !text.contains("short"), "{text}");
}

#[test]
fn backends_may_have_to_connect_by_tls() {
    let authority = Authority::new();
    let server = launch().tls(&authority).flag("--api-tls", "on").start();
    let mut stream = connect_tls(server.api_address(), &authority.client(), "localhost");
    let request = format!(
        "GET /v1/rooms/chat:1/messages HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {READER}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).expect("it is taken");
    let mut response = String::new();
    stream.read_to_string(&mut response).expect("it is answered");
    assert!(response.starts_with("HTTP/1.1 200 ") && response.contains(r#""room":"chat:1""#), "{response}");
    // Without TLS nobody is answered.
    let mut plain = TcpStream::connect(server.api_address()).expect("it listens");
    plain.write_all(request.as_bytes()).expect("it is taken");
    let mut response = Vec::new();
    let _ = plain.read_to_end(&mut response);
    assert!(!response.starts_with(b"HTTP"), "{response:?}");
    let wrong = with_api(Server::launch()).flag("--api-tls", "on").run();
    let text = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert!(text.contains("api.tls") && text.contains("there is no certificate"), "{text}");
}
