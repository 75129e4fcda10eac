//! An endpoint of the operator's is told who connects and disconnects, and which rooms have members: in order, and again until it has taken
//! it.

use fanfare_tests::{Asked, Client, Endpoint, Launch, RawClient, Server, eventually};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const SECRET: &str = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn launch(url: &str, more: &str) -> Launch {
    let text = format!(
        "[[hooks]]\nname = \"events\"\nurl = \"{url}\"\nsecret_file = \"SECRET\"\nevents = [\"connected\", \"disconnected\"]\n{more}\n\
         [[rooms]]\nmatch = \"chat:*\"\noccupancy = \"events\"\n"
    );
    Server::launch().file_with_secret(&text, SECRET)
}

fn events(asked: &Asked) -> Vec<Value> {
    let body: Value = serde_json::from_str(asked.body()).expect("JSON");
    assert_eq!(body["type"], "events");
    body["data"]["events"].as_array().expect("a list").clone()
}

/// Those that were taken, each once.
fn told(endpoint: &Endpoint) -> Vec<Value> {
    let mut told: Vec<Value> = Vec::new();
    for event in endpoint.asked().iter().flat_map(events) {
        if !told.iter().any(|earlier| earlier["id"] == event["id"]) {
            told.push(event);
        }
    }
    told
}

fn kinds(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["type"].as_str().expect("a type")).collect()
}

#[test]
fn it_hears_of_connections_and_rooms_in_order() {
    let endpoint = Endpoint::start(|_| (200, String::new()));
    let server = launch(&endpoint.url(), "").start();
    let mut client = Client::member(&server, "chat:1");
    client.subscribe("elsewhere");
    let address = eventually("it hears of both", || {
        let told = told(&endpoint);
        (told.len() == 2).then(|| told[0]["data"]["address"].clone())
    });
    assert_eq!(address, "127.0.0.1");
    let other = Client::member(&server, "chat:1");
    client.leave();
    other.leave();
    let told = eventually("it hears of all", || Some(told(&endpoint)).filter(|told| told.len() == 6));
    let of_first: Vec<_> =
        told.iter().filter(|event| event["data"]["connection"] == told[0]["data"]["connection"]).collect();
    assert_eq!(of_first.len(), 2);
    assert_eq!((&of_first[1]["type"], &of_first[1]["data"]["code"]), (&json!("client.disconnected"), &Value::Null));
    let rooms: Vec<_> = told.iter().filter(|event| event["data"]["room"] == "chat:1").cloned().collect();
    assert_eq!(kinds(&rooms), ["room.occupied", "room.vacated"]);
}

#[test]
fn what_it_has_not_taken_is_told_again_and_nothing_overtakes() {
    let is_up = Arc::new(AtomicBool::new(false));
    let endpoint = {
        let is_up = Arc::clone(&is_up);
        Endpoint::start(move |_| (if is_up.load(Ordering::SeqCst) { 204 } else { 503 }, String::new()))
    };
    let server = launch(&endpoint.url(), "").ops().start();
    Client::connect(&server).leave();
    eventually("it is told in vain", || (endpoint.asked().len() >= 2).then_some(()));
    for _ in 0..3 {
        Client::connect(&server).leave();
    }
    is_up.store(true, Ordering::SeqCst);
    eventually("all is taken", || {
        let metrics = server.metrics();
        (told(&endpoint).len() == 8 && metrics.value("fanfare_hook_events_waiting") == 0.0).then_some(())
    });
    let asked = endpoint.asked();
    let repeated: Vec<_> = asked.iter().filter(|one| one.field("webhook-id") == asked[0].field("webhook-id")).collect();
    assert!(
        repeated.len() >= 3 && repeated.iter().all(|one| one.body() == asked[0].body()),
        "the same id, the same body"
    );
    let told = told(&endpoint);
    for connection in told.iter().map(|event| &event["data"]["connection"]) {
        let of_it: Vec<_> = told.iter().filter(|event| event["data"]["connection"] == *connection).cloned().collect();
        assert_eq!(kinds(&of_it), ["client.connected", "client.disconnected"]);
    }
    let metrics = server.metrics();
    assert!(metrics.value("fanfare_hook_failures_total") >= 2.0);
    assert_eq!(metrics.value("fanfare_hook_events_dropped_total"), 0.0);
}

#[test]
fn what_is_not_taken_for_too_long_is_dropped_and_counted() {
    let endpoint = Endpoint::start(|_| (500, String::new()));
    let server = launch(&endpoint.url(), "retry_for_ms = 0").ops().start();
    let client = RawClient::upgraded(server.address());
    eventually("it is dropped", || (server.metrics().value("fanfare_hook_events_dropped_total") == 1.0).then_some(()));
    drop(client);
}

#[test]
fn a_server_that_stops_tells_of_the_last() {
    let endpoint = Endpoint::start(|_| (200, String::new()));
    let server = launch(&endpoint.url(), "").flag("--drain-spread-ms", 0).start();
    let mut client = Client::connect(&server);
    eventually("it hears of the client", || (told(&endpoint).len() == 1).then_some(()));
    server.signal(fanfare_tests::Signal::TERM);
    assert_eq!(client.skip_to_close(), 1012);
    drop(client);
    let told = eventually("it hears of the end", || Some(told(&endpoint)).filter(|told| told.len() == 2));
    assert_eq!((&told[1]["type"], &told[1]["data"]["code"]), (&json!("client.disconnected"), &json!(1012)));
}
