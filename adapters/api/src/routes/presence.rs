//! Who is in rooms.

use super::{Handle, Path, Query, ask, has};
use crate::keys::{Caller, Right};
use crate::problem::{Problem, Refusals};
use axum::extract::{Extension, State};
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};

/// Which users.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Which {
    /// Those whose names stand behind this one, in the order of their bytes.
    after: Option<String>,
    /// How many at most.
    #[param(maximum = 1000, default = 100)]
    limit: Option<u32>,
}

/// Who is in a room.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Present {
    room: String,
    /// Absent in a room with too many users to be named.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<User>>)]
    users: Option<Box<RawValue>>,
    /// How many users there are in all.
    total: u64,
    /// Whether others stand behind these.
    #[serde(skip_serializing_if = "Option::is_none")]
    more: Option<bool>,
}

/// A user who is in a room.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes what cores write")]
pub(crate) struct User {
    /// The name.
    user: String,
    /// How often the user is a member, at all instances.
    connections: u64,
    /// What the user's credential tells others.
    #[schema(value_type = Option<serde_json::Value>)]
    info: (),
}

/// Who is in a room.
#[utoipa::path(
    get, path = "/v1/rooms/{room}/presence", operation_id = "presence", tag = "presence",
    params(("room" = String, Path, description = "The room: at most `limits.room_name_bytes_max` bytes.", min_length = 1, max_length = 128), Which),
    responses(
        (status = 200, description = "Who is there.", body = Present),
        Refusals
    )
)]
pub(crate) async fn who(
    State(shared): State<Handle>,
    Extension(caller): Extension<Caller>,
    Path(room): Path<String>,
    Query(Which { after, limit }): Query<Which>,
) -> Result<axum::Json<Present>, Problem> {
    has(&caller, Right::Presence)?;
    let command = json!({"type": "PRESENCE", "room": room, "after": after, "limit": limit});
    ask(&shared, command).await.map(axum::Json)
}
