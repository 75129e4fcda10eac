//! A thread that notices changes of the bans.
//! It hands over whole lists, because a server that missed one change would be wrong for good.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use crate::bans::{Ban, BanError, BanList, BanStore};

/// For the thread to end. A store that hangs may take longer, and is left to itself.
const STOP_TIME_MAX: Duration = Duration::from_secs(1);

/// Watches the bans of a store, until it is dropped.
#[derive(Debug)]
pub struct BanWatch {
    state: Arc<State>,
    stop: Option<Sender<()>>,
    ended: Receiver<()>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct State {
    is_loaded: AtomicBool,
    trouble: Mutex<Option<String>>,
}

impl BanWatch {
    /// Asks the store every so often whether its bans have changed, and hands over all that are in force: at the start, on a change, and
    /// after an outage. While the store cannot be reached, what was handed over last stays in force.
    pub fn start(
        store: Arc<dyn BanStore>,
        every: Duration,
        now_ms: impl Fn() -> u64 + Send + 'static,
        deliver: impl Fn(&[Ban]) + Send + 'static,
    ) -> io::Result<Self> {
        let state = Arc::new(State::default());
        let (stop, stopped) = bounded(0);
        let (ending, ended) = bounded(0);
        let shared = state.clone();
        let thread = thread::Builder::new().name("bans".to_owned()).spawn(move || {
            // Dropped with the thread, which tells that it has ended.
            let _ending: Sender<()> = ending;
            let mut known = None;
            loop {
                look(&*store, &mut known, &shared, &now_ms, &deliver);
                if stopped.recv_timeout(every) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
            }
        })?;
        Ok(Self { state, stop: Some(stop), ended, thread: Some(thread) })
    }

    /// Whether the bans have been handed over at all. Before, nobody can say who is banned, so nobody may come in.
    pub fn is_loaded(&self) -> bool {
        self.state.is_loaded.load(Ordering::Acquire)
    }

    /// Why they could not be read when that was last tried, or not all of them.
    pub fn trouble(&self) -> Option<String> {
        self.state.trouble().clone()
    }
}

impl Drop for BanWatch {
    fn drop(&mut self) {
        self.stop = None;
        if self.ended.recv_timeout(STOP_TIME_MAX) == Err(RecvTimeoutError::Disconnected)
            && let Some(thread) = self.thread.take()
        {
            // It has ended, and if by a panic, that was told.
            let _ = thread.join();
        }
    }
}

impl State {
    fn trouble(&self) -> MutexGuard<'_, Option<String>> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One look. `known` is the version that was handed over, and none after an outage.
fn look(
    store: &dyn BanStore,
    known: &mut Option<String>,
    state: &State,
    now_ms: &impl Fn() -> u64,
    deliver: &impl Fn(&[Ban]),
) {
    let outcome = read_if_changed(store, known, now_ms());
    let trouble = match outcome {
        Ok(None) => return,
        Ok(Some((version, Ok(list)))) => {
            deliver(&list.bans);
            state.is_loaded.store(true, Ordering::Release);
            *known = Some(version);
            (list.unreadable > 0).then(|| format!("{} bans cannot be read", list.unreadable))
        }
        // Reading the same again and again would be work for nothing.
        Ok(Some((version, Err(error)))) => {
            *known = Some(version);
            Some(error.to_string())
        }
        Err(error) => {
            *known = None;
            Some(error.to_string())
        }
    };
    *state.trouble() = trouble;
}

/// A version and the list of it, or what is wrong with that list until somebody changes it.
type Read = (String, Result<BanList, BanError>);

/// The version is read first: what changes meanwhile is seen by the next look.
fn read_if_changed(store: &dyn BanStore, known: &Option<String>, now_ms: u64) -> Result<Option<Read>, BanError> {
    let version = store.version()?;
    if known.as_ref() == Some(&version) {
        return Ok(None);
    }
    match store.list(now_ms) {
        Err(outage @ BanError::Unavailable(_)) => Err(outage),
        outcome => Ok(Some((version, outcome))),
    }
}
