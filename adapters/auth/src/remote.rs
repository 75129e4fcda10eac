//! The keys of an issuer that publishes them at a URL: fetched in the caller's thread, kept, fetched again when a token names one that
//! is not known.
//! Nothing that clients send makes more than one request in `REFRESH_MS`, and an issuer that is down takes no key away.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::error::SetupError;
use crate::http::Http;
use crate::jwks::published_key_set;
use crate::key::Key;
use crate::refusal::Refusal;

/// Between two requests. New keys are published before they are used, so waiting this long loses nobody.
const REFRESH_MS: u64 = 30_000;

/// The same while there are no keys at all, because then nobody can come in.
const RETRY_MS: u64 = 5_000;

/// Keys of this age are fetched again unasked, because a key that was withdrawn is named by nobody.
const AGE_MS_MAX: u64 = 10 * 60_000;

/// For one request, all of it. As long, threads may wait that need a key which nobody knows.
const FETCH_TIME_MAX: Duration = Duration::from_secs(5);

/// The keys that an issuer publishes at a URL (RFC 7517 §5).
#[derive(Debug)]
pub struct RemoteKeys {
    http: Http,
    state: Mutex<State>,
    /// Held while one thread fetches.
    fetching: Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    keys: Arc<[Key]>,
    /// When these keys came.
    fetched_ms: Option<u64>,
    /// When the last attempt ended.
    attempted_ms: Option<u64>,
    attempts: u64,
    /// Why the last attempt failed, if it did.
    trouble: Option<String>,
}

/// Keys as they were at some time.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) keys: Arc<[Key]>,
    attempts: u64,
}

impl RemoteKeys {
    /// The keys at this URL. Nothing is fetched yet.
    ///
    /// A URL begins with `https`, because who can change the answer can sign in as anybody. `http` is for this machine alone.
    /// The certificate is checked against Mozilla's roots, which are compiled in.
    pub fn new(url: &str) -> Result<Self, SetupError> {
        Ok(Self { http: Http::new(url, FETCH_TIME_MAX, false)?, state: Mutex::default(), fetching: Mutex::default() })
    }

    /// Checks the certificate against these roots, as PEM, in place of Mozilla's.
    pub fn roots(mut self, pem: &str) -> Result<Self, SetupError> {
        self.http = self.http.roots(pem)?;
        Ok(self)
    }

    /// Why the keys could not be fetched when that was last tried.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.state().trouble.clone()
    }

    /// The keys, fetched if there are none yet, or if they have become old and nobody is at it.
    pub(crate) fn current(&self, now_ms: u64) -> Result<Snapshot, Refusal> {
        let (fetched_ms, known) = {
            let state = self.state();
            (state.fetched_ms, state.snapshot())
        };
        let Some(fetched_ms) = fetched_ms else { return self.newer_than(&known, now_ms) };
        if now_ms.abs_diff(fetched_ms) < AGE_MS_MAX {
            return Ok(known);
        }
        if let Ok(turn) = self.fetching.try_lock() {
            self.fetch_unless_limited(now_ms);
            drop(turn);
        }
        Ok(self.state().snapshot())
    }

    /// Keys that are newer than these. A thread that finds another one fetching waits for it, and takes what it has got:
    /// the limit keeps it from asking again.
    pub(crate) fn newer_than(&self, seen: &Snapshot, now_ms: u64) -> Result<Snapshot, Refusal> {
        let _turn = self.fetching.lock().unwrap_or_else(PoisonError::into_inner);
        self.fetch_unless_limited(now_ms);
        let state = self.state();
        if state.trouble.is_some() {
            Err(Refusal::Unavailable)
        } else if state.attempts == seen.attempts {
            Err(Refusal::UnknownKey)
        } else {
            Ok(state.snapshot())
        }
    }

    /// What can be said without a request, of a token whose key these keys are not: nothing if one may be made.
    pub(crate) fn refusal_within_limit(&self, now_ms: u64) -> Option<Refusal> {
        let state = self.state();
        if !state.is_limited(now_ms) {
            return None;
        }
        Some(if state.trouble.is_some() { Refusal::Unavailable } else { Refusal::UnknownKey })
    }

    /// The keys as they are, if there are any.
    pub(crate) fn known(&self) -> Option<Arc<[Key]>> {
        let state = self.state();
        state.fetched_ms.map(|_| state.keys.clone())
    }

    /// Whether it is time to fetch them unasked, and nobody is at it.
    pub(crate) fn is_due(&self, now_ms: u64) -> bool {
        let state = self.state();
        let is_old = state.fetched_ms.is_none_or(|at| now_ms.abs_diff(at) >= AGE_MS_MAX);
        is_old && !state.is_limited(now_ms) && self.fetching.try_lock().is_ok()
    }

    /// Called with `fetching` held.
    fn fetch_unless_limited(&self, now_ms: u64) {
        if self.state().is_limited(now_ms) {
            return;
        }
        let begun = Instant::now();
        let outcome = self.fetch();
        let mut state = self.state();
        // The pause begins with the end, to the second, because an issuer may take for an answer as long as the pause is.
        state.attempted_ms = Some(now_ms + begun.elapsed().as_secs() * 1_000);
        state.attempts += 1;
        match outcome {
            Ok(keys) => {
                state.keys = keys.into();
                state.fetched_ms = Some(now_ms);
                state.trouble = None;
            }
            Err(trouble) => state.trouble = Some(trouble),
        }
    }

    fn fetch(&self) -> Result<Vec<Key>, String> {
        match self.http.get(&[])? {
            (200, body) => published_key_set(&body).map_err(|error| error.to_string()),
            (status, _) => Err(format!("status {status}")),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// A clock that was set back is no reason to wait for as long.
    fn is_limited(&self, now_ms: u64) -> bool {
        let pause_ms = if self.fetched_ms.is_some() { REFRESH_MS } else { RETRY_MS };
        self.attempted_ms.is_some_and(|last| now_ms.abs_diff(last) < pause_ms)
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot { keys: self.keys.clone(), attempts: self.attempts }
    }
}
