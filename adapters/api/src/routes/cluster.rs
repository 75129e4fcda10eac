//! The instances that act as one.

use super::{Handle, has};
use crate::keys::{Caller, Right};
use crate::problem::Problem;
use axum::extract::{Extension, State};
use axum::http::header;
use axum::response::IntoResponse;
use utoipa::ToSchema;

/// An instance, as it says of itself.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes what the operations port shows as well")]
pub(crate) struct Instance {
    /// It changes when the instance has lost its lease.
    incarnation: String,
    /// Until when it holds its lease (Unix, ms).
    until_ms: u64,
    /// Where it listens.
    address: String,
    /// Its version.
    version: String,
    /// A fingerprint of its rules for rooms.
    rules: String,
    /// The version of what it publishes.
    envelope: String,
    /// Whether its rules are others than those of the instance that was asked.
    differs: bool,
}

/// The instances that keep presence together; none where no room has presence.
#[utoipa::path(
    get, path = "/v1/instances", operation_id = "instances", tag = "cluster",
    responses(
        (status = 200, description = "All that hold a lease.", body = Vec<Instance>),
        (status = 401, description = "No key that is known has come.", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "The key has no right to it.", body = Problem, content_type = "application/problem+json")
    )
)]
pub(crate) async fn instances(
    State(shared): State<Handle>,
    Extension(caller): Extension<Caller>,
) -> Result<impl IntoResponse, Problem> {
    has(&caller, Right::Cluster)?;
    Ok(([(header::CONTENT_TYPE, "application/json")], (shared.instances)()))
}
