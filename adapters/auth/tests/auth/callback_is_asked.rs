//! The operator's endpoint: what it is asked, what its answers mean, and what is no answer.

use crate::endpoint::{Answer, Endpoint};
use crate::material::*;
use fanfare_auth::{Callback, CallbackOptions, Identity, Info, RENEWAL_BYTES_MAX, Refusal, Secret, SetupError};
use serde_json::{Value, json};
use std::net::TcpListener;
use std::time::Duration;

fn forwarding(names: &[&str]) -> CallbackOptions {
    let forward_headers = names.iter().map(|name| (*name).to_owned()).collect();
    CallbackOptions { forward_headers, ..CallbackOptions::default() }
}

fn callback(endpoint: &Endpoint, names: &[&str]) -> Callback {
    Callback::new(&endpoint.url(), forwarding(names)).unwrap()
}

fn headers(of: &[(&str, &str)]) -> Vec<(String, Vec<u8>)> {
    of.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect()
}

/// What the endpoint was shown last of the headers that could be a client's.
fn shown(endpoint: &Endpoint) -> Vec<String> {
    let mut lines = endpoint.heads().pop().expect("a request");
    assert_eq!(lines.remove(0), "GET /asked HTTP/1.1");
    lines.retain(|line| !line.starts_with("host:") && !line.starts_with("accept:"));
    lines.sort();
    lines
}

/// What is made of an answer.
fn outcome(answer: Answer) -> Result<Identity, Refusal> {
    let endpoint = Endpoint::new(answer);
    let outcome = callback(&endpoint, &[]).verify(&[], None, NOW);
    assert_eq!(endpoint.requests(), 1);
    outcome
}

fn identity(answer: Value) -> Result<Identity, Refusal> {
    outcome(Answer::of(200, answer))
}

#[test]
fn it_is_shown_the_headers_that_it_wants_and_the_token() {
    let endpoint = Endpoint::new(Answer::of(200, json!({ "user": "alice" })));
    let callback = callback(&endpoint, &["Cookie", "x-api-key", "authorization", "user-agent"]);
    assert_eq!(callback.forward_headers(), ["cookie", "x-api-key", "authorization", "user-agent"]);
    let all = headers(&[
        ("Cookie", "a=1; b=2"),
        ("cookie", "c=3"),
        ("X-API-Key", " k "),
        ("authorization", "Basic eA=="),
        ("x-other", "o"),
        ("User-Agent", "Mozilla"),
    ]);
    callback.verify(&all, None, NOW).unwrap();
    let expected =
        ["authorization: Basic eA==", "cookie: a=1; b=2", "cookie: c=3", "user-agent: Mozilla", "x-api-key: k"];
    assert_eq!(shown(&endpoint), expected);
    callback.verify(&all[3..4], Some(&Secret::new("new.token")), NOW).unwrap();
    assert_eq!(shown(&endpoint), ["authorization: Bearer new.token", "user-agent: fanfare"]);
}

#[test]
fn its_answer_is_the_identity() {
    let answer = json!({
        "user": "alice", "expires_at": NOW / 1000 + 60, "expires_in": 90.5, "more": { "is": ["ignored"] },
        "grants": { "subscribe": ["a:*"], "publish": ["b"], "history": [], "presence": ["c"], "other": 1 }, "join": ["d", "e"],
        "info": { "name": "Alice" },
    });
    let found = identity(answer).unwrap();
    assert_eq!((found.user.as_str(), found.expires_ms), ("alice", Some(NOW + 60_000)));
    assert_eq!((found.grants.subscribe, found.grants.publish), (vec!["a:*".to_owned()], vec!["b".to_owned()]));
    assert_eq!((found.grants.presence, found.grants.history), (vec!["c".to_owned()], vec![]));
    assert_eq!(found.join, ["d", "e"]);
    assert_eq!((found.issued_ms, found.token_id), (None, None));
    assert_eq!(found.info, Some(Info::Told(r#"{"name":"Alice"}"#.to_owned())));
    assert!(found.renewal.is_some());

    let end = |answer| identity(answer).map(|found| found.expires_ms);
    let info = |info: Value| identity(json!({ "user": "alice", "info": info })).unwrap().info;
    assert_eq!((info(json!(null)), info(json!("x".repeat(1023)))), (None, Some(Info::TooLong)));
    assert_eq!(end(json!({ "user": 7 })), Ok(None));
    assert_eq!(end(json!({ "user": "alice", "expires_in": 1.5 })), Ok(Some(NOW + 1_500)));
    assert_eq!(end(json!({ "user": "alice", "expires_in": 1e300 })), Ok(Some(u64::MAX)));
    assert_eq!(end(json!({ "user": "alice", "expires_in": 0 })), Err(Refusal::Expired));
    assert_eq!(end(json!({ "user": "alice", "expires_at": NOW / 1000 })), Err(Refusal::Expired));
}

#[test]
fn a_member_of_a_wrong_kind_refuses() {
    for (answer, refusal) in [
        (json!({}), Refusal::NoUser),
        (json!({ "user": null }), Refusal::NoUser),
        (json!({ "user": "" }), Refusal::NoUser),
        (json!({ "user": "x".repeat(256) }), Refusal::NoUser),
        (json!({ "user": "alice", "expires_at": "tomorrow" }), Refusal::Malformed),
        (json!({ "user": "alice", "expires_in": -1 }), Refusal::Malformed),
        (json!({ "user": "alice", "expires_in": null }), Refusal::Malformed),
        (json!({ "user": "alice", "grants": [] }), Refusal::BadGrants),
        (json!({ "user": "alice", "grants": { "subscribe": "a" } }), Refusal::BadGrants),
        (json!({ "user": "alice", "join": [1] }), Refusal::BadGrants),
        (json!({ "user": "alice", "join": null }), Refusal::BadGrants),
    ] {
        assert_eq!(identity(answer.clone()), Err(refusal), "{answer}");
    }
}

#[test]
fn a_refusal_is_told_apart_from_an_outage() {
    assert_eq!(outcome(Answer::of(401, "")), Err(Refusal::NotAccepted));
    assert_eq!(outcome(Answer::of(403, json!({ "user": "alice" }))), Err(Refusal::Forbidden));
    assert_eq!((Refusal::NotAccepted.status(), Refusal::Forbidden.status()), (401, 403));
    let answer = json!({ "user": "alice" }).to_string();
    let padded = |length: usize| format!("{answer}{}", " ".repeat(length - answer.len()));
    assert!(outcome(Answer::of(200, padded(64 * 1024))).is_ok());
    let elsewhere = Endpoint::new(Answer::of(200, &answer));
    for (outage, why) in [
        (Answer::of(500, &answer), "status 500"),
        (Answer::of(404, &answer), "status 404"),
        (Answer::of(201, &answer), "status 201"),
        (Answer::of(204, ""), "status 204"),
        (Answer::Whole(302, format!("Location: {}\r\n", elsewhere.url()), answer.clone()), "status 302"),
        (Answer::of(200, padded(64 * 1024 + 1)), "larger"),
        (Answer::of(200, ""), "no JSON object"),
        (Answer::of(200, "<html>"), "no JSON object"),
        (Answer::of(200, "\"alice\""), "no JSON object"),
        (Answer::of(200, r#"{"user":"alice","user":"bob"}"#), "no JSON object"),
        (Answer::of(200, "[".repeat(60_000)), "no JSON object"),
    ] {
        let endpoint = Endpoint::new(outage);
        let callback = callback(&endpoint, &[]);
        assert_eq!(callback.trouble(), None);
        assert_eq!(callback.verify(&[], None, NOW), Err(Refusal::Unavailable), "{why}");
        assert!(callback.trouble().unwrap().contains(why), "{:?}", callback.trouble());
        endpoint.say(Answer::of(401, ""));
        assert_eq!(callback.verify(&[], None, NOW), Err(Refusal::NotAccepted));
        assert_eq!(callback.trouble(), None, "{why}");
    }
    assert_eq!(elsewhere.requests(), 0, "it was followed");
}

#[test]
fn nobody_listening_and_silence_are_outages() {
    let silent = Endpoint::new(Answer::Silence);
    let options = CallbackOptions { time_max: Duration::from_millis(50), ..CallbackOptions::default() };
    let callback = Callback::new(&silent.url(), options).unwrap();
    assert_eq!(callback.verify(&[], None, NOW), Err(Refusal::Unavailable));
    assert!(callback.trouble().unwrap().contains("timeout"), "{:?}", callback.trouble());

    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nobody = Callback::new(&format!("http://{free}/"), CallbackOptions::default()).unwrap();
    assert_eq!(nobody.verify(&[], None, NOW), Err(Refusal::Unavailable));
}

#[test]
fn what_would_break_the_request_or_outgrow_the_renewal_is_never_sent() {
    let endpoint = Endpoint::new(Answer::of(200, json!({ "user": "alice" })));
    let callback = callback(&endpoint, &["cookie"]);
    for value in ["a\r\nx-user: root", "a\nb", "a\0b", "a\x7fb"] {
        assert_eq!(callback.verify(&headers(&[("cookie", value)]), None, NOW), Err(Refusal::Malformed), "{value:?}");
        assert_eq!(callback.verify(&[], Some(&Secret::new(value)), NOW), Err(Refusal::Malformed), "{value:?}");
    }
    assert_eq!(callback.verify(&[], Some(&Secret::new("x".repeat(8 * 1024 + 1))), NOW), Err(Refusal::TooLarge));
    let fits = RENEWAL_BYTES_MAX - "cookie:\n".len() - 1;
    assert_eq!(callback.verify(&headers(&[("cookie", &"x".repeat(fits + 1))]), None, NOW), Err(Refusal::TooLarge));
    // Beyond ASCII, the HTTP client takes a credential for a fault of its own, which would look like an outage.
    let obscure = Secret::new(b"caf\xc3\xa9".to_vec());
    assert_eq!(callback.verify(&[], Some(&obscure), NOW), Err(Refusal::Malformed));
    assert_eq!((endpoint.requests(), callback.trouble()), (0, None));
    assert!(callback.verify(&headers(&[("cookie", &"x".repeat(fits))]), None, NOW).is_ok());
}

#[test]
fn headers_of_a_connection_or_a_content_are_refused_when_it_is_set_up() {
    let with = |name: &str| Callback::new("http://127.0.0.1/", forwarding(&[name])).err();
    for name in [
        "Host",
        "connection",
        "Upgrade",
        "TE",
        "transfer-encoding",
        "content-length",
        "Content-Type",
        "expect",
        "range",
        "proxy-authorization",
        "accept-encoding",
        "",
        "a b",
        "a:b",
        "a\r\n",
        "é",
    ] {
        assert_eq!(with(name), Some(SetupError::BadHeader), "{name:?}");
    }
    for name in ["cookie", "Authorization", "x-forwarded-for", "origin", "accept-language"] {
        assert_eq!(with(name), None, "{name}");
    }
}

#[test]
fn plain_text_to_another_machine_has_to_be_allowed() {
    let to = |url: &str, allow_plaintext| {
        Callback::new(url, CallbackOptions { allow_plaintext, ..CallbackOptions::default() }).err()
    };
    assert_eq!(to("http://auth.cluster.local:8080/ask", false), Some(SetupError::BadUrl));
    assert_eq!(to("http://auth.cluster.local:8080/ask", true), None);
    for url in ["http://user:password@auth.cluster.local/", "ftp://a/", "http:///x", "auth", ""] {
        assert_eq!(to(url, true), Some(SetupError::BadUrl), "{url}");
    }
}
