//! What can be asked for, and under which rights.

mod bans;
mod cluster;
mod connections;
mod history;
mod presence;
mod publish;
mod remove;

pub use bans::{Ban, BanFault, Bans, Whom};

use crate::cluster::Cluster;
use crate::keys::{Caller, Keys, Right};
use crate::link::{Link, with_id};
use crate::problem::{Problem, parse};
use axum::Router;
use axum::body::Body;
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, FromRequest, FromRequestParts, Request, State};
use axum::http::{StatusCode, header, request::Parts};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// A body may be as large as a message, and so much more for what is around it.
const BODY_BYTES_AROUND: usize = 64 * 1024;
/// Messages that one request may publish.
pub(crate) const BATCH_MAX: usize = 1_000;
/// For a request whose body comes slowly, and whose answer a core gives late.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(30);

/// What handlers use.
pub(crate) struct Shared {
    pub link: Link,
    pub keys: Keys,
    /// Bytes that a message may have.
    pub message_bytes_max: usize,
    pub cluster: Arc<Cluster>,
    /// Where bans are kept, if anywhere.
    pub bans: Option<Arc<dyn Bans>>,
    /// Places for what may block.
    pub blocking: Arc<Semaphore>,
    /// The room of a user.
    pub room_of_user: fn(&str) -> String,
}

pub(crate) type Handle = Arc<Shared>;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Fanfare",
        description = "Publish to rooms, read what they keep, ask who is there, and direct connections and instances. Whichever instance is asked answers for the whole cluster.",
        license(name = "MIT")
    ),
    modifiers(&BearerKey),
    security(("key" = []))
)]
struct Document;

struct BearerKey;

impl Modify for BearerKey {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let scheme =
            HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("One of the keys of the file."));
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("key", SecurityScheme::Http(scheme.build()));
    }
}

fn all() -> OpenApiRouter<Handle> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(publish::to_room, history::read, remove::all))
        .routes(routes!(remove::one))
        .routes(routes!(publish::batch))
        .routes(routes!(presence::who))
        .routes(routes!(connections::of_user))
        .routes(routes!(connections::disconnect))
        .routes(routes!(connections::unsubscribe))
        .routes(routes!(bans::list, bans::ban, bans::unban))
        .routes(routes!(cluster::rooms))
        .routes(routes!(cluster::about))
        .routes(routes!(cluster::shed))
        .routes(routes!(cluster::drain))
}

pub(crate) fn router(shared: Handle) -> Router {
    let (router, document) = all().split_for_parts();
    let document: Arc<str> = document.to_json().expect("it has no map with other keys than texts").into();
    let body_bytes_max = shared.message_bytes_max.saturating_mul(2).saturating_add(BODY_BYTES_AROUND);
    router
        .layer(middleware::from_fn_with_state(Arc::clone(&shared), identify))
        .route(
            "/v1/openapi.json",
            get(move || async move { ([(header::CONTENT_TYPE, "application/json")], document.to_string()) }),
        )
        .fallback(|| async {
            Problem::new(
                StatusCode::NOT_FOUND,
                "not_found",
                "nothing is at this path: GET /v1/openapi.json tells what there is",
            )
        })
        .method_not_allowed_fallback(|| async {
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "this path has other methods")
        })
        .layer(DefaultBodyLimit::max(body_bytes_max))
        .layer(middleware::from_fn(in_time))
        .with_state(shared)
}

/// A request takes no longer than it may.
async fn in_time(request: Request, next: Next) -> Response {
    let late =
        || Problem::new(StatusCode::REQUEST_TIMEOUT, "timeout", "the request did not come in time").into_response();
    timeout(REQUEST_TIME_MAX, next.run(request)).await.unwrap_or_else(|_| late())
}

/// Who asks is found out before anything else is looked at.
async fn identify(State(shared): State<Handle>, mut request: Request, next: Next) -> Response {
    let shown = request.headers().get(header::AUTHORIZATION).map(|value| value.as_bytes());
    let key = shown.and_then(|shown| {
        let (scheme, key) = shown.split_at_checked("Bearer ".len())?;
        scheme.eq_ignore_ascii_case(b"Bearer ").then(|| key.trim_ascii())
    });
    match key.and_then(|key| shared.keys.caller(key)) {
        Some(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        None => {
            let detail = "a key is needed, as Authorization: Bearer KEY, and none that is known has come";
            Problem::new(StatusCode::UNAUTHORIZED, "unauthorised", detail).into_response()
        }
    }
}

/// Whoever asks has this right.
pub(crate) fn has(caller: &Caller, right: Right) -> Result<(), Problem> {
    if caller.may(right) {
        return Ok(());
    }
    let detail = format!("the key {:?} has no right {:?}", caller.name, right.name());
    Err(Problem::new(StatusCode::FORBIDDEN, "forbidden", detail))
}

/// What a core answers this command, which has a `type` and no `id`. What is `null` in it is left out.
async fn ask<T: DeserializeOwned>(shared: &Handle, command: Value) -> Result<T, Problem> {
    let Value::Object(mut command) = command else { unreachable!("a command is an object") };
    command.retain(|_, value| !value.is_null());
    parse(&shared.link.ask(|id| with_id(&command, id)).await?)
}

/// A body of JSON, whose faults are problems.
pub(crate) struct Json<T>(pub T);

impl<S: Send + Sync, T: for<'de> Deserialize<'de>> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: axum::http::Request<Body>, state: &S) -> Result<Json<T>, Problem> {
        match axum::Json::<T>::from_request(request, state).await {
            Ok(axum::Json(body)) => Ok(Json(body)),
            Err(rejection) => Err(body_problem(&rejection)),
        }
    }
}

fn body_problem(rejection: &JsonRejection) -> Problem {
    let code = match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => "body_too_large",
        StatusCode::UNSUPPORTED_MEDIA_TYPE => "media_type",
        _ => "bad_json",
    };
    // What is JSON and not what is asked for is no less the client's fault than what is no JSON.
    let status = match rejection.status() {
        StatusCode::UNPROCESSABLE_ENTITY => StatusCode::BAD_REQUEST,
        status => status,
    };
    Problem::new(status, code, rejection.body_text())
}

/// Parts of a path, whose faults are problems.
pub(crate) struct Path<T>(pub T);

impl<S: Send + Sync, T: for<'de> Deserialize<'de> + Send> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Path<T>, Problem> {
        let path = axum::extract::Path::<T>::from_request_parts(parts, state).await;
        let problem =
            |rejection: PathRejection| Problem::new(StatusCode::BAD_REQUEST, "bad_path", rejection.body_text());
        path.map(|axum::extract::Path(path)| Path(path)).map_err(problem)
    }
}

/// A query, whose faults are problems.
pub(crate) struct Query<T>(pub T);

impl<S: Send + Sync, T: for<'de> Deserialize<'de>> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Query<T>, Problem> {
        let query = axum::extract::Query::<T>::from_request_parts(parts, state).await;
        let problem =
            |rejection: QueryRejection| Problem::new(StatusCode::BAD_REQUEST, "bad_query", rejection.body_text());
        query.map(|axum::extract::Query(query)| Query(query)).map_err(problem)
    }
}
