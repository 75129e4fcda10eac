//! The instances that act as one, and the rooms that they have.

use super::{Handle, Json, Query, has};
use crate::cluster::{Outcome, Reach};
use crate::keys::{Caller, Right};
use crate::problem::{Problem, Refusals};
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};

const ROOMS_MAX: usize = 1_000;
const ROOMS: usize = 100;

/// All that make up the cluster.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Instances {
    #[schema(value_type = Vec<Instance>)]
    instances: Vec<Value>,
    reach: Reach,
}

/// An instance, as it says of itself.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes what instances say")]
pub(crate) struct Instance {
    /// Its name, drawn when it starts: `drain` and `shed` take it.
    instance: String,
    /// Of the program.
    version: String,
    /// Where clients reach it: of the configuration.
    address: String,
    /// Whether it is ready for clients.
    ready: bool,
    /// Why not.
    reason: Option<String>,
    /// Clients.
    connections: u64,
    /// Rooms with members there.
    rooms: u64,
    /// Whether it lets its clients go.
    draining: bool,
}

/// Which rooms.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct WhichRooms {
    /// Those whose names begin so.
    prefix: Option<String>,
    /// Those whose names stand behind this one, in the order of their bytes.
    after: Option<String>,
    /// How many at most.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
}

/// Rooms that have members.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Rooms {
    /// In the order of their names.
    rooms: Vec<Room>,
    /// Whether others stand behind these.
    more: bool,
    reach: Reach,
}

/// A room that has members.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Room {
    room: String,
    /// Connections that are in it, on all instances.
    members: u64,
}

/// How many connections are to go, of which instance.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Share {
    /// Of each instance's connections.
    #[schema(minimum = 0, maximum = 1)]
    share: f64,
    /// Of this one alone.
    instance: Option<String>,
}

/// Which instance is to stop.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Which {
    /// As `/v1/cluster` names it.
    instance: String,
}

/// The instances of the cluster, their versions, and how they stand.
#[utoipa::path(
    get, path = "/v1/cluster", operation_id = "cluster", tag = "cluster",
    responses((status = 200, description = "All that have answered.", body = Instances), Refusals)
)]
pub(crate) async fn about(
    State(shared): State<Handle>,
    Extension(caller): Extension<Caller>,
) -> Result<axum::Json<Instances>, Problem> {
    has(&caller, Right::Cluster)?;
    let (outcome, reach) = shared.cluster.order(json!({"type": "ABOUT"}), 0).await?;
    Ok(instances(outcome, reach))
}

/// The rooms that have members, a page of them.
#[utoipa::path(
    get, path = "/v1/rooms", operation_id = "rooms", tag = "cluster", params(WhichRooms),
    responses((status = 200, description = "Those on all instances.", body = Rooms), Refusals)
)]
pub(crate) async fn rooms(
    State(shared): State<Handle>,
    Extension(caller): Extension<Caller>,
    Query(WhichRooms { prefix, after, limit }): Query<WhichRooms>,
) -> Result<axum::Json<Rooms>, Problem> {
    has(&caller, Right::Cluster)?;
    let limit = limit.unwrap_or(ROOMS);
    if !(1..=ROOMS_MAX).contains(&limit) {
        let detail = format!("limit is from 1 to {ROOMS_MAX}");
        return Err(Problem::new(StatusCode::BAD_REQUEST, "bad_field", detail));
    }
    let (prefix, after) = (prefix.unwrap_or_default(), after.unwrap_or_default());
    let command = json!({"type": "ROOMS", "prefix": prefix, "after": after, "limit": limit});
    let (Outcome { rooms, more, .. }, reach) = shared.cluster.order(command, limit).await?;
    let rooms = rooms.into_iter().map(|(room, members)| Room { room, members }).collect();
    Ok(axum::Json(Rooms { rooms, more, reach }))
}

/// Lets a share of the connections go, so that they come back wherever there is room: each is told a time of its own.
#[utoipa::path(
    post, path = "/v1/shed", operation_id = "shed", tag = "operation", request_body = Share,
    responses(
        (status = 200, description = "The instances that do so.", body = Instances),
        (status = 404, description = "There is no instance of this name.", body = Problem, content_type = "application/problem+json"),
        Refusals
    )
)]
pub(crate) async fn shed(
    State(shared): State<Handle>,
    Extension(caller): Extension<Caller>,
    Json(Share { share, instance }): Json<Share>,
) -> Result<axum::Json<Instances>, Problem> {
    has(&caller, Right::Operate)?;
    if !(0.0..=1.0).contains(&share) {
        return Err(Problem::new(StatusCode::BAD_REQUEST, "bad_field", "share is from 0 to 1"));
    }
    let mut command = json!({"type": "SHED", "share": share});
    let is_named = instance.is_some();
    if let Some(instance) = instance {
        command["instance"] = Value::from(instance);
    }
    let (outcome, reach) = shared.cluster.order(command, 0).await?;
    if is_named { one(outcome, reach) } else { Ok(instances(outcome, reach)) }
}

/// Has an instance let its clients go and stop, as SIGTERM does.
#[utoipa::path(
    post, path = "/v1/drain", operation_id = "drain", tag = "operation", request_body = Which,
    responses(
        (status = 200, description = "The instance that does so.", body = Instances),
        (status = 404, description = "There is no such instance.", body = Problem, content_type = "application/problem+json"),
        Refusals
    )
)]
pub(crate) async fn drain(
    State(shared): State<Handle>,
    Extension(caller): Extension<Caller>,
    Json(Which { instance }): Json<Which>,
) -> Result<axum::Json<Instances>, Problem> {
    has(&caller, Right::Operate)?;
    let (outcome, reach) = shared.cluster.order(json!({"type": "DRAIN", "instance": instance}), 0).await?;
    one(outcome, reach)
}

fn instances(outcome: Outcome, reach: Reach) -> axum::Json<Instances> {
    axum::Json(Instances { instances: outcome.instances, reach })
}

/// The instance that was named.
fn one(outcome: Outcome, reach: Reach) -> Result<axum::Json<Instances>, Problem> {
    if outcome.instances.is_empty() && reach.of.is_none_or(|of| reach.answered < of) {
        let detail = "not all instances have answered, and this one may be among them: it may have been carried out";
        return Err(Problem::new(StatusCode::GATEWAY_TIMEOUT, "unconfirmed", detail));
    }
    if outcome.instances.is_empty() {
        let detail = "no instance of this name has answered: GET /v1/cluster names them";
        return Err(Problem::new(StatusCode::NOT_FOUND, "instance_unknown", detail));
    }
    Ok(instances(outcome, reach))
}
