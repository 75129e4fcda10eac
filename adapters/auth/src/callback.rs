//! The operator's endpoint: it is asked with a client's headers, and says who that is.
//! It is for systems whose credentials nobody else can read. What it does not say in 200, 401 or 403 is an outage, and no refusal.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Map, Value};
use ureq::http::{HeaderName, HeaderValue};

use crate::claims::{grants, list, time_ms};
use crate::credential::{Identity, Info, RENEWAL_BYTES_MAX, user_of};
use crate::error::SetupError;
use crate::http::Http;
use crate::json;
use crate::refusal::Refusal;
use crate::secret::Secret;
use crate::verifier::TOKEN_BYTES_MAX;

/// As long as a browser's user waits without a doubt.
const TIME_MAX: Duration = Duration::from_secs(3);

/// As for a token's claims.
const DEPTH_MAX: usize = 8;

/// What is not the client's own: it belongs to a connection (RFC 9110 §7.6.1), to a content that is not sent, or decides how the
/// endpoint answers. Any `content-` is another one.
const NOT_FORWARDED: [&str; 15] = [
    "accept-encoding",
    "connection",
    "expect",
    "host",
    "if-match",
    "if-none-match",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "range",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// An HTTP endpoint that says who somebody is.
#[derive(Debug)]
pub struct Callback {
    http: Http,
    forward_headers: Vec<String>,
    trouble: Mutex<Option<String>>,
}

/// How the endpoint is asked.
#[derive(Debug, Clone)]
pub struct CallbackOptions {
    /// The names of the client's headers that it is to see, `cookie` for example. None unless told.
    pub forward_headers: Vec<String>,
    /// For one request, all of it: 3 seconds unless told.
    pub time_max: Duration,
    /// Whether the URL may begin with `http` although it is of another machine. Whoever is between can read the credentials then, and
    /// sign in as anybody.
    pub allow_plaintext: bool,
    /// The roots to check the certificate against, as PEM, in place of Mozilla's.
    pub roots: Option<String>,
}

impl Default for CallbackOptions {
    fn default() -> Self {
        Self { forward_headers: Vec::new(), time_max: TIME_MAX, allow_plaintext: false, roots: None }
    }
}

impl Callback {
    /// The endpoint at this URL, of `https`, or of `http` on this machine.
    pub fn new(url: &str, options: CallbackOptions) -> Result<Self, SetupError> {
        let mut http = Http::new(url, options.time_max, options.allow_plaintext)?;
        if let Some(roots) = &options.roots {
            http = http.roots(roots)?;
        }
        let forward_headers = options.forward_headers.iter().map(|name| forwardable(name)).collect::<Result<_, _>>()?;
        Ok(Self { http, forward_headers, trouble: Mutex::default() })
    }

    /// The names of the headers that it is to see, in lower case.
    pub fn forward_headers(&self) -> &[String] {
        &self.forward_headers
    }

    /// Who that is, by these headers of theirs and, where there was one, this token, which stands in place of a forwarded
    /// `Authorization`. Headers that are not to be forwarded are passed over. It blocks.
    pub fn verify(
        &self,
        headers: &[(String, Vec<u8>)],
        token: Option<&Secret>,
        now_ms: u64,
    ) -> Result<Identity, Refusal> {
        let forwarded = headers.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.as_slice()));
        let mut shown: Vec<(String, Vec<u8>)> = forwarded
            .filter(|(name, _)| self.forward_headers.contains(name) && (token.is_none() || name != "authorization"))
            .map(|(name, value)| (name, value.trim_ascii().to_vec()))
            .collect();
        if let Some(token) = token {
            if token.expose().len() > TOKEN_BYTES_MAX {
                return Err(Refusal::TooLarge);
            }
            shown.push(("authorization".to_owned(), [b"Bearer ", token.expose()].concat()));
        }
        self.ask(&shown, now_ms)
    }

    /// Who that is now, by what was shown before: the identity's `renewal`. It blocks.
    pub(crate) fn verify_again(&self, renewal: &[u8], now_ms: u64) -> Result<Identity, Refusal> {
        self.ask(&headers_in(renewal).ok_or(Refusal::Malformed)?, now_ms)
    }

    /// Why it gave no answer when it was last asked.
    pub fn trouble(&self) -> Option<String> {
        self.last_trouble().clone()
    }

    fn ask(&self, headers: &[(String, Vec<u8>)], now_ms: u64) -> Result<Identity, Refusal> {
        if !headers.iter().all(|(name, value)| can_be_sent(name, value)) {
            return Err(Refusal::Malformed);
        }
        let renewal = renewal_of(headers);
        // One byte more will stand before it.
        if renewal.len() >= RENEWAL_BYTES_MAX {
            return Err(Refusal::TooLarge);
        }
        let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
        let outcome = self.http.get(&headers).and_then(|(status, body)| match status {
            200 => match json::object(&body, DEPTH_MAX) {
                Ok(answer) => Ok(identity(&answer, now_ms)),
                Err(_) => Err("its answer is no JSON object".to_owned()),
            },
            401 => Ok(Err(Refusal::NotAccepted)),
            403 => Ok(Err(Refusal::Forbidden)),
            other => Err(format!("status {other}")),
        });
        *self.last_trouble() = outcome.as_ref().err().cloned();
        let mut identity = outcome.unwrap_or(Err(Refusal::Unavailable))?;
        identity.renewal = Some(Secret::new(renewal));
        Ok(identity)
    }

    fn last_trouble(&self) -> MutexGuard<'_, Option<String>> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The name in lower case, if it is the client's own.
fn forwardable(name: &str) -> Result<String, SetupError> {
    let name = name.to_ascii_lowercase();
    let is_own = HeaderName::from_bytes(name.as_bytes()).is_ok()
        && !NOT_FORWARDED.contains(&name.as_str())
        && !name.starts_with("content-");
    if is_own { Ok(name) } else { Err(SetupError::BadHeader) }
}

/// Whether the value can be sent. The HTTP client reads `Authorization`, and takes a byte beyond ASCII there for a fault of its own.
fn can_be_sent(name: &str, value: &[u8]) -> bool {
    HeaderValue::from_bytes(value).is_ok_and(|value| name != "authorization" || value.to_str().is_ok())
}

/// What the answer says. A member that is not known is passed over, and one of a wrong kind refuses.
fn identity(answer: &Map<String, Value>, now_ms: u64) -> Result<Identity, Refusal> {
    let expires_at_ms = time_ms(answer, "expires_at")?;
    let expires_in_ms = time_ms(answer, "expires_in")?.map(|span_ms| now_ms.saturating_add(span_ms));
    let expires_ms = expires_at_ms.into_iter().chain(expires_in_ms).min();
    if expires_ms.is_some_and(|at_ms| now_ms >= at_ms) {
        return Err(Refusal::Expired);
    }
    let user = user_of(answer.get("user"))?;
    let (grants, mut join) = grants(answer.get("grants"))?;
    join.extend(list(answer.get("join"))?);
    let info = Info::of(answer.get("info"));
    Ok(Identity { user, grants, join, expires_ms, issued_ms: None, token_id: None, info, renewal: None })
}

/// Lines of `name:value`. Neither a name nor a value holds a line's end.
fn renewal_of(headers: &[(String, Vec<u8>)]) -> Vec<u8> {
    headers.iter().flat_map(|(name, value)| [name.as_bytes(), b":", value, b"\n"].concat()).collect()
}

fn headers_in(renewal: &[u8]) -> Option<Vec<(String, Vec<u8>)>> {
    let lines = renewal.split_inclusive(|byte| *byte == b'\n');
    let header = |line: &[u8]| {
        let line = line.strip_suffix(b"\n")?;
        let colon = line.iter().position(|byte| *byte == b':')?;
        Some((String::from_utf8(line[..colon].to_vec()).ok()?, line[colon + 1..].to_vec()))
    };
    lines.map(header).collect()
}
