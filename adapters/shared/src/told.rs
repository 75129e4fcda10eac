//! What the log was told of something that may go wrong again and again.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often the log is told of it, at most.
const EVERY: Duration = Duration::from_secs(10);

/// The trouble that was logged last, and when.
#[derive(Default)]
pub(crate) struct Told(Mutex<(String, Option<Instant>)>);

impl Told {
    /// Whether the log is to hear of it: it is another one than before, and that was a while ago.
    pub(crate) fn is_news(&self, trouble: &str) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if told.0 == trouble || told.1.is_some_and(|at| now.duration_since(at) < EVERY) {
            return false;
        }
        *told = (trouble.to_owned(), Some(now));
        true
    }
}
