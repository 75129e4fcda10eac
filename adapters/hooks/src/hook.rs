//! One hook: where it is asked and told, and what has become of that.

use crate::asking::Asking;
use crate::body::{Answer, Event, Question};
use crate::endpoint::{Endpoint, check_url};
use crate::key::SigningKey;
use crate::setup::SetupError;
use crate::shared::{Counts, Shared};
use crate::telling::Telling;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What a hook is made of.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where it is.
    pub url: String,
    /// Whether it may be `http` of another machine, for networks that nobody else reads.
    pub plaintext: bool,
    /// What signs.
    pub key: SigningKey,
    /// The roots that its certificate is checked against, as PEM, in place of Mozilla's.
    pub roots: Option<String>,
    /// For a question, from when it is asked to the end of the answer; for events, of each request.
    pub timeout: Duration,
    /// Questions that are asked at the same time.
    pub concurrency: usize,
    /// For how long events are told again that were not taken.
    pub retry_for: Duration,
    /// The name of this instance, which each request has.
    pub instance: String,
    /// Of a message that an answer may hold.
    pub message_bytes_max: usize,
}

impl Options {
    /// Whether this URL can be asked.
    ///
    /// # Errors
    /// It cannot.
    pub fn check_url(url: &str, plaintext: bool) -> Result<(), SetupError> {
        check_url(url, plaintext).map(drop)
    }
}

/// What has been done, and what waits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    /// Questions and batches of events that the endpoint has answered, or not, each time.
    pub requests: u64,
    /// Those of them that it has not, or not as it should.
    pub failures: u64,
    /// Events that were told to nobody.
    pub events_dropped: u64,
    /// Events that wait to be told.
    pub events_waiting: u64,
    /// Questions that wait to be asked.
    pub questions_waiting: u64,
}

/// A hook, whose questions each come back with a `T`.
pub struct Hook<T: Send + 'static> {
    shared: Arc<Shared>,
    asking: Option<Asking<T>>,
    telling: Option<Telling>,
}

impl<T: Send + 'static> Hook<T> {
    /// Starts its threads, as far as anything is `asked` or `told`. Each answer is handed over on one of them, with the tag of its question,
    /// or why there is none; so `deliver` must not block. Nor must `changed`, which is called when a batch of events has been taken or
    /// not. The clock tells Unix time in ms.
    ///
    /// # Errors
    /// What is wrong with the options, or a thread that cannot be started.
    pub fn start(
        options: Options,
        (asked, told): (bool, bool),
        deliver: impl Fn(T, Result<Answer, String>) + Send + Sync + 'static,
        changed: impl Fn() + Send + Sync + 'static,
        now_ms: impl Fn() -> u64 + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let Options { url, plaintext, key, roots, timeout, concurrency, retry_for, instance, message_bytes_max } =
            options;
        let endpoint =
            Endpoint::new((&url, plaintext), key, roots.as_deref(), concurrency + 1).map_err(io::Error::other)?;
        let shared = Arc::new(Shared {
            endpoint,
            timeout,
            instance,
            message_bytes_max,
            counts: Counts::default(),
            is_stopping: AtomicBool::new(false),
            now_ms: Box::new(now_ms),
            changed: Box::new(changed),
            trouble: Mutex::new(None),
        });
        let asking = asked.then(|| Asking::start(&shared, concurrency, deliver)).transpose()?;
        let telling = told.then(|| Telling::start(&shared, retry_for)).transpose()?;
        Ok(Self { shared, asking, telling })
    }

    /// Has a question asked. It never blocks: if too many wait already, the tag comes back, and there will be no answer.
    ///
    /// # Errors
    /// The tag.
    pub fn ask(&self, tag: T, question: Question) -> Result<(), T> {
        match &self.asking {
            Some(asking) => asking.ask(tag, question),
            None => Err(tag),
        }
    }

    /// Has an event told. It never blocks.
    pub fn tell(&self, event: &Event) {
        if let Some(telling) = &self.telling {
            telling.tell(event);
        }
    }

    /// Why the endpoint did not do what it should when it was last asked or told, if it did not.
    pub fn trouble(&self) -> Option<String> {
        self.shared.trouble().clone()
    }

    /// What has been done, and what waits.
    pub fn figures(&self) -> Figures {
        let Counts { requests, failures, dropped } = &self.shared.counts;
        Figures {
            requests: requests.load(Ordering::Relaxed),
            failures: failures.load(Ordering::Relaxed),
            events_dropped: dropped.load(Ordering::Relaxed),
            events_waiting: self.telling.as_ref().map_or(0, Telling::waiting) as u64,
            questions_waiting: self.asking.as_ref().map_or(0, Asking::waiting) as u64,
        }
    }
}

impl<T: Send + 'static> Drop for Hook<T> {
    fn drop(&mut self) {
        self.shared.is_stopping.store(true, Ordering::Release);
    }
}

impl<T: Send + 'static> fmt::Debug for Hook<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hook").field("endpoint", &self.shared.endpoint).finish_non_exhaustive()
    }
}
