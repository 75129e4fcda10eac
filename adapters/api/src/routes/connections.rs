//! Connections: who has which, ending them, and taking them out of rooms; on all instances.

use super::{Handle, Json, Path, Query, has};
use crate::cluster::Reach;
use crate::keys::{Caller, Right};
use crate::problem::{Problem, Refusals};
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};

/// Connections that an instance lists.
const LISTED_MAX: u32 = 100;
/// No credential has a longer name.
const USER_BYTES_MAX: usize = 255;
/// Where nobody says another.
const CODE: u16 = 4_500;

/// How many are listed.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Listing {
    /// Of each instance's.
    #[param(minimum = 1, maximum = 100, default = 100)]
    limit: Option<u32>,
}

/// Connections of a user.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Connections {
    #[schema(value_type = Vec<Connection>)]
    connections: Vec<Value>,
    /// How many there are in all.
    total: u64,
    reach: Reach,
}

/// A connection.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes what cores write")]
pub(crate) struct Connection {
    /// Its name, in the whole cluster.
    connection: String,
    /// Whose it is, where clients are asked who they are.
    user: Option<String>,
    /// `fanfare`, `classic`, `broadcast`, or `events` of an event stream.
    dialect: String,
    /// The client's, where the limits of addresses count it.
    address: Option<String>,
    /// Some of the rooms that it is in.
    rooms: Vec<String>,
    /// How many those are in all.
    room_count: u64,
}

/// Which connections: those of a user, or one.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ended {
    /// All of this user's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 255)]
    user: Option<String>,
    /// This one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^[0-9a-f]{16}-[0-9a-f]{1,8}-[0-9a-f]{1,8}$")]
    connection: Option<String>,
    /// Of the close frame. From 4500 on clients do not come back by themselves, below they do.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 4000, maximum = 4999, default = 4500)]
    code: Option<u16>,
    /// The same, at most 123 bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 123)]
    reason: Option<String>,
}

/// Which connections are to be in a room no more: those of a user, one, or all.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Expelled {
    /// All of this user's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 255)]
    user: Option<String>,
    /// This one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^[0-9a-f]{16}-[0-9a-f]{1,8}-[0-9a-f]{1,8}$")]
    connection: Option<String>,
    /// All members.
    #[serde(skip_serializing, default)]
    all: bool,
    /// The room.
    #[schema(min_length = 1, max_length = 128)]
    room: String,
}

/// How many connections it has concerned.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Count {
    connections: u64,
    reach: Reach,
}

/// The connections of a user.
#[utoipa::path(
    get, path = "/v1/users/{user}/connections", operation_id = "connections", tag = "connections",
    params(("user" = String, Path, description = "The user.", min_length = 1, max_length = 255), Listing),
    responses((status = 200, description = "Those on all instances.", body = Connections), Refusals)
)]
pub(crate) async fn of_user(
    State(shared): State<Handle>,
    Extension(caller): Extension<Caller>,
    Path(user): Path<String>,
    Query(Listing { limit }): Query<Listing>,
) -> Result<axum::Json<Connections>, Problem> {
    has(&caller, Right::Connections)?;
    check_user(&user)?;
    let limit = limit.unwrap_or(LISTED_MAX);
    if !(1..=LISTED_MAX).contains(&limit) {
        return Err(wrong(format!("limit is from 1 to {LISTED_MAX}")));
    }
    let command = json!({"type": "CONNECTIONS", "user": user, "limit": limit});
    let (outcome, reach) = shared.cluster.order(command, 0).await?;
    Ok(axum::Json(Connections { connections: outcome.listed, total: outcome.connections, reach }))
}

/// Ends connections.
#[utoipa::path(
    post, path = "/v1/disconnect", operation_id = "disconnect", tag = "connections",
    request_body = Ended,
    responses((status = 200, description = "How many have been ended.", body = Count), Refusals)
)]
pub(crate) async fn disconnect(
    State(shared): State<Handle>,
    Extension(caller): Extension<Caller>,
    Json(body): Json<Ended>,
) -> Result<axum::Json<Count>, Problem> {
    has(&caller, Right::Connections)?;
    body.user.as_deref().map(check_user).transpose()?;
    if body.user.is_some() == body.connection.is_some() {
        return Err(wrong("say either user or connection".to_owned()));
    }
    let code = body.code.unwrap_or(CODE);
    if !(4_000..=4_999).contains(&code) {
        return Err(wrong("code is from 4000 to 4999".to_owned()));
    }
    order(&shared, "DISCONNECT", &body).await
}

/// Takes connections out of a room.
#[utoipa::path(
    post, path = "/v1/unsubscribe", operation_id = "unsubscribe", tag = "connections",
    request_body = Expelled,
    responses((status = 200, description = "How many have been taken out of it.", body = Count), Refusals)
)]
pub(crate) async fn unsubscribe(
    State(shared): State<Handle>,
    Extension(caller): Extension<Caller>,
    Json(body): Json<Expelled>,
) -> Result<axum::Json<Count>, Problem> {
    has(&caller, Right::Connections)?;
    body.user.as_deref().map(check_user).transpose()?;
    let named = [body.user.is_some(), body.connection.is_some(), body.all];
    if named.iter().filter(|is_named| **is_named).count() != 1 {
        return Err(wrong("say one of user, connection, and all".to_owned()));
    }
    order(&shared, "EXPEL", &body).await
}

async fn order(shared: &Handle, kind: &str, body: &impl Serialize) -> Result<axum::Json<Count>, Problem> {
    let mut command = serde_json::to_value(body).expect("its keys are texts");
    command["type"] = Value::from(kind);
    let (outcome, reach) = shared.cluster.order(command, 0).await?;
    Ok(axum::Json(Count { connections: outcome.connections, reach }))
}

fn check_user(user: &str) -> Result<(), Problem> {
    match (1..=USER_BYTES_MAX).contains(&user.len()) {
        true => Ok(()),
        false => Err(wrong(format!("the name of a user has 1 to {USER_BYTES_MAX} bytes"))),
    }
}

fn wrong(detail: String) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "bad_field", detail)
}
