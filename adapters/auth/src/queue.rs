//! A bounded queue that knows whether it was full. Who takes from it, and in which order, is known elsewhere.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

/// Where jobs are put.
pub(crate) struct Queue<J> {
    jobs: Sender<J>,
    full: Arc<Full>,
}

#[derive(Default)]
struct Full {
    /// How many were refused.
    refused: AtomicU64,
    /// One was, and that has not been told, or the queue has not been seen empty since.
    was: AtomicBool,
}

impl<J> Clone for Queue<J> {
    fn clone(&self) -> Self {
        Self { jobs: self.jobs.clone(), full: self.full.clone() }
    }
}

/// One that holds so many, at least 1, and where they are taken from.
pub(crate) fn new<J>(max: usize) -> (Queue<J>, Receiver<J>) {
    let (jobs, taken) = bounded(max.max(1));
    (Queue { jobs, full: Arc::default() }, taken)
}

impl<J> Queue<J> {
    /// Puts one in. It comes back if there is no room, or nobody to take it.
    pub(crate) fn put(&self, job: J) -> Result<(), J> {
        match self.jobs.try_send(job) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(job)) => {
                self.full.refused.fetch_add(1, Ordering::Relaxed);
                self.full.was.store(true, Ordering::Relaxed);
                Err(job)
            }
            Err(TrySendError::Disconnected(job)) => Err(job),
        }
    }

    /// Whether one was refused for want of room. That is so until the queue has been empty, so that the log is told once of a crowd.
    pub(crate) fn was_full(&self) -> bool {
        match self.jobs.is_empty() {
            true => self.full.was.swap(false, Ordering::Relaxed),
            false => self.full.was.load(Ordering::Relaxed),
        }
    }

    /// How many were, ever.
    pub(crate) fn refused(&self) -> u64 {
        self.full.refused.load(Ordering::Relaxed)
    }
}
