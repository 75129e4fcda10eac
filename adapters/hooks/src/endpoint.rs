//! Requests to an endpoint: signed, bounded in time and size, no redirect followed.

use crate::key::SigningKey;
use crate::setup::SetupError;
use std::fmt;
use std::io;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use ureq::http::Uri;
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Proxy};

/// A connection that was idle for so long is not used again: Node, which has the shortest patience of common servers, closes after 5 s.
const IDLE_MAX: Duration = Duration::from_secs(4);

/// An endpoint, and how it is asked.
pub(crate) struct Endpoint {
    url: Uri,
    key: SigningKey,
    agent: Agent,
}

impl Endpoint {
    /// The one at this URL, whose certificate is checked against these roots, as PEM, or else against Mozilla's. So many connections are
    /// kept for further requests.
    pub(crate) fn new(
        (url, may_be_plain): (&str, bool),
        key: SigningKey,
        roots: Option<&str>,
        idle_max: usize,
    ) -> Result<Self, SetupError> {
        let url = check_url(url, may_be_plain)?;
        let roots = roots.map_or(Ok(RootCerts::WebPki), read_roots)?;
        let proxy = if url.scheme_str() == Some("https") { Proxy::try_from_env() } else { None };
        let settings = Agent::config_builder()
            .proxy(proxy)
            .tls_config(TlsConfig::builder().root_certs(roots).build())
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .max_idle_connections(idle_max)
            .max_idle_connections_per_host(idle_max)
            .max_idle_age(IDLE_MAX)
            .user_agent("fanfare");
        Ok(Self { url, key, agent: settings.build().into() })
    }

    /// Status and body of the answer, of at most so many bytes, or why there is no whole answer within this time. The same id names the
    /// same body, however often it is sent.
    pub(crate) fn post(
        &self,
        id: &str,
        body: &[u8],
        time_max: Duration,
        answer_bytes_max: u64,
    ) -> Result<(u16, Vec<u8>), String> {
        let began = Instant::now();
        match self.post_once(id, body, time_max, answer_bytes_max) {
            // A connection that was kept may have been closed at the other end just now, and that is no outage.
            Err(ureq::Error::Io(error)) if error.kind() != io::ErrorKind::TimedOut && began.elapsed() < time_max => {
                self.post_once(id, body, time_max - began.elapsed(), answer_bytes_max)
                    .map_err(|error| error.to_string())
            }
            outcome => outcome.map_err(|error| error.to_string()),
        }
    }

    fn post_once(
        &self,
        id: &str,
        body: &[u8],
        time_max: Duration,
        answer_bytes_max: u64,
    ) -> Result<(u16, Vec<u8>), ureq::Error> {
        let timestamp_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let request = self
            .agent
            .post(&self.url)
            .header("content-type", "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", timestamp_s.to_string())
            .header("webhook-signature", self.key.sign(id, timestamp_s, body));
        let mut answer = request.config().timeout_global(Some(time_max)).build().send(body)?;
        let status = answer.status().as_u16();
        Ok((status, answer.body_mut().with_config().limit(answer_bytes_max).read_to_vec()?))
    }
}

/// A URL that can be asked: of another machine in plain text only if that is said.
pub(crate) fn check_url(url: &str, may_be_plain: bool) -> Result<Uri, SetupError> {
    let url: Uri = url.parse().map_err(|_| SetupError::BadUrl)?;
    let is_here = matches!(url.host(), Some("localhost" | "127.0.0.1" | "[::1]"));
    let is_taken = match url.scheme_str() {
        Some("https") => true,
        Some("http") => is_here || may_be_plain,
        _ => false,
    };
    // A user and a password would be shown with the URL.
    let is_host_alone = url.authority().is_some_and(|authority| !authority.as_str().contains('@'));
    let has_host = url.host().is_some_and(|host| !host.is_empty());
    if is_taken && is_host_alone && has_host { Ok(url) } else { Err(SetupError::BadUrl) }
}

/// Whether this PEM text has certificates in it.
///
/// # Errors
/// It has none, or something else.
pub fn check_roots(pem: &str) -> Result<(), SetupError> {
    read_roots(pem).map(drop)
}

fn read_roots(pem: &str) -> Result<RootCerts, SetupError> {
    let mut roots = Vec::new();
    for item in parse_pem(pem.as_bytes()) {
        match item.map_err(|_| SetupError::NoCertificate)? {
            PemItem::Certificate(one) => roots.push(one),
            _ => return Err(SetupError::NoCertificate),
        }
    }
    if roots.is_empty() { Err(SetupError::NoCertificate) } else { Ok(roots.into()) }
}

/// Without the query, which may hold a secret.
impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let authority = self.url.authority().map_or("", |authority| authority.as_str());
        write!(f, "Endpoint({}://{authority}{})", self.url.scheme_str().unwrap_or_default(), self.url.path())
    }
}
