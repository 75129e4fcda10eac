//! `before_publish`: an endpoint of the operator's is asked about each message of a client, and allows, alters or refuses it. What happens
//! while it does not answer is a setting. Its requests are signed, which the library of the specification's authors verifies.

use fanfare_tests::{Asked, Client, Endpoint, Launch, Server, eventually, run_node};
use serde_json::{Value, json};
use std::net::TcpListener;
use std::sync::Mutex;
use std::sync::mpsc;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn launch(url: &str, more: &str) -> Launch {
    let text = format!(
        "[[hooks]]\nname = \"words\"\nurl = \"{url}\"\nsecret_file = \"SECRET\"\n{more}\n\
         [[rooms]]\nmatch = \"chat:*\"\nbefore_publish = \"words\"\n"
    );
    Server::launch().file_with_secret(&text, SECRET)
}

/// Longer than any of these tests takes, so that a slow answer is never taken for an outage.
fn patient(url: &str) -> Launch {
    launch(url, "timeout_ms = 60000")
}

/// What an endpoint is asked about.
fn message(asked: &Asked) -> Value {
    let body: Value = serde_json::from_str(asked.body()).expect("JSON");
    assert_eq!(body["type"], "message.before_publish");
    body["data"]["message"].clone()
}

fn decide(asked: &Asked) -> (u16, String) {
    match message(asked).as_str() {
        Some("bad") => (200, json!({ "result": "refuse", "reason": "mind your \"words\"" }).to_string()),
        Some("long") => (200, json!({ "result": "alter", "message": { "cut": true } }).to_string()),
        Some("broken") => (500, String::new()),
        Some("fine") => (204, String::new()),
        _ => (200, json!({ "result": "allow" }).to_string()),
    }
}

fn send(client: &mut Client, room: &str, message: &str, id: u32) {
    client.send_json(&json!({ "type": "SEND_MESSAGE", "room": room, "message": message, "id": id }));
}

/// The code and the reason of the `ERROR` that a command of this id is answered with.
fn error_of(client: &mut Client, id: u32) -> (String, String) {
    let said = client.recv_json();
    assert_eq!((&said["type"], &said["id"]), (&json!("ERROR"), &json!(id)), "{said}");
    [&said["code"], &said["reason"]].map(|text| text.as_str().expect("a text").to_owned()).into()
}

#[test]
fn it_allows_alters_and_refuses() {
    let endpoint = Endpoint::start(decide);
    let server = patient(&endpoint.url()).start();
    let mut member = Client::member(&server, "chat:1");
    let mut sender = Client::connect(&server);
    for (id, text) in ["good", "fine", "long"].into_iter().enumerate() {
        send(&mut sender, "chat:1", text, id as u32);
        assert_eq!(sender.recv_json()["type"], "ACK");
    }
    send(&mut sender, "chat:1", "bad", 7);
    assert_eq!(error_of(&mut sender, 7), ("refused".to_owned(), "mind your \"words\"".to_owned()));
    // No answer is one that says nothing; and what nobody decides is refused unless it is said otherwise.
    send(&mut sender, "chat:1", "broken", 8);
    assert_eq!(error_of(&mut sender, 8).0, "hook_unavailable");
    send(&mut sender, "chat:1", "last", 9);
    assert_eq!(sender.recv_json()["type"], "ACK");
    for expected in [json!("good"), json!("fine"), json!({ "cut": true }), json!("last")] {
        assert_eq!(member.recv_json()["message"], expected);
    }
    let asked = endpoint.asked();
    assert_eq!(asked.len(), 6, "each is asked about once");
    send(&mut sender, "elsewhere", "bad", 10);
    assert_eq!(sender.recv_json()["type"], "ACK");
    assert_eq!(endpoint.asked().len(), 6, "rooms without a rule are nobody's business");
}

#[test]
fn others_can_verify_its_requests() {
    let endpoint = Endpoint::start(decide);
    let server = patient(&endpoint.url()).start();
    let mut sender = Client::connect(&server);
    send(&mut sender, "chat:1", "é\n", 1);
    assert_eq!(sender.recv_json()["type"], "ACK");
    let asked = endpoint.asked().pop().expect("it was asked");
    let [id, timestamp, signature] =
        ["webhook-id", "webhook-timestamp", "webhook-signature"].map(|name| asked.field(name).expect("it is there"));
    assert_eq!(asked.field("content-type"), Some("application/json"));
    let verified = run_node("tests/node/webhook.mjs", &[SECRET, id, timestamp, signature, asked.body()], &[]);
    let verified: Value = serde_json::from_str(&verified).expect("JSON");
    let data = &verified["data"];
    assert_eq!((&data["room"], &data["user"], &data["message"]), (&json!("chat:1"), &Value::Null, &json!("é\n")));
    assert!(data["instance"].is_string() && data["connection"].is_string(), "{data}");
}

#[test]
fn messages_of_one_room_keep_their_order_and_others_are_not_held_up() {
    let (release, released) = mpsc::channel::<()>();
    let released = Mutex::new(released);
    let endpoint = Endpoint::start(move |asked| {
        if message(asked) == "slow" {
            // Until the test lets go, or has failed.
            let _ = released.lock().expect("one waits at a time").recv();
        }
        decide(asked)
    });
    let server = patient(&endpoint.url()).start();
    let mut member = Client::member(&server, "chat:1");
    let mut sender = Client::connect(&server);
    send(&mut sender, "chat:1", "slow", 1);
    send(&mut sender, "chat:1", "behind", 2);
    send(&mut sender, "chat:2", "beside", 3);
    assert_eq!(sender.recv_json()["id"], 3);
    eventually("the one behind is asked about", || (endpoint.asked().len() == 3).then_some(()));
    let mut other = Client::connect(&server);
    send(&mut other, "chat:1", "other", 4);
    assert_eq!(other.recv_json()["id"], 4);
    assert_eq!(member.recv_json()["message"], "other");
    release.send(()).expect("the endpoint waits");
    assert_eq!([sender.recv_json()["id"].clone(), sender.recv_json()["id"].clone()], [json!(1), json!(2)]);
    assert_eq!([member.recv_json(), member.recv_json()].map(|said| said["message"].clone()), ["slow", "behind"]);
}

/// An endpoint that takes connections and never answers, and the address of one that takes none.
fn slow_and_down() -> (TcpListener, [String; 2]) {
    let slow = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let down = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let urls = [&slow, &down].map(|listener| format!("http://{}/", listener.local_addr().expect("an address")));
    (slow, urls)
}

#[test]
fn while_it_is_slow_or_down_messages_fail_as_it_is_said() {
    let (_slow, urls) = slow_and_down();
    for url in urls {
        let server = launch(&url, "timeout_ms = 200").ops().start();
        let mut sender = Client::connect(&server);
        send(&mut sender, "chat:1", "a", 1);
        assert_eq!(error_of(&mut sender, 1).0, "hook_unavailable");
        server.wait_for_metrics("the failure counts", |metrics| metrics.value("fanfare_hook_failures_total") >= 1.0);
        server.wait_for_log("the hook does not do what it should");

        let server = launch(&url, "timeout_ms = 200\nfail = \"open\"").start();
        let mut member = Client::member(&server, "chat:1");
        let mut sender = Client::connect(&server);
        send(&mut sender, "chat:1", "a", 1);
        assert_eq!(sender.recv_json()["type"], "ACK");
        assert_eq!(member.recv_json()["message"], "a");
    }
}

#[test]
fn what_was_said_before_a_client_went_is_published() {
    let (release, released) = mpsc::channel::<()>();
    let released = Mutex::new(released);
    let endpoint = Endpoint::start(move |asked| {
        // Until the test lets go, or has failed.
        let _ = released.lock().expect("one waits at a time").recv();
        decide(asked)
    });
    let server = patient(&endpoint.url()).start();
    let mut member = Client::member(&server, "chat:1");
    let mut sender = Client::connect(&server);
    send(&mut sender, "chat:1", "farewell", 1);
    eventually("it is asked about", || (!endpoint.asked().is_empty()).then_some(()));
    sender.leave();
    release.send(()).expect("the endpoint waits");
    assert_eq!(member.recv_json()["message"], "farewell");
}
