//! Sessions of Express: the cookie that `express-session` signs, the session that `connect-redis` stores, the user in it.
//! The look-up itself is a trait, so that it can be tried without a Redis.

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Map, Value};
use sha2::Sha256;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::credential::{Credential, Grants, Identity, Info, user_of};
use crate::error::SetupError;
use crate::json;
use crate::refusal::Refusal;
use crate::secret::Secret;

/// Of a cookie's value. Browsers keep 4 KiB at most.
const COOKIE_BYTES_MAX: usize = 4 * 1024;

/// Of a stored session. It is the application's, so it may hold more than a token.
pub(crate) const SESSION_BYTES_MAX: usize = 256 * 1024;

/// As `serde_json` allows by itself.
const SESSION_DEPTH_MAX: usize = 127;

/// Where sessions are stored.
pub trait SessionStore: Send + Sync {
    /// The session under this key, if there is one. It may block.
    fn session(&self, key: &Secret) -> Result<Option<StoredSession>, Unavailable>;

    /// Why the store could not be asked when that was last tried.
    fn trouble(&self) -> Option<String> {
        None
    }
}

/// A session as it is stored. What `Debug` shows of it is no word of the text, which is the application's.
#[derive(Clone)]
pub struct StoredSession {
    /// Its JSON text.
    pub text: Vec<u8>,
    /// How long the store will keep it, in ms, if it removes it by itself.
    ///
    /// It is believed before the text's own end: a request of an active user moves the store's end alone (`EXPIRE`), and the text
    /// would tell the end of the day on which they signed in.
    pub left_ms: Option<u64>,
}

impl fmt::Debug for StoredSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredSession").field("left_ms", &self.left_ms).finish_non_exhaustive()
    }
}

/// The store could not be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unavailable;

/// How sessions are signed, stored and read.
#[derive(Debug)]
pub struct Sessions {
    secrets: Vec<Secret>,
    prefix: String,
    user: Vec<String>,
}

impl Sessions {
    /// Cookies are signed by one of these secrets: the `secret` of `express-session`, which may be several while it is changed.
    ///
    /// They may be short, because the application chose them.
    pub fn new(secrets: Vec<Secret>) -> Result<Self, SetupError> {
        if secrets.is_empty() || secrets.iter().any(|secret| secret.expose().is_empty()) {
            return Err(SetupError::NoSecret);
        }
        Ok(Self { secrets, prefix: "sess:".to_owned(), user: vec!["passport".to_owned(), "user".to_owned()] })
    }

    /// Sessions are stored under keys that begin so: `sess:` unless told, as in `connect-redis`.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// The user stands there, names with dots between them: `passport.user` unless told.
    pub fn user_path(mut self, path: &str) -> Self {
        self.user = path.split('.').map(str::to_owned).collect();
        self
    }

    /// Whose session the cookie is. The credential is the cookie's value, see [`cookie`](crate::cookie).
    pub fn verify(&self, credential: &Credential, store: &dyn SessionStore, now_ms: u64) -> Result<Identity, Refusal> {
        let key = self.key(&credential.token)?;
        let session = store.session(&key).map_err(|Unavailable| Refusal::Unavailable)?;
        self.identity(&session.ok_or(Refusal::NoSession)?, now_ms)
    }

    /// Under which key the session of this cookie is stored: what is signed in `s:<id>.<signature>`, after the prefix.
    pub fn key(&self, cookie: &Secret) -> Result<Secret, Refusal> {
        let value = cookie.expose();
        if value.len() > COOKIE_BYTES_MAX {
            return Err(Refusal::TooLarge);
        }
        let signed = value.strip_prefix(b"s:").ok_or(Refusal::Malformed)?;
        let dot = signed.iter().rposition(|byte| *byte == b'.').ok_or(Refusal::Malformed)?;
        let (id, signature) = (&signed[..dot], &signed[dot + 1..]);
        let signature = STANDARD_NO_PAD.decode(signature).map_err(|_| Refusal::Malformed)?;
        if id.is_empty() || !self.secrets.iter().any(|secret| is_signed_by(secret, id, &signature)) {
            return Err(Refusal::BadSignature);
        }
        Ok(Secret::new([self.prefix.as_bytes(), id].concat()))
    }

    /// Whose session this is, until when, and what its field `info` tells others. It has no grants and no time of issue.
    pub fn identity(&self, session: &StoredSession, now_ms: u64) -> Result<Identity, Refusal> {
        let StoredSession { text, left_ms } = session;
        if text.len() > SESSION_BYTES_MAX {
            return Err(Refusal::TooLarge);
        }
        let session = json::object(text, SESSION_DEPTH_MAX)?;
        let expires_ms = match left_ms {
            Some(left_ms) => Some(now_ms.saturating_add(*left_ms)),
            None => expiry_ms(&session)?,
        };
        if expires_ms.is_some_and(|at| now_ms >= at) {
            return Err(Refusal::Expired);
        }
        let user = user_of(at_path(&session, &self.user))?;
        let (grants, join) = (Grants::default(), Vec::new());
        let info = Info::of(session.get("info"));
        Ok(Identity { user, grants, join, expires_ms, issued_ms: None, token_id: None, info, renewal: None })
    }
}

/// As `cookie-signature` signs: HMAC with SHA-256. `verify_slice` takes as long for every signature of the length.
fn is_signed_by(secret: &Secret, id: &[u8], signature: &[u8]) -> bool {
    let hmac = Hmac::<Sha256>::new_from_slice(secret.expose());
    hmac.is_ok_and(|hmac| hmac.chain_update(id).verify_slice(signature).is_ok())
}

fn at_path<'a>(session: &'a Map<String, Value>, path: &[String]) -> Option<&'a Value> {
    let (first, rest) = path.split_first()?;
    rest.iter().try_fold(session.get(first)?, |value, name| value.get(name))
}

/// `cookie.expires`, a date as JavaScript writes it in JSON. A cookie of the browser's session has none, or null, or false.
fn expiry_ms(session: &Map<String, Value>) -> Result<Option<u64>, Refusal> {
    match session.get("cookie").and_then(|cookie| cookie.get("expires")) {
        None | Some(Value::Null | Value::Bool(false)) => Ok(None),
        Some(Value::String(date)) => {
            let date = OffsetDateTime::parse(date, &Rfc3339).map_err(|_| Refusal::Malformed)?;
            Ok(Some(u64::try_from(date.unix_timestamp_nanos() / 1_000_000).unwrap_or(0)))
        }
        Some(_) => Err(Refusal::Malformed),
    }
}
