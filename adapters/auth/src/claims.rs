//! What a token says, once its signature has been checked: for whom it is, how long it is valid, who it is about.
//! RFC 7519 §4.1. A claim of a wrong type is no claim that is absent: it is refused.

use serde_json::{Map, Value};

use crate::credential::{Grants, Identity, Info, USER_BYTES_MAX, user_of};
use crate::issuer::Issuer;
use crate::refusal::Refusal;

/// The claims whose names are not everywhere the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimNames {
    /// The user, a text or a whole number: `sub` unless told.
    pub user: String,
    /// An object with lists of texts, each of which may be absent: `subscribe`, `publish`, `history`, `presence`, `join`. It is
    /// `grants` unless told.
    pub grants: String,
    /// Any value, which others are told of the user: `info` unless told.
    pub info: String,
}

impl Default for ClaimNames {
    fn default() -> Self {
        Self { user: "sub".to_owned(), grants: "grants".to_owned(), info: "info".to_owned() }
    }
}

impl ClaimNames {
    /// Who the claims are about, if they are for us and it is their time.
    pub(crate) fn identity(
        &self,
        claims: &Map<String, Value>,
        issuer: &Issuer,
        now_ms: u64,
    ) -> Result<Identity, Refusal> {
        check_audience(claims.get("aud"), &issuer.audience)?;
        let leeway_ms = issuer.leeway_ms;
        let expires_ms = time_ms(claims, "exp")?.map(|at| at.saturating_add(leeway_ms));
        if expires_ms.is_some_and(|at| now_ms >= at) {
            return Err(Refusal::Expired);
        }
        // Nothing in the RFC forbids an `iss`ue in the future. But a token that claims one would escape a ban of all older tokens.
        let issued_ms = time_ms(claims, "iat")?;
        let begins_ms = time_ms(claims, "nbf")?.max(issued_ms);
        if begins_ms.is_some_and(|at| at > now_ms.saturating_add(leeway_ms)) {
            return Err(Refusal::NotYetValid);
        }
        let token_id = match claims.get("jti") {
            None => None,
            Some(Value::String(id)) => Some(format!("{}{id}", issuer.user_prefix)),
            Some(_) => return Err(Refusal::Malformed),
        };
        let user = prefixed(&issuer.user_prefix, user_of(claims.get(&self.user))?)?;
        let (grants, join) = grants(claims.get(&self.grants))?;
        let info = Info::of(claims.get(&self.info));
        // A clock that is ahead would put a token after a ban that it is older than.
        let issued_ms = issued_ms.map(|at| at.saturating_sub(leeway_ms));
        Ok(Identity { user, grants, join, expires_ms, issued_ms, token_id, info, renewal: None })
    }
}

/// The user's name among those of all issuers. It is no longer than one of a single issuer.
fn prefixed(prefix: &str, mut user: String) -> Result<String, Refusal> {
    user.insert_str(0, prefix);
    if user.len() > USER_BYTES_MAX { Err(Refusal::NoUser) } else { Ok(user) }
}

/// One of the token's audiences has to be one of ours. Without any in the token, none may be expected.
fn check_audience(claimed: Option<&Value>, ours: &[String]) -> Result<(), Refusal> {
    let is_ours = |one: &Value| one.as_str().is_some_and(|one| ours.iter().any(|our| our == one));
    let is_for_us = match claimed {
        None => ours.is_empty(),
        Some(Value::Array(several)) => several.iter().any(is_ours),
        Some(one) => is_ours(one),
    };
    if is_for_us { Ok(()) } else { Err(Refusal::WrongAudience) }
}

/// A NumericDate (RFC 7519 §2): seconds, perhaps with a fraction.
pub(crate) fn time_ms(claims: &Map<String, Value>, claim: &str) -> Result<Option<u64>, Refusal> {
    let Some(value) = claims.get(claim) else { return Ok(None) };
    let seconds = value.as_f64().filter(|seconds| *seconds >= 0.0).ok_or(Refusal::Malformed)?;
    // Exact for 285,000 years; a larger number becomes the largest.
    Ok(Some((seconds * 1000.0) as u64))
}

/// The grants, and the rooms to join.
pub(crate) fn grants(claim: Option<&Value>) -> Result<(Grants, Vec<String>), Refusal> {
    let object = match claim {
        None => return Ok((Grants::default(), Vec::new())),
        Some(Value::Object(object)) => object,
        Some(_) => return Err(Refusal::BadGrants),
    };
    let list = |name: &str| list(object.get(name));
    let grants = Grants {
        subscribe: list("subscribe")?,
        publish: list("publish")?,
        history: list("history")?,
        presence: list("presence")?,
    };
    Ok((grants, list("join")?))
}

/// A list of texts. None is an empty one.
pub(crate) fn list(value: Option<&Value>) -> Result<Vec<String>, Refusal> {
    match value {
        None => Ok(Vec::new()),
        Some(Value::Array(texts)) => {
            texts.iter().map(|one| one.as_str().map(str::to_owned).ok_or(Refusal::BadGrants)).collect()
        }
        Some(_) => Err(Refusal::BadGrants),
    }
}
