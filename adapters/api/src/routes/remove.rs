//! Removing what rooms keep.

use super::{Handle, Path, Query, ask, has};
use crate::keys::{Caller, Right};
use crate::problem::{Problem, Refusals};
use axum::extract::{Extension, State};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};

/// Of which epoch.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Which {
    /// The epoch of the offset. In another one nothing is removed.
    epoch: Option<String>,
}

/// What was removed is gone.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Done {
    /// The room.
    #[serde(default)]
    room: String,
    /// The room's epoch.
    epoch: String,
    /// Where in the room it stands that something is removed.
    offset: u64,
}

/// Removes a message that a room keeps, and tells its members.
#[utoipa::path(
    delete, path = "/v1/rooms/{room}/messages/{offset}", operation_id = "remove", tag = "messages",
    params(
        ("room" = String, Path, description = "The room: at most `limits.room_name_bytes_max` bytes.", min_length = 1, max_length = 128),
        ("offset" = u64, Path, description = "Where the message stands.", minimum = 1),
        Which
    ),
    responses(
        (status = 200, description = "It is removed.", body = Done),
        (status = 404, description = "There is no such message, or it is kept no more, or removed already.", body = Problem, content_type = "application/problem+json"),
        Refusals
    )
)]
pub(crate) async fn one(
    State(shared): State<Handle>,
    Extension(caller): Extension<Caller>,
    Path((room, offset)): Path<(String, u64)>,
    Query(which): Query<Which>,
) -> Result<axum::Json<Done>, Problem> {
    remove(&shared, &caller, room, Some(offset), which).await
}

/// Removes all messages that a room keeps, and tells its members.
#[utoipa::path(
    delete, path = "/v1/rooms/{room}/messages", operation_id = "clear", tag = "messages",
    params(("room" = String, Path, description = "The room: at most `limits.room_name_bytes_max` bytes.", min_length = 1, max_length = 128), Which),
    responses(
        (status = 200, description = "They are removed.", body = Done),
        Refusals
    )
)]
pub(crate) async fn all(
    State(shared): State<Handle>,
    Extension(caller): Extension<Caller>,
    Path(room): Path<String>,
    Query(which): Query<Which>,
) -> Result<axum::Json<Done>, Problem> {
    remove(&shared, &caller, room, None, which).await
}

async fn remove(
    shared: &Handle,
    caller: &Caller,
    room: String,
    offset: Option<u64>,
    Which { epoch }: Which,
) -> Result<axum::Json<Done>, Problem> {
    has(caller, Right::Remove)?;
    let done: Done = ask(shared, json!({"type": "REMOVE", "room": room, "offset": offset, "epoch": epoch})).await?;
    Ok(axum::Json(Done { room, ..done }))
}
