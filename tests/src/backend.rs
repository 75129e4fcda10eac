//! A backend: what it asks of a server's HTTP API, by a key.

use crate::{Launch, Response, Server, http};
use serde_json::{Value, json};

/// The key of a backend that may do everything.
pub const ALL: &str = "0123456789abcdef0123456789abcdef";
/// The key of one that may read what rooms keep, and nothing else.
pub const READER: &str = "fedcba9876543210fedcba9876543210";

/// The file of both.
pub fn keys() -> String {
    format!(
        "[[keys]]\nname = \"backend\"\nkey = \"{ALL}\"\n\
         rights = [\"publish\", \"history\", \"remove\", \"presence\", \"connections\", \"cluster\", \"operate\"]\n\n\
         [[keys]]\nname = \"reader\"\nkey = \"{READER}\"\nrights = [\"history\"]\n"
    )
}

/// The same server, with the API.
pub fn with_api(launch: Launch) -> Launch {
    launch.api(&keys())
}

/// What the API answers. `fields` are lines of the head, each with its end.
///
/// # Panics
/// If it does not answer.
pub fn ask_api(server: &Server, key: &str, request: &str, fields: &str, body: &str) -> Response {
    let length = body.len();
    let head = format!(
        "{request} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\nContent-Length: {length}\r\n\
         Content-Type: application/json\r\nConnection: close\r\n{fields}\r\n{body}"
    );
    http(server.api_address(), head)
}

/// What the backend that may do everything is answered.
///
/// # Panics
/// If that is a problem.
#[track_caller]
pub fn order(server: &Server, request: &str, body: &Value) -> Value {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let response = ask_api(server, ALL, request, "", &body);
    assert!((200..300).contains(&response.status), "{request}: {}", response.text());
    if response.body.is_empty() { Value::Null } else { json_of(&response) }
}

/// The body of a response.
///
/// # Panics
/// If it is no JSON.
pub fn json_of(response: &Response) -> Value {
    serde_json::from_slice(&response.body).unwrap_or_else(|_| panic!("{}\n{}", response.head, response.text()))
}

/// Panics unless the response is this problem.
#[track_caller]
pub fn assert_problem(response: &Response, status: u16, code: &str) {
    let problem = json_of(response);
    assert_eq!((response.status, &problem["code"]), (status, &json!(code)), "{problem}");
    assert_eq!(response.field("content-type"), Some("application/problem+json"));
    assert_eq!(problem["status"], status);
    assert!(!problem["detail"].as_str().expect("a detail").is_empty());
}
