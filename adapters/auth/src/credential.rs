//! What comes in, a credential, and what goes out, an identity.
//! Neither knows how the one becomes the other.

use serde_json::Value;

use crate::{refusal::Refusal, secret::Secret};

/// A user's name has at most this many bytes: percent-encoded, it is a segment of a room's name.
pub const USER_BYTES_MAX: usize = 255;

/// What a client shows to be let in.
#[derive(Debug, Clone)]
pub struct Credential {
    /// A bearer token, or a cookie's value.
    pub token: Secret,
    /// Where it was found.
    pub source: Source,
}

impl Credential {
    /// This token, found there.
    pub fn new(token: Secret, source: Source) -> Self {
        Self { token, source }
    }
}

/// Where in a client's bytes a credential stood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// `Authorization: Bearer` (RFC 6750 §2.1).
    Header,
    /// A field of the query.
    Query,
    /// An entry of `Sec-WebSocket-Protocol`.
    Subprotocol,
    /// A cookie, which a browser sends unasked.
    Cookie,
    /// The command `AUTH`.
    Command,
    /// None was found: only the request's headers, for the operator's endpoint.
    Request,
    /// [`Identity::renewal`], to look again.
    Renewal,
}

/// Who somebody is, until when, and what their issuer lets them do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The user's name: any text of 1 to [`USER_BYTES_MAX`] bytes, control characters and patterns included.
    pub user: String,
    /// What the issuer grants, for rules that ask for a grant.
    pub grants: Grants,
    /// Rooms that the connection joins by itself: names, not patterns.
    pub join: Vec<String>,
    /// From when on (Unix, ms) the credential would be refused, the leeway included.
    pub expires_ms: Option<u64>,
    /// When it was issued at the earliest (Unix, ms), as the issuer's clock may be ahead by the leeway. Without, it counts as older than
    /// any ban.
    pub issued_ms: Option<u64>,
    /// The token's own name (`jti`), to ban it by.
    pub token_id: Option<String>,
    /// What others are told of the user, where it is kept who is in a room.
    pub info: Option<Info>,
    /// What to show again, as [`Source::Renewal`], to find out whether this still holds: for what was looked up, not for tokens.
    pub renewal: Option<Secret>,
}

/// Patterns of room names, as texts that nobody here understands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grants {
    /// Rooms that may be joined.
    pub subscribe: Vec<String>,
    /// Rooms that may be written to.
    pub publish: Vec<String>,
    /// Rooms whose history may be read.
    pub history: Vec<String>,
    /// Rooms whose presence may be seen.
    pub presence: Vec<String>,
}

/// [`Identity::renewal`] has at most this many bytes, because every connection keeps one. What would need more is refused.
pub const RENEWAL_BYTES_MAX: usize = 8 * 1024;

/// An [`Info`] has at most this many bytes, because every member of a room is sent it.
pub const INFO_BYTES_MAX: usize = 1024;

/// What an issuer wants others to be told of a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Info {
    /// JSON text in its shortest form.
    Told(String),
    /// It would have more bytes than [`INFO_BYTES_MAX`], so nobody is told any of it.
    TooLong,
}

impl Info {
    /// Of this member of a credential. One that is null says nothing.
    pub(crate) fn of(value: Option<&Value>) -> Option<Info> {
        let text = value.filter(|value| !value.is_null())?.to_string();
        Some(if text.len() > INFO_BYTES_MAX { Info::TooLong } else { Info::Told(text) })
    }
}

/// A user's name out of JSON: a text, or a whole number in digits, because many systems number their users.
pub(crate) fn user_of(value: Option<&Value>) -> Result<String, Refusal> {
    let user = match value {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) if number.is_u64() || number.is_i64() => number.to_string(),
        _ => return Err(Refusal::NoUser),
    };
    if user.is_empty() || user.len() > USER_BYTES_MAX { Err(Refusal::NoUser) } else { Ok(user) }
}
