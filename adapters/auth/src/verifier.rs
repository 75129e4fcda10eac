//! From a JSON Web Token to an identity: its parts, its issuer, the signature, and last the claims.
//! Nothing of a token is believed before its signature has been checked, except which issuer and key to check it by.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value};

use crate::claims::ClaimNames;
use crate::credential::{Credential, Identity};
use crate::error::SetupError;
use crate::issuer::{Issuer, Signed};
use crate::json;
use crate::refusal::Refusal;
use crate::remote::RemoteKeys;

/// A token has at most this many bytes, which is as much as proxies let pass in a header.
pub const TOKEN_BYTES_MAX: usize = 8 * 1024;

/// The claims, one of them with an object, that with lists; and room for what other programs want to know.
const DEPTH_MAX: usize = 8;

/// Why a token gave no identity by the keys that are known.
enum Undecided {
    Refused(Refusal),
    /// Those of this issuer would have to be fetched.
    NeedsKeys(usize),
}

impl From<Refusal> for Undecided {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// Verifies JSON Web Tokens of the issuers that it was given. Threads may share it.
#[derive(Debug)]
pub struct Verifier {
    issuers: Vec<Issuer>,
    names: ClaimNames,
}

impl Verifier {
    /// Takes tokens of these issuers, which have different names.
    pub fn new(issuers: Vec<Issuer>) -> Result<Self, SetupError> {
        let is_twice = |(at, one): (usize, &Issuer)| issuers[..at].iter().any(|other| other.name == one.name);
        if issuers.is_empty() || issuers.iter().enumerate().any(is_twice) {
            return Err(SetupError::Issuers);
        }
        Ok(Self { issuers, names: ClaimNames::default() })
    }

    /// Reads user, grants and info from claims of these names.
    pub fn claim_names(mut self, names: ClaimNames) -> Self {
        self.names = names;
        self
    }

    /// Who shows this token at this time (Unix, ms). It blocks while keys are fetched.
    pub fn verify(&self, credential: &Credential, now_ms: u64) -> Result<Identity, Refusal> {
        self.verify_with(credential, now_ms, |issuer, signed| issuer.check(signed, now_ms))
    }

    /// The same without fetching.
    ///
    /// # Errors
    /// It cannot be told so: the issuer whose keys would have to be fetched, one of [`Verifier::fetching_issuers`].
    pub(crate) fn verify_by_known(
        &self,
        credential: &Credential,
        now_ms: u64,
    ) -> Result<Result<Identity, Refusal>, usize> {
        let index_of = |issuer| self.issuers.iter().position(|other| std::ptr::eq(other, issuer)).unwrap_or_default();
        let outcome = self.verify_with(credential, now_ms, |issuer, signed| {
            let outcome = issuer.check_by_known(signed, now_ms);
            outcome.ok_or_else(|| Undecided::NeedsKeys(index_of(issuer)))?.map_err(Undecided::Refused)
        });
        match outcome {
            Ok(identity) => Ok(Ok(identity)),
            Err(Undecided::Refused(refusal)) => Ok(Err(refusal)),
            Err(Undecided::NeedsKeys(issuer)) => Err(issuer),
        }
    }

    fn verify_with<E: From<Refusal>>(
        &self,
        credential: &Credential,
        now_ms: u64,
        check: impl FnOnce(&Issuer, &Signed) -> Result<(), E>,
    ) -> Result<Identity, E> {
        let token = credential.token.expose();
        if token.len() > TOKEN_BYTES_MAX {
            return Err(Refusal::TooLarge.into());
        }
        let (message, signature) = split_last(token)?;
        let (header, payload) = split_last(message)?;
        let header = part(header)?;
        check_header(&header)?;
        let algorithm = text(&header, "alg")?.parse().map_err(|_| Refusal::WrongAlgorithm)?;
        let claims = part(payload)?;
        let claimed_issuer = optional_text(&claims, "iss")?;
        let issuer = self.issuer(claimed_issuer)?;
        let signed =
            Signed { algorithm, key: optional_text(&header, "kid")?, issuer: claimed_issuer, message, signature };
        check(issuer, &signed)?;
        let identity = self.names.identity(&claims, issuer, now_ms)?;
        if self.is_of_another(&identity.user, &issuer.user_prefix) {
            return Err(Refusal::ForeignUser.into());
        }
        Ok(identity)
    }

    /// Whether this name, which begins with this prefix, is of an issuer with a longer one. A name is of the longest prefix that it has,
    /// else one issuer could spell out the users of another.
    pub(crate) fn is_of_another(&self, user: &str, prefix: &str) -> bool {
        self.issuers.iter().any(|other| other.user_prefix.len() > prefix.len() && user.starts_with(&other.user_prefix))
    }

    /// The issuers that publish their keys.
    pub(crate) fn fetching_issuers(&self) -> impl Iterator<Item = usize> {
        (0..self.issuers.len()).filter(|issuer| self.issuers[*issuer].remote().is_some())
    }

    /// Whether this one's keys should be fetched, although no token needs it.
    pub(crate) fn is_refresh_due(&self, issuer: usize, now_ms: u64) -> bool {
        self.issuers[issuer].remote().is_some_and(|keys| keys.is_due(now_ms))
    }

    /// Fetches them if they should be. It blocks.
    pub(crate) fn refresh(&self, issuer: usize, now_ms: u64) {
        if let Some(keys) = self.issuers[issuer].remote().filter(|keys| keys.is_due(now_ms)) {
            // What is wrong is told by `troubles`.
            let _ = keys.current(now_ms);
        }
    }

    fn remote_keys(&self) -> impl Iterator<Item = (Option<&str>, &RemoteKeys)> {
        self.issuers.iter().filter_map(|issuer| Some((issuer.name.as_deref(), issuer.remote()?)))
    }

    /// For operators: which issuers' keys could not be fetched when that was last tried, by name, and why.
    pub fn troubles(&self) -> impl Iterator<Item = (Option<&str>, String)> {
        self.remote_keys().filter_map(|(issuer, keys)| Some((issuer, keys.trouble()?)))
    }

    /// The issuer of this name, else the one without.
    fn issuer(&self, claimed: Option<&str>) -> Result<&Issuer, Refusal> {
        let named = |name: Option<&str>| self.issuers.iter().find(|issuer| issuer.name.as_deref() == name);
        named(claimed).or_else(|| named(None)).ok_or(Refusal::WrongIssuer)
    }
}

/// The JWS Compact Serialization (RFC 7515 §7.1) has two dots. A third would remain in the header's part, which is no Base64 then.
fn split_last(text: &[u8]) -> Result<(&[u8], &[u8]), Refusal> {
    let dot = text.iter().rposition(|byte| *byte == b'.').ok_or(Refusal::Malformed)?;
    Ok((&text[..dot], &text[dot + 1..]))
}

fn part(text: &[u8]) -> Result<Map<String, Value>, Refusal> {
    json::object(&URL_SAFE_NO_PAD.decode(text).map_err(|_| Refusal::Malformed)?, DEPTH_MAX)
}

/// No extension that must be understood is understood here (RFC 7515 §4.1.11), and no other kind of token is taken (RFC 8725 §3.11).
fn check_header(header: &Map<String, Value>) -> Result<(), Refusal> {
    if header.contains_key("crit") {
        return Err(Refusal::Malformed);
    }
    // RFC 7519 §5.1 and RFC 9068 §2.1, whose "application/" may be left out (RFC 7515 §4.1.9).
    let Some(of) = optional_text(header, "typ")? else { return Ok(()) };
    let of = of.to_ascii_lowercase();
    match of.strip_prefix("application/").unwrap_or(&of) {
        "jwt" | "at+jwt" => Ok(()),
        _ => Err(Refusal::WrongType),
    }
}

fn text<'a>(object: &'a Map<String, Value>, member: &str) -> Result<&'a str, Refusal> {
    optional_text(object, member)?.ok_or(Refusal::Malformed)
}

fn optional_text<'a>(object: &'a Map<String, Value>, member: &str) -> Result<Option<&'a str>, Refusal> {
    object.get(member).map(|value| value.as_str().ok_or(Refusal::Malformed)).transpose()
}
