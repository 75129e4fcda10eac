//! Bans: whom the servers refuse, although the credential is valid.

use super::{Handle, Json, has};
use crate::keys::{Caller, Right};
use crate::problem::{Problem, Refusals};
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;

/// Whom. A user; a token by its `jti`; or whatever was issued before a time, to everybody or to the user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Whom {
    /// This user.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 255)]
    pub user: Option<String>,
    /// The token of this id, its `jti`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 255)]
    pub token: Option<String>,
    /// What was issued before this time (Unix, ms).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issued_before_ms: Option<u64>,
}

/// A ban that is in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Ban {
    /// This user.
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    /// The token of this id, its `jti`.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    /// What was issued before this time (Unix, ms).
    #[serde(skip_serializing_if = "Option::is_none")]
    issued_before_ms: Option<u64>,
    /// Until when (Unix, ms).
    until_ms: u64,
}

impl Ban {
    /// Of somebody, until then (Unix, ms).
    pub fn new(Whom { user, token, issued_before_ms }: Whom, until_ms: u64) -> Ban {
        Ban { user, token, issued_before_ms, until_ms }
    }
}

/// A ban to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct New {
    #[schema(min_length = 1, max_length = 255)]
    user: Option<String>,
    #[schema(min_length = 1, max_length = 255)]
    token: Option<String>,
    issued_before_ms: Option<u64>,
    /// For how long: best, until the credentials have expired anyway.
    #[schema(minimum = 1, maximum = 3155760000i64)]
    for_s: u64,
}

/// All bans.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct List {
    bans: Vec<Ban>,
}

/// Why a ban could not be made, lifted or listed.
#[derive(Debug)]
pub enum BanFault {
    /// What is asked for makes no sense: what is wrong with it.
    Wrong(String),
    /// The store cannot do it at the moment: why.
    Away(String),
}

/// Where bans are kept. What it does may block.
pub trait Bans: Send + Sync {
    /// Refuses somebody from now on, for so long.
    ///
    /// # Errors
    /// What is wrong.
    fn ban(&self, whom: &Whom, for_s: u64) -> Result<Ban, BanFault>;

    /// Lifts a ban. Whether there was one.
    ///
    /// # Errors
    /// What is wrong.
    fn unban(&self, whom: &Whom) -> Result<bool, BanFault>;

    /// Those in force.
    ///
    /// # Errors
    /// What is wrong.
    fn list(&self) -> Result<Vec<Ban>, BanFault>;
}

/// Refuses a user, a token, or what was issued before a time. Connections that came by it end.
#[utoipa::path(
    post, path = "/v1/bans", operation_id = "ban", tag = "bans", request_body = New,
    responses((status = 200, description = "The ban.", body = Ban), Refusals)
)]
pub(crate) async fn ban(
    State(shared): State<Handle>,
    Extension(caller): Extension<Caller>,
    Json(New { user, token, issued_before_ms, for_s }): Json<New>,
) -> Result<axum::Json<Ban>, Problem> {
    has(&caller, Right::Connections)?;
    let whom = Whom { user, token, issued_before_ms };
    by_store(&shared, move |bans| bans.ban(&whom, for_s)).await.map(axum::Json)
}

/// Lifts a ban.
#[utoipa::path(
    delete, path = "/v1/bans", operation_id = "unban", tag = "bans", request_body = Whom,
    responses(
        (status = 204, description = "It is lifted."),
        (status = 404, description = "There is no such ban.", body = Problem, content_type = "application/problem+json"),
        Refusals
    )
)]
pub(crate) async fn unban(
    State(shared): State<Handle>,
    Extension(caller): Extension<Caller>,
    Json(whom): Json<Whom>,
) -> Result<StatusCode, Problem> {
    has(&caller, Right::Connections)?;
    match by_store(&shared, move |bans| bans.unban(&whom)).await? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(Problem::new(StatusCode::NOT_FOUND, "ban_unknown", "there is no such ban")),
    }
}

/// The bans in force.
#[utoipa::path(
    get, path = "/v1/bans", operation_id = "bans", tag = "bans",
    responses((status = 200, description = "All of them.", body = List), Refusals)
)]
pub(crate) async fn list(
    State(shared): State<Handle>,
    Extension(caller): Extension<Caller>,
) -> Result<axum::Json<List>, Problem> {
    has(&caller, Right::Connections)?;
    let bans = by_store(&shared, |bans| bans.list()).await?;
    Ok(axum::Json(List { bans }))
}

/// Asks the store on a thread that may block.
async fn by_store<T: Send + 'static>(
    shared: &Handle,
    ask: impl FnOnce(&dyn Bans) -> Result<T, BanFault> + Send + 'static,
) -> Result<T, Problem> {
    let Some(bans) = shared.bans.clone() else {
        let detail = "there is nowhere to keep bans: set redis.url or auth.bans_file";
        return Err(Problem::new(StatusCode::CONFLICT, "bans_unavailable", detail));
    };
    let bans: Arc<dyn Bans> = bans;
    let place = Arc::clone(&shared.blocking).acquire_owned().await;
    let done = tokio::task::spawn_blocking(move || {
        let _place = place;
        ask(&*bans)
    });
    match done.await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(BanFault::Wrong(detail))) => Err(Problem::new(StatusCode::BAD_REQUEST, "bad_field", detail)),
        Ok(Err(BanFault::Away(detail))) => {
            Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "bans_unavailable", detail))
        }
        Err(error) => Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", error.to_string())),
    }
}
