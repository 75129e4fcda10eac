//! Messages to rooms.

use super::{BATCH_MAX, Handle, Json, Path, has};
use crate::keys::{Caller, Right};
use crate::link::Asked;
use crate::problem::{Problem, Refusals, parse};
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

/// A message.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Message {
    /// Any JSON. Members get it byte for byte.
    #[schema(value_type = serde_json::Value)]
    message: Box<RawValue>,
    /// Who is told to have sent it, where clients are asked who they are.
    #[schema(min_length = 1, max_length = 255)]
    from: Option<String>,
    /// Whether a room with history keeps it.
    #[serde(default = "yes")]
    #[schema(default = true)]
    store: bool,
}

/// One of several messages.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Addressed {
    /// The room that it goes to; else `user` has to say.
    room: Option<String>,
    /// The user whose own room it goes to.
    user: Option<String>,
    /// Any JSON. Members get it byte for byte.
    #[schema(value_type = serde_json::Value)]
    message: Box<RawValue>,
    /// Who is told to have sent it, where clients are asked who they are.
    from: Option<String>,
    /// Whether a room with history keeps it.
    #[serde(default = "yes")]
    #[schema(default = true)]
    store: bool,
    /// In a room with history, a message is stored once under a key.
    key: Option<String>,
}

/// Several messages.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Batch {
    /// They are sent in this order, and each is accepted or refused by itself, as a request of its own would be.
    #[schema(min_items = 1, max_items = 1000)]
    messages: Vec<Addressed>,
}

/// A message that the broker has taken.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Accepted {
    /// The room.
    #[serde(default)]
    #[schema(required)]
    room: String,
    /// Where it is stored: the room's epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<String>,
    /// Where it is stored: its offset.
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<u64>,
}

/// What became of one of several messages.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum Outcome {
    /// It was taken.
    Accepted(Accepted),
    /// It was not.
    Refused {
        /// Why.
        problem: Problem,
    },
}

/// What became of several messages.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Outcomes {
    /// In the order of the request.
    results: Vec<Outcome>,
}

fn yes() -> bool {
    true
}

/// Publishes a message to a room.
#[utoipa::path(
    post, path = "/v1/rooms/{room}/messages", operation_id = "publish", tag = "messages",
    params(
        ("room" = String, Path, description = "The room: at most `limits.room_name_bytes_max` bytes.", min_length = 1, max_length = 128),
        ("Idempotency-Key" = Option<String>, Header, description = "In a room with history, a message is stored once under a key.", min_length = 1, max_length = 128)
    ),
    request_body = Message,
    responses(
        (status = 200, description = "The broker has taken it.", body = Accepted),
        (status = 422, description = "The key belongs to another message.", body = Problem, content_type = "application/problem+json"),
        Refusals
    )
)]
pub(crate) async fn to_room(
    State(shared): State<Handle>,
    Extension(caller): Extension<Caller>,
    Path(room): Path<String>,
    headers: HeaderMap,
    Json(Message { message, from, store }): Json<Message>,
) -> Result<axum::Json<Accepted>, Problem> {
    has(&caller, Right::Publish)?;
    let key = match headers.get("idempotency-key").map(|key| key.to_str()) {
        None => None,
        Some(Ok(key)) => Some(key.to_owned()),
        Some(Err(_)) => {
            let detail = "Idempotency-Key has other characters than visible ASCII";
            return Err(Problem::new(StatusCode::BAD_REQUEST, "bad_field", detail));
        }
    };
    let message = Addressed { room: Some(room), user: None, message, from, store, key };
    begin(&shared, shared.link.next_core(), message)?.accepted().await.map(axum::Json)
}

/// Publishes several messages, to rooms and to users.
#[utoipa::path(
    post, path = "/v1/publish", operation_id = "publishBatch", tag = "messages",
    request_body = Batch,
    responses(
        (status = 200, description = "What became of each.", body = Outcomes),
        Refusals
    )
)]
pub(crate) async fn batch(
    State(shared): State<Handle>,
    Extension(caller): Extension<Caller>,
    Json(Batch { messages }): Json<Batch>,
) -> Result<axum::Json<Outcomes>, Problem> {
    has(&caller, Right::Publish)?;
    if messages.is_empty() || messages.len() > BATCH_MAX {
        let detail = format!("a batch has 1 to {BATCH_MAX} messages");
        return Err(Problem::new(StatusCode::BAD_REQUEST, "bad_field", detail));
    }
    // One core keeps their order, and none waits for the answer to the one before it.
    let core = shared.link.next_core();
    let sending: Vec<_> = messages.into_iter().map(|message| begin(&shared, core, message)).collect();
    let mut results = Vec::with_capacity(sending.len());
    for sending in sending {
        let outcome = match sending {
            Ok(sending) => sending.accepted().await,
            Err(problem) => Err(problem),
        };
        results.push(match outcome {
            Ok(accepted) => Outcome::Accepted(accepted),
            Err(problem) => Outcome::Refused { problem },
        });
    }
    Ok(axum::Json(Outcomes { results }))
}

#[derive(Serialize)]
struct Command<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    id: u64,
    room: &'a str,
    message: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    store: Option<bool>,
}

/// A message on its way.
struct Sending<'a> {
    room: String,
    asked: Asked<'a>,
}

impl Sending<'_> {
    async fn accepted(self) -> Result<Accepted, Problem> {
        let answer = self.asked.answer().await?;
        let accepted: Accepted = parse(&answer)?;
        Ok(Accepted { room: self.room, ..accepted })
    }
}

fn begin(shared: &Handle, core: usize, message: Addressed) -> Result<Sending<'_>, Problem> {
    let Addressed { room, user, message, from, store, key } = message;
    let wrong = |detail: &str| Problem::new(StatusCode::BAD_REQUEST, "bad_field", detail);
    let room = match (room, user) {
        (Some(room), None) => room,
        (None, Some(user)) if !user.is_empty() => (shared.room_of_user)(&user),
        _ => return Err(wrong("a message has either a room or a user")),
    };
    if message.get().len() > shared.message_bytes_max {
        let detail = format!("the message has more than {} bytes", shared.message_bytes_max);
        return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "message_too_large", detail));
    }
    if from.as_deref().is_some_and(|from| from.is_empty() || from.len() > 255) {
        return Err(wrong("from has 1 to 255 bytes"));
    }
    let command = |id| {
        let store = (!store).then_some(false);
        let command = Command { kind: "SEND_MESSAGE", id, room: &room, message: &message, key: key.as_deref(), store };
        serde_json::to_string(&command).expect("it has no map with other keys than texts")
    };
    let asked = shared.link.begin(core, command, from)?;
    Ok(Sending { room, asked })
}
