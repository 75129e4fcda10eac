//! The thread that tells: events in their order, several in a request, and again until the endpoint has taken them. What does not fit into
//! the queue, or was not taken for too long, is dropped and counted.

use crate::body::{Event, batch};
use crate::shared::Shared;
use serde_json::value::RawValue;
use std::collections::VecDeque;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Events that wait: those of some minutes of coming and going while the endpoint is away.
const WAITING_MAX: usize = 100_000;
/// Their bytes.
const WAITING_BYTES_MAX: usize = 32 << 20;
/// Events in one request: enough for tens of thousands a second, and quickly worked through.
const BATCH_MAX: usize = 256;
/// Their bytes. Frameworks for endpoints take bodies of 1 MB, or of 100 kB at least.
const BATCH_BYTES_MAX: usize = 64 << 10;
/// Of an answer, which says nothing but its status.
const ANSWER_BYTES_MAX: u64 = 64 << 10;
/// The first pause after a request that failed, and the longest.
const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// For what is left, when nobody tells any more.
const STOP_TIME_MAX: Duration = Duration::from_secs(2);

/// The events of one hook.
pub(crate) struct Telling {
    shared: Arc<Shared>,
    queue: Arc<Queue>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Queue {
    state: Mutex<State>,
    came: Condvar,
}

#[derive(Default)]
struct State {
    events: VecDeque<(Instant, Box<RawValue>)>,
    bytes: usize,
    /// Events that are under way.
    sent: usize,
    /// No more come, and what is left may be told until then.
    until: Option<Instant>,
    has_ended: bool,
}

impl Queue {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Telling {
    pub(crate) fn start(shared: &Arc<Shared>, retry_for: Duration) -> io::Result<Self> {
        let queue = Arc::new(Queue::default());
        let thread = {
            let (shared, queue) = (shared.clone(), queue.clone());
            let work = move || {
                while let Some((first, events)) = queue.next_batch() {
                    tell(&shared, &queue, first, &events, retry_for);
                }
                queue.state().has_ended = true;
                queue.came.notify_all();
            };
            thread::Builder::new().name("fanfare-events".to_owned()).spawn(work)?
        };
        Ok(Self { shared: shared.clone(), queue, thread: Some(thread) })
    }

    /// Has an event told. It never blocks.
    pub(crate) fn tell(&self, event: &Event) {
        let item = event.item(&self.shared.next_id("evt"), self.shared.now_ms());
        let mut state = self.queue.state();
        let waiting = state.events.len() + state.sent;
        if waiting >= WAITING_MAX || state.bytes + item.get().len() > WAITING_BYTES_MAX {
            drop(state);
            self.shared.counts.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        state.bytes += item.get().len();
        state.events.push_back((Instant::now(), item));
        drop(state);
        self.queue.came.notify_all();
    }

    pub(crate) fn waiting(&self) -> usize {
        let state = self.queue.state();
        state.events.len() + state.sent
    }
}

impl Drop for Telling {
    fn drop(&mut self) {
        let until = Instant::now() + STOP_TIME_MAX;
        let mut state = self.queue.state();
        state.until = Some(until);
        self.queue.came.notify_all();
        while !state.has_ended {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                // It waits for the endpoint, and is left to itself.
                return;
            }
            state = self.queue.came.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        drop(state);
        if let Some(thread) = self.thread.take() {
            // If it ended by a panic, that was told.
            let _ = thread.join();
        }
    }
}

impl Queue {
    /// The next events, and when the first was told. Nothing, once no more come.
    fn next_batch(&self) -> Option<(Instant, Vec<Box<RawValue>>)> {
        let mut state = self.state();
        while state.events.is_empty() {
            if state.until.is_some() {
                return None;
            }
            state = self.came.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let (mut events, mut bytes, mut first) = (Vec::new(), 0, None);
        while let Some((told, event)) = state.events.pop_front() {
            first.get_or_insert(told);
            bytes += event.get().len();
            events.push(event);
            let next = state.events.front().map_or(0, |(_, next)| next.get().len());
            if events.len() >= BATCH_MAX || bytes + next > BATCH_BYTES_MAX {
                break;
            }
        }
        state.bytes -= bytes;
        state.sent = events.len();
        Some((first?, events))
    }

    /// Waits for so long, or until no more events come. For how long what is left may be told then.
    fn pause(&self, pause: Duration) -> Option<Duration> {
        let until = Instant::now() + pause;
        let mut state = self.state();
        loop {
            if let Some(end) = state.until {
                return Some(end.saturating_duration_since(Instant::now()));
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            state = self.came.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Forgets what is left, and says how much that was.
    fn give_up(&self) -> usize {
        let mut state = self.state();
        state.bytes = 0;
        std::mem::take(&mut state.events).len()
    }
}

/// Tells of these events until the endpoint has taken them, or it is too late for that.
fn tell(shared: &Shared, queue: &Queue, first: Instant, events: &[Box<RawValue>], retry_for: Duration) {
    let (id, body) = (shared.next_id("msg"), batch(events, &shared.instance, shared.now_ms()));
    let mut pause = PAUSE_MIN;
    let mut is_last = false;
    loop {
        let time_max = queue.pause(Duration::ZERO).map_or(shared.timeout, |left| shared.timeout.min(left));
        let outcome = match time_max.is_zero() {
            true => Err("the server has stopped".to_owned()),
            false => shared.endpoint.post(&id, body.as_bytes(), time_max, ANSWER_BYTES_MAX),
        };
        let outcome = outcome.and_then(|(status, _)| match status {
            200..=299 => Ok(()),
            other => Err(format!("status {other}")),
        });
        shared.note(outcome.as_ref().err());
        if outcome.is_ok() {
            break;
        }
        (shared.changed)();
        let is_stopping = queue.pause(Duration::ZERO).is_some();
        if is_last || is_stopping || first.elapsed() >= retry_for {
            let lost = events.len() + if is_stopping { queue.give_up() } else { 0 };
            shared.counts.dropped.fetch_add(lost as u64, Ordering::Relaxed);
            break;
        }
        // One that stops asks once more.
        is_last = queue.pause(apart(pause)).is_some();
        pause = (pause * 2).min(PAUSE_MAX);
    }
    queue.state().sent = 0;
    (shared.changed)();
}

/// Up to a quarter longer or shorter, so that the instances of a server do not all come back at once.
fn apart(pause: Duration) -> Duration {
    let random = RandomState::new().build_hasher().finish() as u32;
    pause.mul_f64(0.75 + 0.5 * f64::from(random) / f64::from(u32::MAX))
}
