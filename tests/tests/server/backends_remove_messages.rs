//! Backends remove what rooms keep: members are told, and whoever comes later never gets it.

use fanfare_tests::backend::{ALL, READER, ask_api, assert_problem, json_of, keys};
use fanfare_tests::{Client, CurlStream, Redis, Reply, Response, Server, stored};
use serde_json::{Value, json};

fn ask(server: &Server, key: &str, method: &str, path: &str) -> Response {
    ask_api(server, key, &format!("{method} /v1/rooms/{path}"), "", "")
}

#[track_caller]
fn remove(server: &Server, path: &str) -> Value {
    let response = ask(server, ALL, "DELETE", path);
    let done = json_of(&response);
    assert_eq!(response.status, 200, "{done}");
    done
}

fn say(server: &Server, room: &str, messages: &[&str]) {
    let mut sender = Client::connect(server);
    for message in messages {
        stored::store(&mut sender, room, *message);
    }
}

/// What a room tells of its messages: of each offset the message, or what is removed.
fn history(server: &Server, room: &str) -> Vec<(u64, Value)> {
    let page = json_of(&ask(server, ALL, "GET", &format!("{room}/messages")));
    let messages = page["messages"].as_array().unwrap_or_else(|| panic!("{page}"));
    messages
        .iter()
        .map(|told| {
            let what = if told["message"].is_null() { &told["removed"] } else { &told["message"] };
            (told["offset"].as_u64().expect("an offset"), what.clone())
        })
        .collect()
}

#[test]
fn members_are_told_and_nobody_gets_it_afterwards() {
    let server = stored::server().api(&keys()).start();
    let (mut member, begun) = stored::join(&server, "chat:1");
    let mut bare = Client::connect_to(server.address(), "/classic?room=chat:1");
    say(&server, "chat:1", &["one", "two", "three"]);
    for (offset, message) in [(1, "one"), (2, "two"), (3, "three")] {
        assert_eq!(stored::hear(&mut member, "chat:1"), (offset, json!(message)));
        assert_eq!(bare.recv(), message);
    }
    let done = remove(&server, "chat:1/messages/2");
    assert_eq!(done, json!({"room": "chat:1", "epoch": begun.epoch, "offset": 4}));
    let told = json!({"type": "REMOVED", "room": "chat:1", "epoch": begun.epoch, "offset": 2, "at": 4});
    assert_eq!(member.recv_json(), told);
    say(&server, "chat:1", &["five"]);
    assert_eq!(stored::hear(&mut member, "chat:1"), (5, json!("five")));
    assert_eq!(bare.recv(), "five", "who cannot be told hears nothing of it");

    let kept = [(1, json!("one")), (3, json!("three")), (4, json!({"offset": 2})), (5, json!("five"))];
    assert_eq!(history(&server, "chat:1"), kept);
    for seen in 0..3 {
        let place = stored::Place { offset: seen, ..begun.clone() };
        let (mut late, _, is_recovered) = stored::resume(&server, "chat:1", &place);
        assert!(is_recovered);
        for (offset, message) in [(1, "one"), (3, "three")].into_iter().filter(|(offset, _)| *offset > seen) {
            assert_eq!(stored::hear(&mut late, "chat:1"), (offset, json!(message)));
        }
        assert_eq!(late.recv_json(), told);
        assert_eq!(stored::hear(&mut late, "chat:1"), (5, json!("five")));
    }
    let path = format!("/sse?room=chat:1&since={}:3", begun.epoch);
    let stream = CurlStream::open(server.address(), &path, &[]).wait_for("REMOVED");
    let event = stream.events.iter().find(|event| event.kind == "REMOVED").expect("it has come");
    assert_eq!(serde_json::from_str::<Value>(&event.data).expect("JSON"), told);
    assert_eq!(event.last_event_id, format!("{}:4", begun.epoch));
}

#[test]
fn a_room_is_cleared_at_once() {
    let server = stored::server().api(&keys()).start();
    let (mut member, begun) = stored::join(&server, "chat:1");
    say(&server, "chat:1", &["one", "two"]);
    for offset in 1..=2 {
        assert_eq!(stored::hear(&mut member, "chat:1").0, offset);
    }
    assert_eq!(remove(&server, "chat:1/messages")["offset"], 3);
    let told = json!({"type": "REMOVED", "room": "chat:1", "epoch": begun.epoch, "through": 2, "at": 3});
    assert_eq!(member.recv_json(), told);
    assert_eq!(history(&server, "chat:1"), [(3, json!({"through": 2}))]);
    let (mut late, _, is_recovered) = stored::resume(&server, "chat:1", &begun);
    assert!(is_recovered);
    assert_eq!(late.recv_json(), told);
    say(&server, "chat:1", &["four"]);
    assert_eq!(stored::hear(&mut late, "chat:1"), (4, json!("four")));
    assert_eq!(stored::hear(&mut member, "chat:1"), (4, json!("four")));
}

#[test]
fn what_cannot_be_removed_is_told() {
    let server = stored::server().api(&keys()).start();
    say(&server, "chat:1", &["one"]);
    let epoch = json_of(&ask(&server, ALL, "GET", "chat:1/messages"))["epoch"].as_str().expect("an epoch").to_owned();
    let delete = |path: &str| ask(&server, ALL, "DELETE", path);
    assert_problem(&delete("plain/messages/1"), 409, "history_unavailable");
    assert_problem(&delete("plain/messages"), 409, "history_unavailable");
    assert_problem(&delete("chat:1/messages/2"), 404, "message_unknown");
    assert_problem(&delete("chat:1/messages/1?epoch=1-0000000000000000"), 409, "epoch_unknown");
    assert_problem(&delete("chat:1/messages?epoch=x"), 409, "epoch_unknown");
    assert_problem(&delete("chat:1/messages/x"), 400, "bad_path");
    assert_problem(&delete("chat:1/messages/1?epoc=1"), 400, "bad_query");
    assert_problem(&delete("a%0A/messages/1"), 400, "room_invalid");
    assert_problem(&ask(&server, READER, "DELETE", "chat:1/messages/1"), 403, "forbidden");
    assert_eq!(remove(&server, &format!("chat:1/messages/1?epoch={epoch}"))["offset"], 2);
    assert_problem(&delete("chat:1/messages/1"), 404, "message_unknown");
    assert_problem(&delete("chat:1/messages/2"), 404, "message_unknown");
    let mut client = Client::connect(&server);
    client.send_json(&json!({"type": "REMOVE", "room": "chat:1", "id": 1}));
    let refused = client.recv_json();
    assert_eq!((&refused["type"], &refused["code"]), (&json!("ERROR"), &json!("unknown_type")), "{refused}");
}

fn texts_in(reply: &Reply) -> String {
    match reply {
        Reply::Array(parts) => parts.iter().map(texts_in).collect(),
        Reply::Bytes(Some(text)) => String::from_utf8_lossy(text).into_owned(),
        other => panic!("no texts: {other:?}"),
    }
}

#[test]
fn all_instances_tell_it_and_those_who_were_away_are_told() {
    let redis = Redis::start();
    let servers = [0, 1].map(|_| stored::launch(&redis.url()).api(&keys()).start());
    let (mut member, begun) = stored::join(&servers[1], "chat:1");
    say(&servers[0], "chat:1", &["one", "two"]);
    for offset in 1..=2 {
        assert_eq!(stored::hear(&mut member, "chat:1").0, offset);
    }
    remove(&servers[0], "chat:1/messages/1");
    let told = json!({"type": "REMOVED", "room": "chat:1", "epoch": begun.epoch, "offset": 1, "at": 3});
    assert_eq!(member.recv_json(), told);
    for server in &servers {
        let (mut late, _, is_recovered) = stored::resume(server, "chat:1", &begun);
        assert!(is_recovered);
        assert_eq!(stored::hear(&mut late, "chat:1"), (2, json!("two")));
        assert_eq!(late.recv_json(), told);
        assert_eq!(history(server, "chat:1"), [(2, json!("two")), (3, json!({"offset": 1}))]);
    }
    let entries = redis.connect().command(&[b"XRANGE", "fanfare:\u{1}log:chat:1".as_bytes(), b"-", b"+"]);
    let texts = texts_in(&entries);
    assert!(texts.contains("two") && texts.contains("REMOVED 1") && !texts.contains("one"), "{texts}");
}
