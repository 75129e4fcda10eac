//! Errors as RFC 9457 has them.

use crate::link::Unanswered;
use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoResponses, ToSchema};

/// What is wrong with a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(title = "Problem")]
pub(crate) struct Problem {
    /// The status of the response.
    pub status: u16,
    /// A word for programs, which does not change.
    pub code: String,
    /// The status, for people.
    pub title: String,
    /// What is wrong, for people.
    pub detail: String,
}

/// How any request may be refused.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "it describes responses")]
pub(crate) enum Refusals {
    /// Something in the request is wrong.
    #[response(status = 400, content_type = "application/problem+json")]
    Wrong(#[to_schema] Problem),
    /// No key that is known has come.
    #[response(status = 401, content_type = "application/problem+json")]
    Unauthorised(#[to_schema] Problem),
    /// The key has no right to it.
    #[response(status = 403, content_type = "application/problem+json")]
    Forbidden(#[to_schema] Problem),
    /// The room keeps nothing of the kind, or has another epoch; or the server is not configured for it.
    #[response(status = 409, content_type = "application/problem+json")]
    Unavailable(#[to_schema] Problem),
    /// The body is too large.
    #[response(status = 413, content_type = "application/problem+json")]
    TooLarge(#[to_schema] Problem),
    /// The body is not application/json.
    #[response(status = 415, content_type = "application/problem+json")]
    MediaType(#[to_schema] Problem),
    /// The broker refused it.
    #[response(status = 502, content_type = "application/problem+json")]
    Refused(#[to_schema] Problem),
    /// The broker is away, or too much waits. It was not carried out.
    #[response(status = 503, content_type = "application/problem+json")]
    Busy(#[to_schema] Problem),
    /// No answer came in time. It may have been carried out.
    #[response(status = 504, content_type = "application/problem+json")]
    TimedOut(#[to_schema] Problem),
}

impl Problem {
    pub fn new(status: StatusCode, code: &str, detail: impl Into<String>) -> Problem {
        Problem {
            status: status.as_u16(),
            code: code.to_owned(),
            title: status.canonical_reason().unwrap_or_default().to_owned(),
            detail: detail.into(),
        }
    }

    /// What a core has refused: the code and the reason of its `ERROR`.
    pub fn of_error(code: &str, reason: &str) -> Problem {
        let status = match code {
            "room_invalid" | "bad_field" | "missing_field" | "bad_json" => StatusCode::BAD_REQUEST,
            "history_unavailable" | "presence_unavailable" | "key_unsupported" | "epoch_unknown" => {
                StatusCode::CONFLICT
            }
            "message_unknown" => StatusCode::NOT_FOUND,
            "key_reused" => StatusCode::UNPROCESSABLE_ENTITY,
            "broker_refused" => StatusCode::BAD_GATEWAY,
            "unknown_type" | "unreadable" => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        };
        Problem::new(status, code, reason)
    }
}

/// What a core answers, once it is known that it is no error.
pub(crate) fn parse<'a, T: Deserialize<'a>>(answer: &'a [u8]) -> Result<T, Problem> {
    #[derive(Deserialize)]
    struct Refused<'a> {
        #[serde(rename = "type")]
        kind: &'a str,
        code: Option<String>,
        reason: Option<String>,
    }
    let internal = || Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "an answer was not understood");
    let refused: Refused<'_> = serde_json::from_slice(answer).map_err(|_| internal())?;
    if refused.kind == "ERROR" {
        return Err(Problem::of_error(&refused.code.unwrap_or_default(), &refused.reason.unwrap_or_default()));
    }
    serde_json::from_slice(answer).map_err(|_| internal())
}

impl From<Unanswered> for Problem {
    fn from(unanswered: Unanswered) -> Problem {
        match unanswered {
            Unanswered::Busy => Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "busy",
                "too many requests wait; this one was not carried out",
            ),
            Unanswered::TimedOut => Problem::new(
                StatusCode::GATEWAY_TIMEOUT,
                "unconfirmed",
                "no answer came in time; it may have been carried out",
            ),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(&self)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        match status {
            StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            StatusCode::UNAUTHORIZED => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            _ => {}
        }
        response
    }
}
