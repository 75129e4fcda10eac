//! Why a credential does not count, and what that means for its connection.

use crate::close::CloseReason;
use crate::identity::Denied;
use crate::protocol::ErrorCode;

/// How a connection ends whose credential has expired, or its session.
pub(super) const EXPIRED: CloseReason<'static> = CloseReason::Expired("the credential has expired");
pub(crate) const CROWDED: &str = "this user has as many connections as allowed";

/// Why the credential of an open WebSocket does not count.
#[derive(Clone, Copy, Debug)]
pub(super) enum Unfit {
    Denied(Denied),
    /// It is good, and its user has as many connections as allowed.
    Crowded,
}

impl Unfit {
    /// What the client is told, where its dialect has a word for it.
    pub fn told(self) -> (ErrorCode, &'static str) {
        match self {
            Unfit::Denied(Denied::Unauthorised) => (ErrorCode::Unauthorised, "the credential is not good"),
            Unfit::Denied(Denied::Expired) => (ErrorCode::TokenExpired, "the credential has expired"),
            Unfit::Denied(Denied::Forbidden) => (ErrorCode::Forbidden, "this connection may not be that user's"),
            Unfit::Denied(Denied::Unavailable) => {
                (ErrorCode::AuthUnavailable, "the credential cannot be verified at the moment")
            }
            Unfit::Crowded => (ErrorCode::TooManyConnections, CROWDED),
        }
    }

    /// How the connection ends, if it ends for that.
    pub fn close(self) -> CloseReason<'static> {
        match self {
            Unfit::Denied(denied) => self.later().unwrap_or(ended(denied)),
            Unfit::Crowded => CloseReason::TryAgainLater(CROWDED),
        }
    }

    /// The same, where the credential may count at another time.
    pub fn later(self) -> Option<CloseReason<'static>> {
        match self {
            Unfit::Denied(Denied::Unavailable) => Some(CloseReason::TryAgainLater("the credential cannot be verified")),
            Unfit::Denied(_) => None,
            Unfit::Crowded => Some(CloseReason::TryAgainLater(CROWDED)),
        }
    }
}

/// How a connection ends whose credential is good no more.
pub(super) fn ended(denied: Denied) -> CloseReason<'static> {
    match denied {
        Denied::Forbidden => CloseReason::Forbidden("this user may not be here"),
        Denied::Unauthorised | Denied::Expired | Denied::Unavailable => EXPIRED,
    }
}
