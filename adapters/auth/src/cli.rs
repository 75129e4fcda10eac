//! What a server's subcommands need: a token for trying, and bans as a text to read.
//! What the command line looks like is the server's.

use std::fmt::Write;

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::bans::{BanList, Banned};
use crate::claims::ClaimNames;
use crate::credential::{Grants, USER_BYTES_MAX};
use crate::error::SetupError;
use crate::mint::{MintingKey, mint};
use crate::secret::Secret;

/// What a token is to say. Its `kid` is the key's name.
#[derive(Debug, Clone, Default)]
pub struct TokenRequest {
    /// Whom it is for.
    pub user: String,
    /// What it grants.
    pub grants: Grants,
    /// The rooms that its connection joins by itself.
    pub join: Vec<String>,
    /// How long it is valid, in seconds.
    pub lifetime_s: u64,
    /// Who issues it (`iss`).
    pub issuer: Option<String>,
    /// For whom (`aud`).
    pub audience: Option<String>,
    /// Its own name (`jti`), to ban it by.
    pub id: Option<String>,
    /// Where it says so.
    pub names: ClaimNames,
}

/// The key in a file: a private key if it is a PEM text, and else a secret.
pub fn minting_key(text: &Secret) -> Result<MintingKey, SetupError> {
    let is_pem = text.expose().windows(10).any(|part| part == b"-----BEGIN");
    if is_pem { MintingKey::pem(text) } else { MintingKey::secret(text) }
}

/// The token, issued now (Unix, ms).
pub fn token(request: &TokenRequest, key: &MintingKey, now_ms: u64) -> Result<Secret, SetupError> {
    if request.user.is_empty() || request.user.len() > USER_BYTES_MAX {
        return Err(SetupError::BadUser);
    }
    let now_s = now_ms / 1000;
    let mut claims = json!({ "iat": now_s, "exp": now_s.saturating_add(request.lifetime_s) });
    let named = [("iss", &request.issuer), ("aud", &request.audience), ("jti", &request.id)];
    for (claim, value) in named.into_iter().filter_map(|(claim, value)| Some((claim, value.as_ref()?))) {
        claims[claim] = value.as_str().into();
    }
    claims[&request.names.user] = request.user.as_str().into();
    let grants = grants_of(request);
    if grants.as_object().is_some_and(|grants| !grants.is_empty()) {
        claims[&request.names.grants] = grants;
    }
    mint(&claims, key)
}

/// The lists that are not empty.
fn grants_of(TokenRequest { grants, join, .. }: &TokenRequest) -> Value {
    let Grants { subscribe, publish, history, presence } = grants;
    let lists =
        [("subscribe", subscribe), ("publish", publish), ("history", history), ("presence", presence), ("join", join)];
    let lists = lists.into_iter().filter(|(_, list)| !list.is_empty());
    Value::Object(lists.map(|(name, list)| (name.to_owned(), json!(list))).collect())
}

/// A line for each ban, the one that ends first at the top. Names stand in quotes, with escapes for what a terminal would act on.
pub fn bans(list: &BanList) -> String {
    let mut bans: Vec<_> = list.bans.iter().map(|ban| (ban.until_ms, banned(&ban.what))).collect();
    bans.sort();
    let mut text = String::new();
    for (until_ms, what) in bans {
        let _ = writeln!(text, "until {:<20}  {what}", date(until_ms));
    }
    if text.is_empty() {
        text.push_str("nobody is banned\n");
    }
    if list.unreadable > 0 {
        let _ = writeln!(text, "{} more cannot be read, and are not enforced", list.unreadable);
    }
    text
}

fn banned(what: &Banned) -> String {
    match what {
        Banned::User(user) => format!("user {user:?}"),
        Banned::Token(id) => format!("token {id:?}"),
        Banned::IssuedBefore { ms, user: None } => format!("all that was issued before {}", date(*ms)),
        Banned::IssuedBefore { ms, user: Some(user) } => {
            format!("of user {user:?} what was issued before {}", date(*ms))
        }
    }
}

/// In UTC, to the second. Later than the year 9999 is as good as never.
fn date(ms: u64) -> String {
    let date = i64::try_from(ms / 1000).ok().and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    date.and_then(|date| date.format(&Rfc3339).ok()).unwrap_or_else(|| "for ever".to_owned())
}
