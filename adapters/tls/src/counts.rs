//! What became of the handshakes of a server. Any number of threads count.

use crate::error::Failure;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counters of handshakes.
#[derive(Debug, Default)]
pub struct Counts {
    full: AtomicU64,
    resumed: AtomicU64,
    plain_http: AtomicU64,
    malformed: AtomicU64,
    incompatible: AtomicU64,
    refused: AtomicU64,
    unfinished: AtomicU64,
}

/// The figures of one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Done, with a signature.
    pub full: u64,
    /// Done, resuming an earlier session, without one.
    pub resumed: u64,
    /// Clients that spoke HTTP without TLS.
    pub plain_http: u64,
    /// Clients that said what is no TLS, or broke its rules.
    pub malformed: u64,
    /// Clients with which the server has no version, cipher suite or protocol in common.
    pub incompatible: u64,
    /// Clients that gave up with an alert.
    pub refused: u64,
    /// Handshakes that had begun when the connection ended, on either side.
    pub unfinished: u64,
}

impl Counts {
    /// The figures as they are.
    pub fn tally(&self) -> Tally {
        Tally {
            full: self.full.load(Relaxed),
            resumed: self.resumed.load(Relaxed),
            plain_http: self.plain_http.load(Relaxed),
            malformed: self.malformed.load(Relaxed),
            incompatible: self.incompatible.load(Relaxed),
            refused: self.refused.load(Relaxed),
            unfinished: self.unfinished.load(Relaxed),
        }
    }

    pub(crate) fn done(&self, is_resumed: bool) {
        if is_resumed { &self.resumed } else { &self.full }.fetch_add(1, Relaxed);
    }

    pub(crate) fn failed(&self, failure: &Failure) {
        let counter = match failure {
            Failure::PlainHttp => &self.plain_http,
            Failure::Malformed(_) => &self.malformed,
            Failure::Incompatible(_) => &self.incompatible,
            Failure::Refused(_) | Failure::Untrusted(_) => &self.refused,
        };
        counter.fetch_add(1, Relaxed);
    }

    pub(crate) fn unfinished(&self) {
        self.unfinished.fetch_add(1, Relaxed);
    }
}
