//! The threads that ask: each question once, within its time, which begins when it is asked and not when a thread takes it.

use crate::body::{Answer, Question, answer};
use crate::shared::Shared;
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Questions that wait for a thread. Those who wait for an answer run out of patience before more have been asked.
const WAITING_MAX: usize = 4_096;
/// Of an answer, beside the message that it may hold.
const ANSWER_BYTES: u64 = 4_096;
/// For the threads to end, when nobody asks any more. One that waits for the endpoint may take longer, and is left to itself.
const STOP_TIME_MAX: Duration = Duration::from_secs(1);

type Deliver<T> = Arc<dyn Fn(T, Result<Answer, String>) + Send + Sync>;

/// The questions of one hook.
pub(crate) struct Asking<T: Send + 'static> {
    jobs: Option<Sender<Job<T>>>,
    deliver: Deliver<T>,
    ended: Receiver<()>,
    threads: Vec<JoinHandle<()>>,
}

/// One question on its way. If nobody has an answer, that is its answer.
struct Job<T> {
    tag: Option<T>,
    question: Question,
    asked: Instant,
    deliver: Deliver<T>,
}

impl<T> Job<T> {
    fn answer(mut self, outcome: Result<Answer, String>) {
        if let Some(tag) = self.tag.take() {
            (self.deliver)(tag, outcome);
        }
    }
}

impl<T> Drop for Job<T> {
    fn drop(&mut self) {
        if let Some(tag) = self.tag.take() {
            (self.deliver)(tag, Err("it was not asked".to_owned()));
        }
    }
}

impl<T: Send + 'static> Asking<T> {
    pub(crate) fn start(
        shared: &Arc<Shared>,
        threads: usize,
        deliver: impl Fn(T, Result<Answer, String>) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let (jobs, taken) = bounded::<Job<T>>(WAITING_MAX);
        let (ending, ended) = bounded::<()>(0);
        let mut started = Vec::new();
        for _ in 0..threads.max(1) {
            let (shared, taken, ending) = (shared.clone(), taken.clone(), ending.clone());
            started.push(thread::Builder::new().name("fanfare-hook".to_owned()).spawn(move || {
                // Dropped with the thread, which tells that it has ended.
                let _ending = ending;
                for job in taken {
                    // What panics is dropped, and so answered.
                    let _ = catch_unwind(AssertUnwindSafe(|| ask(&shared, job)));
                }
            })?);
        }
        Ok(Self { jobs: Some(jobs), deliver: Arc::new(deliver), ended, threads: started })
    }

    /// Has a question asked. It never blocks: if too many wait already, the tag comes back, and there will be no answer.
    pub(crate) fn ask(&self, tag: T, question: Question) -> Result<(), T> {
        let Some(jobs) = &self.jobs else { return Err(tag) };
        let job = Job { tag: Some(tag), question, asked: Instant::now(), deliver: self.deliver.clone() };
        match jobs.try_send(job) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(mut job) | TrySendError::Disconnected(mut job)) => {
                job.tag.take().map_or(Ok(()), Err)
            }
        }
    }

    pub(crate) fn waiting(&self) -> usize {
        self.jobs.as_ref().map_or(0, Sender::len)
    }
}

impl<T: Send + 'static> Drop for Asking<T> {
    fn drop(&mut self) {
        self.jobs = None;
        if self.ended.recv_timeout(STOP_TIME_MAX).is_err_and(|error| error.is_disconnected()) {
            for thread in std::mem::take(&mut self.threads) {
                // If it ended by a panic, that was told.
                let _ = thread.join();
            }
        }
    }
}

fn ask<T>(shared: &Shared, job: Job<T>) {
    if shared.is_stopping.load(Ordering::Acquire) {
        return;
    }
    let left = shared.timeout.saturating_sub(job.asked.elapsed());
    let outcome = match (left.is_zero(), job.question.body(&shared.instance, shared.now_ms())) {
        (true, _) => Err("too many questions wait for an answer".to_owned()),
        (false, None) => Err("the message is no JSON".to_owned()),
        (false, Some(body)) => {
            let answer_bytes_max = shared.message_bytes_max as u64 + ANSWER_BYTES;
            let answered = shared.endpoint.post(&shared.next_id("msg"), body.as_bytes(), left, answer_bytes_max);
            answered.and_then(|(status, body)| answer(status, &body, shared.message_bytes_max))
        }
    };
    shared.note(outcome.as_ref().err());
    job.answer(outcome);
}
