//! curl shows a credential in every place in which one counts: who is let in, and what those are told that are not. No answer has a token
//! in it. The tokens are the server's own (`fanfare token`), or what an endpoint is asked about.

use fanfare_tests::{Curl, Endpoint, Launch, Server};
use serde_json::{Value, json};

const SECRET: &str = "a secret of thirty-two bytes or more";

/// Where curl shows a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Header,
    Query,
    Subprotocol,
    Cookie,
    /// The command `AUTH`.
    Command,
}

/// The places of an upgrade's own request.
const OF_REQUESTS: [Place; 4] = [Place::Header, Place::Query, Place::Subprotocol, Place::Cookie];

/// With the cookie of this name.
fn launch(cookie: &str) -> Launch {
    Server::launch().flag("--auth-cookie", cookie).flag("--auth-cookie-holds", "token")
}

fn by_secret() -> Launch {
    launch("jwt").flag("--auth-secret", SECRET)
}

/// A token of this user, which `fanfare token` signs with this secret.
fn token(secret: &str, user: &str) -> String {
    let output = Server::launch().flag("--auth-secret", secret).args(["token", "--user", user]).run();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    String::from_utf8(output.stdout).expect("a token in UTF-8").trim_end().to_owned()
}

fn field(line: String) -> Vec<String> {
    vec!["--header".to_owned(), line]
}

fn cookie(token: &str) -> Vec<String> {
    vec!["--cookie".to_owned(), format!("theme=dark; jwt={token}")]
}

/// Of a page of the server's own host.
fn origin(server: &Server) -> Vec<String> {
    field(format!("Origin: http://{}", server.address()))
}

fn ask(server: &Server, path: &str, args: &[String]) -> Curl {
    Curl::upgrade(server.address(), path, args, &[])
}

/// An upgrade at this path that shows the token in this place.
fn show(server: &Server, place: Place, path: &str, token: &str) -> Curl {
    let curl = match place {
        Place::Header => ask(server, path, &field(format!("Authorization: Bearer {token}"))),
        Place::Query => ask(server, &format!("{path}?token={token}"), &[]),
        Place::Subprotocol => {
            ask(server, path, &field(format!("Sec-WebSocket-Protocol: fanfare.v1, fanfare.token.{token}")))
        }
        Place::Cookie => ask(server, path, &[cookie(token), origin(server)].concat()),
        Place::Command => {
            let auth = json!({ "type": "AUTH", "token": token, "id": 7 });
            Curl::upgrade(server.address(), path, &[], &[auth.to_string()])
        }
    };
    let response = &curl.response;
    assert!(!response.head.contains(token) && !response.text().contains(token), "{place:?}: {}", response.head);
    curl
}

fn says(curl: &mut Curl) -> Value {
    assert_eq!(curl.response.status, 101, "{} {}", curl.response.head, curl.response.text());
    serde_json::from_str(&curl.recv_text()).expect("JSON")
}

fn assert_let_in(server: &Server, place: Place, token: &str, user: &str) {
    let mut curl = show(server, place, "/ws", token);
    if place == Place::Command {
        let said = says(&mut curl);
        assert_eq!((&said["type"], &said["user"], &said["id"]), (&json!("AUTHENTICATED"), &json!(user), &json!(7)));
    }
    let own = json!({ "type": "SUBSCRIBED", "room": format!("user:{user}") });
    assert_eq!(says(&mut curl), own, "{place:?}");
    let selected = (place == Place::Subprotocol).then_some("fanfare.v1");
    assert_eq!(curl.response.field("sec-websocket-protocol"), selected, "{place:?}");
}

/// The error that the body of a refusal names, with its status, and whether it says how to show a credential.
fn refusal(curl: &Curl) -> (u16, String, bool) {
    let response = &curl.response;
    assert_eq!(response.field("content-type"), Some("application/json"), "{}", response.head);
    assert_eq!(response.field("sec-websocket-protocol"), None, "{}", response.head);
    let body: Value = serde_json::from_str(&response.text()).expect("a refusal says why in JSON");
    let error = body["error"].as_str().expect("it names an error").to_owned();
    assert!(body["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{body}");
    (response.status, error, response.field("www-authenticate") == Some("Bearer"))
}

fn assert_refused(server: &Server, place: Place, token: &str, status: u16, error: &str) {
    if place == Place::Command {
        let said = says(&mut show(server, place, "/ws", token));
        assert_eq!((&said["type"], &said["code"], &said["id"]), (&json!("ERROR"), &json!(error), &json!(7)), "{said}");
        return;
    }
    for path in ["/ws", "/classic", "/broadcast/tea"] {
        let refused = refusal(&show(server, place, path, token));
        assert_eq!(refused, (status, error.to_owned(), status == 401), "{place:?} {path}");
    }
}

#[test]
fn a_good_token_lets_it_in_and_a_forged_one_does_not() {
    let server = by_secret().start();
    let good = token(SECRET, "alice");
    let forged = token("another secret of more than thirty-two bytes", "alice");
    for place in OF_REQUESTS.into_iter().chain([Place::Command]) {
        assert_let_in(&server, place, &good, "alice");
        assert_refused(&server, place, &forged, 401, "unauthorised");
        assert_refused(&server, place, &good[..good.len() / 2], 401, "unauthorised");
    }
}

#[test]
fn an_endpoint_is_asked_about_the_token_of_every_place() {
    let endpoint = Endpoint::start(|asked| match asked.token() {
        Some("good-token") => (200, json!({ "user": "alice" }).to_string()),
        Some("banned-token") => (403, String::new()),
        _ => (401, String::new()),
    });
    let server = launch("jwt").flag("--auth-url", endpoint.url()).flag("--auth-url-timeout-ms", 60_000).start();
    for place in OF_REQUESTS.into_iter().chain([Place::Command]) {
        assert_let_in(&server, place, "good-token", "alice");
        assert_refused(&server, place, "forged-token", 401, "unauthorised");
        assert_refused(&server, place, "banned-token", 403, "forbidden");
    }
}

#[test]
fn without_a_credential_it_gets_no_further_than_to_show_one() {
    let server = by_secret().start();
    for path in ["/classic", "/broadcast/tea"] {
        assert_eq!(refusal(&ask(&server, path, &[])), (401, "unauthorised".to_owned(), true), "{path}");
    }
    let subscribe = r#"{"type":"SUBSCRIBE","room":"tea","id":1}"#.to_owned();
    let said = says(&mut Curl::upgrade(server.address(), "/ws", &[], &[subscribe]));
    assert_eq!((&said["code"], &said["id"]), (&json!("unauthorised"), &json!(1)), "{said}");
}

#[test]
fn a_cookie_counts_for_pages_of_its_own_host_alone() {
    let server = by_secret().start();
    let good = token(SECRET, "alice");
    // No page at all: it is as if there were no cookie.
    let refused = refusal(&ask(&server, "/classic", &cookie(&good)));
    assert_eq!(refused, (401, "unauthorised".to_owned(), true));
    let evil = field("Origin: https://evil.example".to_owned());
    for path in ["/ws", "/classic", "/broadcast/tea"] {
        let curl = ask(&server, path, &[cookie(&good), evil.clone()].concat());
        assert_eq!(curl.response.status, 403, "{path}: {}", curl.response.head);
        assert!(curl.response.text().starts_with("pages of this Origin may not connect here"), "{path}");
    }
}

#[test]
fn a_place_that_is_turned_off_is_none() {
    let without = |place| match place {
        Place::Header => by_secret().flag("--auth-header", "off"),
        Place::Query => by_secret().flag("--auth-query", ""),
        Place::Subprotocol => by_secret().flag("--auth-subprotocol", "off"),
        Place::Cookie => launch("another").flag("--auth-secret", SECRET),
        Place::Command => by_secret().flag("--auth-command", "off"),
    };
    let good = token(SECRET, "alice");
    for place in OF_REQUESTS {
        let server = without(place).start();
        for shown in OF_REQUESTS {
            let curl = show(&server, shown, "/classic", &good);
            match shown == place {
                true => assert_eq!(refusal(&curl), (401, "unauthorised".to_owned(), true), "{shown:?}"),
                false => assert_eq!(curl.response.status, 101, "{shown:?} without {place:?}: {}", curl.response.head),
            }
        }
    }
    // Nothing could follow an upgrade that shows nothing.
    let server = without(Place::Command).start();
    assert_eq!(refusal(&ask(&server, "/ws", &[])), (401, "unauthorised".to_owned(), true));
    assert_let_in(&server, Place::Header, &good, "alice");
}
