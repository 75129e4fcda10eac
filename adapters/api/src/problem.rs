//! Errors as RFC 9457 has them.

use crate::link::Unanswered;
use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

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
            "key_reused" => StatusCode::UNPROCESSABLE_ENTITY,
            "broker_refused" => StatusCode::BAD_GATEWAY,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        };
        Problem::new(status, code, reason)
    }
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
