//! Section `auth`, and `[[issuers]]`: what clients are asked for, and by what it is verified. Nothing is verified here.

mod issuers;
mod kinds;
mod problems;
mod verification;

pub(crate) use issuers::ISSUERS;
pub(crate) use kinds::{AuthSecret, Name, OptionalPath, PathList, SecretText, SessionSecrets, WebUrl};
pub use kinds::{FilePath, Url};
pub(crate) use problems::{problems, warnings};
pub use verification::{bans_store, methods, signing_secret};

use super::RedisTarget;
use fanfare_auth::{Algorithm, ClaimNames, CookieKind, Secret};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// How clients are asked who they are. Its `Debug` form shows no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Auth {
    /// Every key of the section that is a setting of the core's. It is [`Config::core`](super::Config::core)'s if anything verifies.
    pub core: fanfare_core::Auth,
    /// The issuer of the flags and variables. Its name may be empty: then it is whose tokens name no other.
    pub issuer: Issuer,
    /// `[[issuers]]`.
    pub issuers: Vec<Issuer>,
    /// `auth.user_claim`: the claim that holds the user.
    pub user_claim: String,
    /// `auth.grants_claim`: the claim that holds the grants.
    pub grants_claim: String,
    /// `auth.info_claim`: the claim that holds what others are told of the user.
    pub info_claim: String,
    /// `auth.ca_file`: roots for what is fetched by https, in place of Mozilla's.
    pub ca_file: Option<PathBuf>,
    /// `auth.cookie_holds`: what the cookie is.
    pub cookie_holds: CookieKind,
    /// Sessions in Redis.
    pub session: Session,
    /// The operator's endpoint.
    pub callback: Callback,
    /// `auth.bans_file`: where bans are kept without Redis.
    pub bans_file: Option<PathBuf>,
}

/// Whose tokens are believed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Issuer {
    /// As it stands in `iss`.
    pub name: String,
    /// What stands before the names of its users and of its tokens. `None` means that nobody has said so, and that it is nothing.
    pub user_prefix: Option<String>,
    /// Of which the tokens have to name one; without any, they name none.
    pub audience: Vec<Word>,
    /// A secret. `[[issuers]]` have it in a file alone.
    pub secret: Option<Secret>,
    /// A file with a secret.
    pub secret_file: Option<PathBuf>,
    /// Files with a public key each, as PEM.
    pub key_files: Vec<FilePath>,
    /// A file with a key set.
    pub jwks_file: Option<PathBuf>,
    /// Where the issuer publishes its keys.
    pub jwks_url: Option<Url>,
    /// How far its clock may be from ours.
    pub leeway: Duration,
    /// The algorithms that its keys are for, out of those that they can; without any, all of them.
    pub algorithms: Vec<AlgorithmName>,
}

impl Issuer {
    /// Whether any key is named.
    pub fn has_keys(&self) -> bool {
        let Issuer { secret, secret_file, key_files, jwks_file, jwks_url, .. } = self;
        let has_file = secret_file.is_some() || jwks_file.is_some() || !key_files.is_empty();
        secret.is_some() || has_file || jwks_url.is_some()
    }
}

/// Sessions that `express-session` signs and `connect-redis` stores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// `auth.session_secret`: any of them may have signed.
    pub secrets: Vec<Secret>,
    /// `auth.session_secret_file`: the same, in a file.
    pub secret_file: Option<PathBuf>,
    /// `auth.session_redis_url`; `None` means `redis.url`.
    pub redis: Option<RedisTarget>,
    /// `auth.session_prefix`: what the keys of sessions begin with.
    pub prefix: String,
    /// `auth.session_user`: where in a session the user stands.
    pub user: String,
}

impl Session {
    fn has_secrets(&self) -> bool {
        !self.secrets.is_empty() || self.secret_file.is_some()
    }
}

/// An HTTP endpoint of the operator's that says who somebody is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Callback {
    /// `auth.url`.
    pub url: Option<Url>,
    /// `auth.forward_headers`: what of the client's request it is to see.
    pub forward_headers: Vec<Word>,
    /// `auth.url_timeout_ms`.
    pub timeout: Duration,
    /// `auth.url_plaintext`: whether the URL may be http although it is of another machine.
    pub plaintext: bool,
}

impl Auth {
    /// Whether anything is there by which credentials are verified. Else everything is open to everybody.
    pub fn is_on(&self) -> bool {
        self.has_issuers() || self.session.has_secrets() || self.callback.url.is_some()
    }

    /// What the core is told, if anything verifies.
    pub fn of_core(&self) -> Option<fanfare_core::Auth> {
        // An endpoint that is to see headers sees them of every request, also without a credential that is looked for here.
        let asks_about_requests = self.callback.url.is_some() && !self.callback.forward_headers.is_empty();
        let mut core = self.core.clone();
        (core.requests, core.forwards_head) = (asks_about_requests, asks_about_requests);
        self.is_on().then_some(core)
    }

    /// Where a token says what.
    pub(crate) fn claim_names(&self) -> ClaimNames {
        let Auth { user_claim, grants_claim, info_claim, .. } = self;
        ClaimNames { user: user_claim.clone(), grants: grants_claim.clone(), info: info_claim.clone() }
    }

    /// Whether users can come from more than one place, each of which could name one of another.
    fn has_several_sources(&self) -> bool {
        let others = [self.issuer.has_keys(), self.session.has_secrets(), self.callback.url.is_some()];
        self.issuers.len() + others.into_iter().filter(|is_there| *is_there).count() > 1
    }

    fn has_issuers(&self) -> bool {
        self.issuer.has_keys() || !self.issuers.is_empty()
    }
}

/// A text of a list: an audience, or the name of a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word(String);

impl Word {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Word {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Word, &'static str> {
        if text.is_empty() || text.chars().any(char::is_control) {
            return Err("it is empty, or has control characters");
        }
        Ok(Word(text.to_owned()))
    }
}

impl std::fmt::Display for Word {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// An algorithm, by its name in RFC 7518 and RFC 8037.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlgorithmName(pub(crate) Algorithm);

const ALGORITHMS: [(&str, Algorithm); 12] = [
    ("HS256", Algorithm::HS256),
    ("HS384", Algorithm::HS384),
    ("HS512", Algorithm::HS512),
    ("RS256", Algorithm::RS256),
    ("RS384", Algorithm::RS384),
    ("RS512", Algorithm::RS512),
    ("PS256", Algorithm::PS256),
    ("PS384", Algorithm::PS384),
    ("PS512", Algorithm::PS512),
    ("ES256", Algorithm::ES256),
    ("ES384", Algorithm::ES384),
    ("EdDSA", Algorithm::EdDSA),
];

impl FromStr for AlgorithmName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<AlgorithmName, &'static str> {
        let known = ALGORITHMS.iter().find(|(name, _)| *name == text);
        known.map(|(_, algorithm)| AlgorithmName(*algorithm)).ok_or("it is no algorithm that is known here")
    }
}

impl std::fmt::Display for AlgorithmName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let known = ALGORITHMS.iter().find(|(_, algorithm)| *algorithm == self.0);
        f.write_str(known.map_or("", |(name, _)| name))
    }
}

/// What would be right, of keys that an issuer has in both places.
pub(crate) const AUDIENCES: &str =
    "texts without commas, separated by commas (in the file an array of texts), or an empty text for none";
pub(crate) const KEY_FILES: &str = "paths of PEM files with a public key each (RSA, P-256, P-384 or Ed25519), separated by commas (in \
                                    the file an array of texts), or an empty text for none";
pub(crate) const A_SECRET_FILE: &str = "a file that holds the secret alone, of at least 32 bytes";
pub(crate) const A_KEY_SET_FILE: &str = "a file with a JSON Web Key Set";
pub(crate) const ALGORITHM_NAMES: &str = "HS256, HS384, HS512, RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384 and EdDSA, \
                                          separated by commas (in the file an array of texts), or an empty text for all";
/// RFC 7519 §4.1.4: no more than a few minutes.
pub(crate) const LEEWAY_MS: std::ops::RangeInclusive<u64> = 0..=600_000;
