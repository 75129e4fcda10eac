//! An issuer: a name, its keys, and what its tokens must say.
//! Which key a token is signed by is decided here, before its claims are believed.

use std::sync::Arc;

use jsonwebtoken::Algorithm;

use crate::key::Key;
use crate::refusal::Refusal;
use crate::remote::RemoteKeys;

/// Clocks of servers that are set by NTP differ by less. RFC 7519 §4.1.4 allows "no more than a few minutes".
const LEEWAY_MS: u64 = 30_000;

/// Keys that are tried on one token. Without a `kid`, each costs a verification, and a client can send such tokens as fast as it likes.
const TRIALS_MAX: usize = 4;

/// Whose tokens are believed, and what they must say.
#[derive(Debug)]
pub struct Issuer {
    pub(crate) name: Option<String>,
    pub(crate) audience: Vec<String>,
    pub(crate) leeway_ms: u64,
    pub(crate) user_prefix: String,
    keys: KeySource,
}

/// Where an issuer's keys come from.
#[derive(Debug)]
pub enum KeySource {
    /// They are known.
    Fixed(Arc<[Key]>),
    /// The issuer publishes them.
    Remote(Box<RemoteKeys>),
}

impl From<Key> for KeySource {
    fn from(key: Key) -> Self {
        vec![key].into()
    }
}

impl From<Vec<Key>> for KeySource {
    fn from(keys: Vec<Key>) -> Self {
        Self::Fixed(keys.into())
    }
}

impl From<RemoteKeys> for KeySource {
    fn from(keys: RemoteKeys) -> Self {
        Self::Remote(Box::new(keys))
    }
}

/// A token's signature and what stands in its header, all of it claimed by a stranger.
pub(crate) struct Signed<'a> {
    pub(crate) algorithm: Algorithm,
    pub(crate) key: Option<&'a str>,
    pub(crate) issuer: Option<&'a str>,
    pub(crate) message: &'a [u8],
    pub(crate) signature: &'a [u8],
}

impl Issuer {
    /// The issuer that tokens name so in `iss`, letter for letter (RFC 7519 §4.1.1).
    pub fn named(name: impl Into<String>, keys: impl Into<KeySource>) -> Self {
        Self {
            name: Some(name.into()),
            audience: Vec::new(),
            leeway_ms: LEEWAY_MS,
            user_prefix: String::new(),
            keys: keys.into(),
        }
    }

    /// The issuer of all tokens that name no other one, as many systems have that sign for themselves.
    pub fn unnamed(keys: impl Into<KeySource>) -> Self {
        Self { name: None, ..Self::named("", keys) }
    }

    /// Takes tokens for this audience. It may be called several times, and one audience of the token's has to be among them.
    ///
    /// If it is never called, a token with an `aud` is refused, because it is for somebody else (RFC 7519 §4.1.3).
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.audience.push(audience.into());
        self
    }

    /// How far the issuer's clock may be from ours, in ms: 30,000 unless told.
    pub fn leeway_ms(mut self, leeway_ms: u64) -> Self {
        self.leeway_ms = leeway_ms;
        self
    }

    /// Puts this before each user's name and each token's own name, so that neither can be one of another issuer. Nothing, unless told.
    ///
    /// Issuers of one prefix have the same users: each of them can be any of those.
    pub fn user_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.user_prefix = prefix.into();
        self
    }

    /// Whether the signature is by one of the keys. It may fetch them.
    pub(crate) fn check(&self, signed: &Signed, now_ms: u64) -> Result<(), Refusal> {
        match &self.keys {
            KeySource::Fixed(keys) => check(keys, signed),
            KeySource::Remote(remote) => {
                let known = remote.current(now_ms)?;
                match check(&known.keys, signed) {
                    Err(Refusal::UnknownKey) => check(&remote.newer_than(&known, now_ms)?.keys, signed),
                    outcome => outcome,
                }
            }
        }
    }

    /// The same without fetching. Nothing if it cannot be told so.
    pub(crate) fn check_by_known(&self, signed: &Signed, now_ms: u64) -> Option<Result<(), Refusal>> {
        match &self.keys {
            KeySource::Fixed(keys) => Some(check(keys, signed)),
            KeySource::Remote(remote) => {
                let outcome = remote.known().map(|keys| check(&keys, signed));
                match outcome {
                    None | Some(Err(Refusal::UnknownKey)) => remote.refusal_within_limit(now_ms).map(Err),
                    outcome => outcome,
                }
            }
        }
    }

    /// The keys at a URL, if that is where they are.
    pub(crate) fn remote(&self) -> Option<&RemoteKeys> {
        match &self.keys {
            KeySource::Fixed(_) => None,
            KeySource::Remote(remote) => Some(remote),
        }
    }
}

fn check(keys: &[Key], signed: &Signed) -> Result<(), Refusal> {
    let is_of_issuer = |key: &&Key| key.is_of(signed.issuer);
    let is_named = signed.key.is_some() && keys.iter().filter(is_of_issuer).any(|key| key.name() == signed.key);
    // Those that the token may mean: with a `kid` those of this name, or else those that the operator gave no name; without, all.
    let meant = keys.iter().filter(is_of_issuer).filter(|key| match signed.key {
        Some(_) if is_named => key.name() == signed.key,
        Some(_) => key.name().is_none(),
        None => true,
    });
    let mut refusal = Refusal::UnknownKey;
    let mut trials = 0;
    for key in meant {
        match key.verifies(signed.algorithm, signed.message, signed.signature) {
            Some(true) => return Ok(()),
            Some(false) => {
                refusal = Refusal::BadSignature;
                trials += 1;
            }
            None if trials == 0 => refusal = Refusal::WrongAlgorithm,
            None => {}
        }
        if trials == TRIALS_MAX {
            break;
        }
    }
    Err(refusal)
}
