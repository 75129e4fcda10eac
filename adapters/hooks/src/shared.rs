//! What the threads of a hook share.

use crate::endpoint::Endpoint;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Of all hooks of the process, because their names begin alike.
static IDS: AtomicU64 = AtomicU64::new(0);

/// What they share.
pub(crate) struct Shared {
    pub(crate) endpoint: Endpoint,
    pub(crate) timeout: Duration,
    pub(crate) instance: String,
    pub(crate) message_bytes_max: usize,
    pub(crate) counts: Counts,
    pub(crate) is_stopping: AtomicBool,
    pub(crate) now_ms: Box<dyn Fn() -> u64 + Send + Sync>,
    pub(crate) changed: Box<dyn Fn() + Send + Sync>,
    pub(crate) trouble: Mutex<Option<String>>,
}

#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) requests: AtomicU64,
    pub(crate) failures: AtomicU64,
    pub(crate) dropped: AtomicU64,
}

impl Shared {
    pub(crate) fn now_ms(&self) -> u64 {
        (self.now_ms)()
    }

    /// A name that no other request or event has.
    pub(crate) fn next_id(&self, kind: &str) -> String {
        format!("{kind}_{}_{}", self.instance, IDS.fetch_add(1, Ordering::Relaxed))
    }

    /// A request has ended like this.
    pub(crate) fn note(&self, trouble: Option<&String>) {
        self.counts.requests.fetch_add(1, Ordering::Relaxed);
        self.counts.failures.fetch_add(u64::from(trouble.is_some()), Ordering::Relaxed);
        *self.trouble() = trouble.cloned();
    }

    pub(crate) fn trouble(&self) -> MutexGuard<'_, Option<String>> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
