//! What a server's subcommands need: a token for trying, and bans as a text to read.
//! What the command line looks like is the server's.

use std::fmt::Write;

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::bans::{BanList, Banned};
use crate::claims::ClaimNames;
use crate::credential::{Grants, Info, USER_BYTES_MAX};
use crate::date::date;
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
    /// What others are told of the user, as JSON text.
    pub info: Option<String>,
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
    if let Some(text) = &request.info {
        let value: Value = serde_json::from_str(text).map_err(|_| SetupError::BadInfo)?;
        let Some(Info::Told(_)) = Info::of(Some(&value)) else { return Err(SetupError::BadInfo) };
        claims[&request.names.info] = value;
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

/// A line for each ban, the one that ends first at the top: its end, and the flags by which it is made and lifted.
pub fn bans(list: &BanList) -> String {
    let mut bans: Vec<_> = list.bans.iter().map(|ban| (ban.until_ms, flags(&ban.what))).collect();
    bans.sort();
    let mut text = String::new();
    for (until_ms, what) in bans {
        // To the second. What ends later than there are dates is as good as endless.
        let end = date(until_ms / 1_000 * 1_000).unwrap_or_else(|| "for ever".to_owned());
        let _ = writeln!(text, "until {end:<20}  {what}");
    }
    if text.is_empty() {
        text.push_str("nobody is banned\n");
    }
    if list.unreadable > 0 {
        let _ = writeln!(text, "{} more cannot be read, and are not enforced", list.unreadable);
    }
    text
}

/// The flags that say what is banned, as a shell takes them. What they say is the same ban to the millisecond, because one is lifted by its
/// equal.
pub fn flags(what: &Banned) -> String {
    let flag = |name: &str, value: &str| match value.starts_with('-') {
        true => format!("--{name}={}", word(value)),
        false => format!("--{name} {}", word(value)),
    };
    match what {
        Banned::User(user) => flag("user", user),
        Banned::Token(id) => flag("token", id),
        Banned::IssuedBefore { ms, user } => {
            let time = flag("issued-before", &date(*ms).unwrap_or_else(|| ms.to_string()));
            let of_user = user.iter().map(|user| flag("user", user));
            std::iter::once(time).chain(of_user).collect::<Vec<_>>().join(" ")
        }
    }
}

/// The time (Unix, ms) of such a text: RFC 3339, as it is printed. What is finer than a millisecond is left out.
pub fn time_of(text: &str) -> Option<u64> {
    let time = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    u64::try_from(time.unix_timestamp_nanos().div_euclid(1_000_000)).ok()
}

/// The text as one word of a shell's. What a terminal would act on is escaped, in quotes that bash, ksh, zsh and busybox know.
fn word(text: &str) -> String {
    let is_plain = |character: char| character.is_ascii_alphanumeric() || "-._@:/+=,%".contains(character);
    let is_shown = |character: char| character == '\'' || character == '"' || character.escape_debug().len() == 1;
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    if text.chars().all(|character| character == '\\' || is_shown(character)) {
        return format!("'{}'", text.replace('\'', r"'\''"));
    }
    let mut word = "$'".to_owned();
    for character in text.chars() {
        match character {
            '\'' | '\\' => word.extend(['\\', character]),
            shown if is_shown(shown) => word.push(shown),
            other => other.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| {
                let _ = write!(word, "\\{byte:03o}");
            }),
        }
    }
    word + "'"
}
