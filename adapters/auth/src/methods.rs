//! Which credential is verified by what: tokens here, sessions in Redis, and the rest by the operator's endpoint.

use crate::callback::Callback;
use crate::credential::{Credential, Identity, Source};
use crate::refusal::Refusal;
use crate::secret::Secret;
use crate::session::{SessionStore, Sessions};
use crate::verifier::Verifier;

/// What keeps a method from verifying, for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// Which method: `issuer <name>`, `sessions`, `callback`.
    pub of: String,
    /// What is wrong.
    pub why: String,
}

/// What the cookie holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CookieKind {
    /// The signed id of a session.
    Session,
    /// A token.
    Token,
}

/// Sessions and where they are.
pub struct SessionMethod {
    /// How they are signed and read.
    pub sessions: Sessions,
    /// Where they are stored.
    pub store: Box<dyn SessionStore>,
}

/// By what credentials are verified.
pub struct Methods {
    /// Tokens, without asking anybody.
    pub tokens: Option<Verifier>,
    /// Sessions.
    pub sessions: Option<SessionMethod>,
    /// Whatever neither of them verifies.
    pub callback: Option<Callback>,
    /// What the cookie is taken for.
    pub cookie_holds: CookieKind,
}

/// What verifies a credential. Each has threads of its own, so that none waits for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    Tokens,
    Sessions,
    Callback,
}

/// A credential and what stood around it.
pub(crate) struct Shown {
    pub(crate) credential: Credential,
    pub(crate) headers: Vec<(String, Vec<u8>)>,
}

/// A renewal begins with one of these, and goes on with what the method has to be shown.
const SESSION_AGAIN: u8 = b'S';
const CALLBACK_AGAIN: u8 = b'C';

impl Methods {
    /// The headers that the operator's endpoint is to see, in lower case.
    pub fn forward_headers(&self) -> &[String] {
        self.callback.as_ref().map_or(&[], Callback::forward_headers)
    }

    pub(crate) fn troubles(&self) -> Vec<Trouble> {
        let mut troubles = Vec::new();
        for (issuer, why) in self.tokens.iter().flat_map(Verifier::troubles) {
            let of = issuer.map_or_else(|| "issuer".to_owned(), |issuer| format!("issuer {issuer}"));
            troubles.push(Trouble { of, why });
        }
        let sessions = self.sessions.as_ref().and_then(|sessions| sessions.store.trouble());
        troubles.extend(sessions.map(|why| Trouble { of: "sessions".to_owned(), why }));
        let callback = self.callback.as_ref().and_then(Callback::trouble);
        troubles.extend(callback.map(|why| Trouble { of: "callback".to_owned(), why }));
        troubles
    }

    /// What verifies this.
    pub(crate) fn method(&self, credential: &Credential) -> Result<Method, Refusal> {
        let first = match credential.source {
            Source::Renewal => {
                return match credential.token.expose().first() {
                    Some(&SESSION_AGAIN) if self.sessions.is_some() => Ok(Method::Sessions),
                    Some(&CALLBACK_AGAIN) if self.callback.is_some() => Ok(Method::Callback),
                    _ => Err(Refusal::Malformed),
                };
            }
            Source::Request => None,
            Source::Cookie if self.cookie_holds == CookieKind::Session => {
                self.sessions.is_some().then_some(Method::Sessions)
            }
            _ => self.tokens.is_some().then_some(Method::Tokens),
        };
        let second = self.callback.is_some().then_some(Method::Callback);
        first.or(second).ok_or(Refusal::NoCredential)
    }

    /// Who shows this. It blocks.
    pub(crate) fn verify(&self, method: Method, shown: &Shown, now_ms: u64) -> Result<Identity, Refusal> {
        let is_again = shown.credential.source == Source::Renewal;
        let again = || shown.credential.token.expose().get(1..).unwrap_or_default();
        // `method` has chosen one that is there.
        let missing = Refusal::NoCredential;
        match method {
            Method::Tokens => self.tokens.as_ref().ok_or(missing)?.verify(&shown.credential, now_ms),
            Method::Sessions => {
                let SessionMethod { sessions, store } = self.sessions.as_ref().ok_or(missing)?;
                let cookie = if is_again { &Secret::new(again()) } else { &shown.credential.token };
                let cookie_alone = Credential::new(cookie.clone(), Source::Cookie);
                let identity = self.own(sessions.verify(&cookie_alone, &**store, now_ms)?)?;
                Ok(Identity { renewal: Some(marked(SESSION_AGAIN, cookie)), ..identity })
            }
            Method::Callback => {
                let callback = self.callback.as_ref().ok_or(missing)?;
                let identity = if is_again {
                    callback.verify_again(again(), now_ms)?
                } else {
                    callback.verify(&shown.headers, self.token_of(&shown.credential), now_ms)?
                };
                let identity = self.own(identity)?;
                Ok(Identity { renewal: identity.renewal.map(|shown| marked(CALLBACK_AGAIN, &shown)), ..identity })
            }
        }
    }

    /// Somebody whom a session or the operator's endpoint names. Neither has a prefix, so no issuer's may stand there.
    fn own(&self, identity: Identity) -> Result<Identity, Refusal> {
        let is_foreign = self.tokens.as_ref().is_some_and(|tokens| tokens.is_of_another(&identity.user, ""));
        if is_foreign { Err(Refusal::ForeignUser) } else { Ok(identity) }
    }

    /// The credential, if it is a token.
    fn token_of<'a>(&self, credential: &'a Credential) -> Option<&'a Secret> {
        match credential.source {
            Source::Header | Source::Query | Source::Subprotocol | Source::Command => Some(&credential.token),
            Source::Cookie if self.cookie_holds == CookieKind::Token => Some(&credential.token),
            Source::Cookie | Source::Request | Source::Renewal => None,
        }
    }
}

fn marked(mark: u8, shown: &Secret) -> Secret {
    Secret::new([&[mark], shown.expose()].concat())
}
