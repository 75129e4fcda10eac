//! `auth.url`: an endpoint of the operator's is asked who a client is, and what it answers decides who is let in, as whom, with which
//! rooms and for how long.

use fanfare_tests::{Endpoint, Launch, RawClient, Response, Server, eventually, upgrade_request};
use serde_json::{Value, json};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::thread;

const RULES: &str = r#"
[[rooms]]
match = "team:*"
subscribe = "granted"
"#;

fn launch(url: &str) -> Launch {
    // Longer than any of these tests takes, so that a slow answer is never taken for an outage.
    Server::launch().file(RULES).flag("--auth-url", url).flag("--auth-url-timeout-ms", 60_000)
}

fn enter(server: &Server, token: &str) -> Result<RawClient, Response> {
    let field = format!("Authorization: Bearer {token}\r\n");
    RawClient::upgraded_with(server.address(), "/ws", &field).map(|(client, _)| client)
}

fn let_in(server: &Server, token: &str) -> RawClient {
    let_in_with(server, &format!("Authorization: Bearer {token}\r\n"))
}

/// It is told to come back while the server does not know yet who is banned.
fn let_in_with(server: &Server, fields: &str) -> RawClient {
    eventually("it is let in", || match RawClient::upgraded_with(server.address(), "/ws", fields) {
        Ok((client, _)) => Some(client),
        Err(refusal) if refusal.status == 503 => None,
        Err(refusal) => panic!("{fields}: {}", refusal.head),
    })
}

fn refusal(server: &Server, token: &str) -> (u16, String) {
    let response = enter(server, token).err().expect("a refusal");
    let body: Value = serde_json::from_str(&response.text()).expect("a refusal says why in JSON");
    (response.status, body["error"].as_str().expect("an error").to_owned())
}

fn says(client: &mut RawClient) -> Value {
    serde_json::from_str(&client.recv_text()).expect("JSON")
}

/// Answers with the user of the token's name.
fn user(name: &str) -> (u16, String) {
    (200, json!({ "user": name }).to_string())
}

#[test]
fn its_answer_says_who_somebody_is_and_where() {
    let endpoint = Endpoint::start(|asked| match asked.token() {
        Some("member") => {
            let grants = json!({ "subscribe": ["team:7"] });
            (200, json!({ "user": "a:b", "grants": grants, "join": ["lobby"], "expires_in": 3600 }).to_string())
        }
        Some("nobody") => (401, String::new()),
        Some("banned") => (403, String::new()),
        _ => (500, String::new()),
    });
    let server = launch(&endpoint.url()).start();
    let mut member = let_in(&server, "member");
    let mut joined = [says(&mut member), says(&mut member)];
    joined.sort_by_key(|said| said["room"].to_string());
    assert_eq!(joined, ["lobby", "user:a%3Ab"].map(|room| json!({ "type": "SUBSCRIBED", "room": room })));
    member.send_text(r#"{"type":"SUBSCRIBE","room":"team:7","id":1}"#);
    assert_eq!(says(&mut member), json!({ "type": "SUBSCRIBED", "room": "team:7", "id": 1 }));
    member.send_text(r#"{"type":"SUBSCRIBE","room":"team:8","id":2}"#);
    assert_eq!(says(&mut member)["code"], "forbidden");

    assert_eq!(refusal(&server, "nobody"), (401, "unauthorised".to_owned()));
    assert_eq!(refusal(&server, "banned"), (403, "forbidden".to_owned()));
    assert_eq!(refusal(&server, "broken"), (503, "unavailable".to_owned()));
}

#[test]
fn by_a_command_it_is_asked_as_well() {
    let endpoint = Endpoint::start(|asked| match asked.token() {
        Some("good") => user("alice"),
        _ => (401, String::new()),
    });
    let server = launch(&endpoint.url()).start();
    drop(let_in(&server, "good"));
    let mut client = RawClient::upgraded(server.address());
    client.send_text(r#"{"type":"AUTH","token":"bad","id":1}"#);
    assert_eq!(says(&mut client)["code"], "unauthorised");
    client.send_text(r#"{"type":"AUTH","token":"good","id":2}"#);
    let mut said = [says(&mut client), says(&mut client)];
    said.sort_by_key(|said| said["type"].to_string());
    assert_eq!((&said[0]["type"], &said[0]["user"]), (&json!("AUTHENTICATED"), &json!("alice")));
    assert_eq!(said[1]["room"], "user:alice");
}

#[test]
fn while_nobody_answers_clients_are_told_to_come_back() {
    let endpoint = Endpoint::start(|_| user("alice"));
    let server = launch(&endpoint.url()).start();
    let mut client = let_in(&server, "any");
    assert_eq!(says(&mut client)["room"], "user:alice");
    drop(endpoint);
    assert_eq!(refusal(&server, "any"), (503, "unavailable".to_owned()));
    client.send_text(r#"{"type":"PING","id":1}"#);
    assert_eq!(says(&mut client), json!({ "type": "PONG", "id": 1 }));
}

#[test]
fn the_headers_that_it_is_to_see_arrive_and_no_others() {
    let endpoint = Endpoint::start(|_| user("alice"));
    let server = launch(&endpoint.url()).flag("--auth-forward-headers", "x-device, cookie").start();
    let fields = "X-Device: phone\r\nCookie: a=b; c=d\r\nX-Private: for nobody\r\n";
    let origin = "Origin: http://localhost\r\n";
    // A cookie without an Origin is none, for the endpoint as well.
    for (origin, cookie) in [(origin, Some("a=b; c=d")), ("", None)] {
        let fields = [fields, origin].concat();
        let mut client = let_in_with(&server, &fields);
        assert_eq!(says(&mut client)["room"], "user:alice");
        let asked = endpoint.asked().pop().expect("it was asked");
        assert_eq!((asked.field("x-device"), asked.field("cookie")), (Some("phone"), cookie));
        assert_eq!((asked.field("x-private"), asked.token()), (None, None));
    }
    assert_eq!(endpoint.asked().len(), 2);
}

#[test]
fn a_slow_answer_holds_up_nobody_else() {
    let (release, released) = mpsc::channel::<()>();
    let released = Mutex::new(released);
    let endpoint = Endpoint::start(move |asked| {
        if asked.token() == Some("slow") {
            // Until the test lets go, or has failed.
            let _ = released.lock().expect("one waits at a time").recv();
        }
        user(asked.token().expect("a token"))
    });
    let server = launch(&endpoint.url()).start();
    thread::scope(|scope| {
        let slow = scope.spawn(|| says(&mut let_in(&server, "slow")));
        let is_asked = || endpoint.asked().iter().any(|asked| asked.token() == Some("slow")).then_some(());
        eventually("the endpoint is asked about the slow one", is_asked);
        for user in ["alice", "bob", "carol"] {
            assert_eq!(says(&mut let_in(&server, user))["room"], format!("user:{user}"));
        }
        assert!(!slow.is_finished(), "it was let in before the endpoint said so");
        release.send(()).expect("the endpoint waits");
        assert_eq!(slow.join().expect("it is let in")["room"], "user:slow");
    });
}

#[test]
fn an_endpoint_that_never_answers_keeps_no_token_waiting() {
    let (release, released) = mpsc::channel::<()>();
    let released = Mutex::new(released);
    let endpoint = Endpoint::start(move |_| {
        // Until the test has ended.
        let _ = released.lock().map(|released| released.recv());
        user("slow")
    });
    let secret = "a secret of thirty-two bytes or more";
    let launch = || launch(&endpoint.url()).flag("--auth-secret", secret).flag("--auth-forward-headers", "x-device");
    let server = launch().start();
    let minted = launch().args(["token", "--user", "alice"]).run();
    let token = String::from_utf8(minted.stdout).expect("a token is text");
    let enter = || assert_eq!(says(&mut let_in(&server, token.trim_end()))["room"], "user:alice");
    enter();
    // More than the server asks about at a time.
    let without_token: Vec<_> = (0..32).map(|_| waiting(&server)).collect();
    eventually("the endpoint is asked", || (!endpoint.asked().is_empty()).then_some(()));
    enter();
    drop((without_token, release));
}

/// A client that has asked for an upgrade without a token.
fn waiting(server: &Server) -> RawClient {
    let mut client = RawClient::connect(server.address());
    client.write(upgrade_request("/ws", "X-Device: phone\r\n"));
    client
}

#[test]
fn what_it_said_ends_unless_it_says_it_again() {
    let answers = Arc::new(Mutex::new(200));
    let endpoint = {
        let answers = Arc::clone(&answers);
        Endpoint::start(move |_| {
            let status = *answers.lock().expect("nobody panics under the lock");
            (status, json!({ "user": "alice", "expires_in": 1 }).to_string())
        })
    };
    let server = launch(&endpoint.url()).start();
    let mut client = let_in(&server, "alice");
    assert_eq!(says(&mut client)["room"], "user:alice");
    eventually("it is asked a third time", || (endpoint.asked().len() >= 3).then_some(()));
    client.send_text(r#"{"type":"PING","id":1}"#);
    assert_eq!(says(&mut client), json!({ "type": "PONG", "id": 1 }));
    *answers.lock().expect("nobody panics under the lock") = 401;
    assert_eq!(client.skip_to_close(), Some(4001));
}
