//! Rooms with history on one Redis, as clients meet them.

use serde_json::{Value, json};

use crate::{Client, Launch, Redis, Server};

/// The configuration of rooms with history in these tests.
const ROOMS: &str = r#"
[[rooms]]
match = "chat:*"
history_messages = 100

[[rooms]]
match = "long:*"
history_messages = 100000
history_bytes = 100000000

[[rooms]]
match = "patient:*"
history_messages = 100000
history_bytes = 100000000
slow = "catch_up"

[[rooms]]
match = "brief:*"
history_messages = 20
slow = "catch_up"
"#;

/// A server with these rooms, whose broker the suite or the test chooses.
pub fn server() -> Launch {
    Server::launch().file(ROOMS).ops()
}

/// An instance on the Redis of this URL. Its rooms `chat:*` keep 100 messages, and `long:*` more than any test sends. In `patient:*` and
/// `brief:*`, which keep as many as `long:*` and 20, members may be slow.
pub fn launch(redis_url: &str) -> Launch {
    server()
        .flag("--redis-url", redis_url)
        .args(["--redis-backoff-ms-max", "200", "--redis-probe-interval-ms", "100"])
        .args(["--redis-probe-timeout-ms", "5000"])
}

/// So many of them.
pub fn instances<const N: usize>(redis: &Redis) -> [Server; N] {
    std::array::from_fn(|_| launch(&redis.url()).start())
}

/// A place in a room's history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The epoch.
    pub epoch: String,
    /// The offset.
    pub offset: u64,
}

impl Place {
    /// What a reply says of it.
    ///
    /// # Panics
    ///
    /// If it says nothing.
    #[track_caller]
    pub fn of(reply: &Value) -> Place {
        let (Some(epoch), Some(offset)) = (reply["epoch"].as_str(), reply["offset"].as_u64()) else {
            panic!("no place: {reply}");
        };
        Place { epoch: epoch.to_owned(), offset }
    }
}

/// Sends a command with this id; the next text must be of this type and answer it.
///
/// # Panics
///
/// If it does not.
#[track_caller]
pub fn ask(client: &mut Client, mut command: Value, answer: &str) -> Value {
    command["id"] = json!("asked");
    client.send_json(&command);
    let reply = client.recv_json();
    assert!(reply["type"] == answer && reply["id"] == "asked", "{reply} to {command}");
    reply
}

/// Sends a message to a room of which the client is no member: where it is stored.
///
/// # Panics
///
/// If the next text is not the `ACK`, or it says no place.
#[track_caller]
pub fn store(client: &mut Client, room: &str, message: impl Into<Value>) -> Place {
    let message: Value = message.into();
    Place::of(&ask(client, json!({"type": "SEND_MESSAGE", "room": room, "message": message}), "ACK"))
}

/// Joins a room: where it begins.
///
/// # Panics
///
/// If that is not confirmed by the next text.
#[track_caller]
pub fn join(server: &Server, room: &str) -> (Client, Place) {
    let mut client = Client::connect(server);
    let place = Place::of(&ask(&mut client, json!({"type": "SUBSCRIBE", "room": room}), "SUBSCRIBED"));
    (client, place)
}

/// Joins a room as one who has seen everything up to a place; whether nothing is missing.
///
/// # Panics
///
/// If that is not confirmed by the next text.
#[track_caller]
pub fn resume(server: &Server, room: &str, seen: &Place) -> (Client, Place, bool) {
    let mut client = Client::connect(server);
    let since = json!({"epoch": seen.epoch, "offset": seen.offset});
    let reply = ask(&mut client, json!({"type": "SUBSCRIBE", "room": room, "since": since}), "SUBSCRIBED");
    let recovered = reply["recovered"].as_bool().unwrap_or_else(|| panic!("nothing is said of that: {reply}"));
    (client, Place::of(&reply), recovered)
}

/// The next text must be a `MESSAGE` of the room with an offset: that, and the message.
///
/// # Panics
///
/// If it is not.
#[track_caller]
pub fn hear(client: &mut Client, room: &str) -> (u64, Value) {
    let mut text = client.recv_json();
    assert!(text["type"] == "MESSAGE" && text["room"] == room, "{text}");
    let offset = text["offset"].as_u64().unwrap_or_else(|| panic!("no offset: {text}"));
    (offset, text["message"].take())
}
