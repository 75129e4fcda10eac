//! What rooms keep.

use super::{Handle, Path, Query, ask, has};
use crate::keys::{Caller, Right};
use crate::problem::{Problem, Refusals};
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};

/// Which messages. Without an offset, the newest.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Which {
    /// Those behind this offset.
    after: Option<u64>,
    /// Those before this offset.
    before: Option<u64>,
    /// The epoch of the offset.
    epoch: Option<String>,
    /// How many at most.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u32>,
}

/// A page of what a room keeps, the oldest first.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Kept {
    room: String,
    /// The room's epoch.
    epoch: String,
    /// Each with its `offset`, its `time` (Unix, ms), its `message`, and `from` where a user has sent it. A removal has `removed` in place
    /// of the message.
    #[schema(value_type = Vec<Entry>)]
    messages: Box<RawValue>,
    /// Whether there are others in this direction.
    more: bool,
}

/// A message that a room keeps.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes what cores write")]
pub(crate) struct Entry {
    /// Where it stands in the room.
    offset: u64,
    /// When it was stored (Unix, ms).
    time: u64,
    /// The user who has sent it.
    from: Option<String>,
    /// What was sent.
    #[schema(value_type = Option<serde_json::Value>)]
    message: (),
    /// What is removed, where this is no message.
    removed: Option<Removed>,
}

/// What is removed: one message, or all up to one.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes what cores write")]
pub(crate) struct Removed {
    /// The message that stood there.
    offset: Option<u64>,
    /// All messages up to this offset.
    through: Option<u64>,
}

/// Reads what a room keeps.
#[utoipa::path(
    get, path = "/v1/rooms/{room}/messages", operation_id = "history", tag = "messages",
    params(("room" = String, Path, description = "The room: at most `limits.room_name_bytes_max` bytes.", min_length = 1, max_length = 128), Which),
    responses(
        (status = 200, description = "A page.", body = Kept),
        Refusals
    )
)]
pub(crate) async fn read(
    State(shared): State<Handle>,
    Extension(caller): Extension<Caller>,
    Path(room): Path<String>,
    Query(Which { after, before, epoch, limit }): Query<Which>,
) -> Result<axum::Json<Kept>, Problem> {
    has(&caller, Right::History)?;
    let wrong = |detail: &str| Problem::new(StatusCode::BAD_REQUEST, "bad_query", detail);
    if after.is_some() && before.is_some() {
        return Err(wrong("a page is after an offset or before one"));
    }
    let limit = limit.unwrap_or(100);
    if limit == 0 {
        return Err(wrong("limit is at least 1"));
    }
    // The newest stand before whatever offset there may be.
    let before = before.or(after.is_none().then_some(u64::MAX >> 11));
    let command =
        json!({"type": "HISTORY", "room": room, "after": after, "before": before, "epoch": epoch, "limit": limit});
    ask(&shared, command).await.map(axum::Json)
}
