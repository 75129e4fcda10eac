//! Requests to an endpoint that an operator names: bounded in time and size, no redirect followed, plain text on this machine alone.

use std::fmt;
use std::time::Duration;

use ureq::http::Uri;
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Proxy};

use crate::error::SetupError;

/// Of an answer's body. Some hundred keys fit, whose certificates (`x5c`) are what makes sets large.
const BODY_BYTES_MAX: u64 = 64 * 1024;

/// An endpoint, and how it is asked.
pub(crate) struct Http {
    url: Uri,
    time_max: Duration,
    agent: Agent,
}

impl Http {
    /// The one at this URL. All of a request takes at most this time.
    pub(crate) fn new(url: &str, time_max: Duration, may_be_plain: bool) -> Result<Self, SetupError> {
        let url: Uri = url.parse().map_err(|_| SetupError::BadUrl)?;
        let is_here = matches!(url.host(), Some("localhost" | "127.0.0.1" | "[::1]"));
        let is_taken = match url.scheme_str() {
            Some("https") => true,
            Some("http") => is_here || may_be_plain,
            _ => false,
        };
        // A user and a password would be shown with the URL.
        let is_host_alone = url.authority().is_some_and(|authority| !authority.as_str().contains('@'));
        if !is_taken || !is_host_alone || url.host().is_none_or(str::is_empty) {
            return Err(SetupError::BadUrl);
        }
        let agent = agent(&url, time_max, RootCerts::WebPki);
        Ok(Self { url, time_max, agent })
    }

    /// Checks certificates against these roots, as PEM, in place of Mozilla's.
    pub(crate) fn roots(mut self, pem: &str) -> Result<Self, SetupError> {
        let mut roots = Vec::new();
        for item in parse_pem(pem.as_bytes()) {
            match item.map_err(|_| SetupError::NoCertificate)? {
                PemItem::Certificate(one) => roots.push(one),
                _ => return Err(SetupError::NoCertificate),
            }
        }
        if roots.is_empty() {
            return Err(SetupError::NoCertificate);
        }
        self.agent = agent(&self.url, self.time_max, roots.into());
        Ok(self)
    }

    /// Status and body, or why there is no whole answer.
    pub(crate) fn get(&self, headers: &[(&str, &[u8])]) -> Result<(u16, Vec<u8>), String> {
        let request =
            headers.iter().fold(self.agent.get(&self.url), |request, (name, value)| request.header(*name, *value));
        let mut answer = request.call().map_err(|error| error.to_string())?;
        let body = answer.body_mut().with_config().limit(BODY_BYTES_MAX).read_to_vec();
        Ok((answer.status().as_u16(), body.map_err(|error| error.to_string())?))
    }
}

/// No connection is kept, because one that the other end has just closed would look like an outage.
fn agent(url: &Uri, time_max: Duration, roots: RootCerts) -> Agent {
    let proxy = if url.scheme_str() == Some("https") { Proxy::try_from_env() } else { None };
    let settings = Agent::config_builder()
        .timeout_global(Some(time_max))
        .proxy(proxy)
        .tls_config(TlsConfig::builder().root_certs(roots).build())
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .max_idle_connections(0)
        .user_agent("fanfare");
    settings.build().into()
}

/// Without the query, which may hold a secret.
impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let authority = self.url.authority().map_or("", |authority| authority.as_str());
        write!(f, "Http({}://{authority}{})", self.url.scheme_str().unwrap_or_default(), self.url.path())
    }
}
