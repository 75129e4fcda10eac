//! A thread that notices changes of the bans.
//! It hands over whole lists, because a server that missed one change would be wrong for good.

use std::collections::HashSet;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use crate::bans::{Ban, BanError, BanStore, BanVersion, Banned};
use crate::date::date;

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

#[derive(Debug)]
struct State {
    is_loaded: AtomicBool,
    /// When the bans were last seen as they are, and before that, when the watch began.
    seen: Mutex<Instant>,
    trouble: Mutex<Option<String>>,
}

impl BanWatch {
    /// Asks the store every so often whether its bans have changed, and hands over all that are in force: at the start, on a change, and
    /// after an outage. While the store cannot be reached, what was handed over last stays in force, and so does what the store loses.
    ///
    /// After each look that did not show the bans as they are, `unseen` is told for how long that has been so, and zero once they are seen
    /// again. Neither may block.
    pub fn start(
        store: Arc<dyn BanStore>,
        every: Duration,
        now_ms: impl Fn() -> u64 + Send + 'static,
        deliver: impl Fn(&[Ban]) + Send + 'static,
        unseen: impl Fn(Duration) + Send + 'static,
    ) -> io::Result<Self> {
        let state = Arc::new(State {
            is_loaded: AtomicBool::new(false),
            seen: Mutex::new(Instant::now()),
            trouble: Mutex::default(),
        });
        let (stop, stopped) = bounded(0);
        let (ending, ended) = bounded(0);
        let shared = state.clone();
        let thread = thread::Builder::new().name("bans".to_owned()).spawn(move || {
            // Dropped with the thread, which tells that it has ended.
            let _ending: Sender<()> = ending;
            let (mut watched, mut saw) = (Watched::default(), true);
            loop {
                if let Some(bans) = watched.look(&*store, now_ms()) {
                    deliver(&bans);
                    shared.is_loaded.store(true, Ordering::Release);
                }
                *shared.trouble() = watched.trouble();
                let sees = watched.sees();
                if sees {
                    *shared.seen() = Instant::now();
                }
                if !sees || !saw {
                    unseen(if sees { Duration::ZERO } else { shared.seen().elapsed() });
                }
                saw = sees;
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

    /// For how long the bans have not been seen as they are: since the last look that showed them, which is not long as a rule.
    pub fn unseen_for(&self) -> Duration {
        self.state.seen().elapsed()
    }

    /// Why they could not be read when that was last tried, or not all of them, or that some have been lost.
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

    fn seen(&self) -> MutexGuard<'_, Instant> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a watch has found so far.
#[derive(Default)]
struct Watched {
    /// Whose list was looked at last. None, if it has to be looked at whatever its version is: at first, and after an outage.
    version: Option<BanVersion>,
    /// What is wrong with that list.
    wrong: Option<String>,
    /// When the bans were last seen as they are (Unix, ms), and which version that was.
    seen: Option<(u64, BanVersion)>,
    /// The bans that the store had then.
    stored: Vec<Ban>,
    /// Those that it has lost. They stay in force until they end, or until the store has them again and so can lift them.
    lost: Vec<Ban>,
    /// Why the last look failed.
    outage: Option<String>,
}

impl Watched {
    /// One look. All bans in force, if they are to be handed over.
    fn look(&mut self, store: &dyn BanStore, now_ms: u64) -> Option<Vec<Ban>> {
        self.lost.retain(|ban| ban.until_ms > now_ms);
        match self.read(store, now_ms) {
            Ok(bans) => {
                self.outage = None;
                bans
            }
            Err(error) => {
                (self.version, self.outage) = (None, Some(error.to_string()));
                None
            }
        }
    }

    /// The version is read first: what changes meanwhile is seen by the next look.
    fn read(&mut self, store: &dyn BanStore, now_ms: u64) -> Result<Option<Vec<Ban>>, BanError> {
        let version = store.version()?;
        if self.version.as_ref() == Some(&version) {
            // What is wrong with a list is so until somebody changes it. Reading it again and again would be work for nothing.
            if let Some((seen_ms, seen)) = &mut self.seen
                && *seen == version
            {
                *seen_ms = now_ms;
            }
            return Ok(None);
        }
        let list = match store.list(now_ms) {
            Err(outage @ BanError::Unavailable(_)) => return Err(outage),
            Err(error) => {
                (self.version, self.wrong) = (Some(version), Some(error.to_string()));
                return Ok(None);
            }
            Ok(list) => list,
        };
        let is_stored: HashSet<&Banned> = list.bans.iter().map(|ban| &ban.what).collect();
        let is_missing = |ban: &Ban| ban.until_ms > now_ms && !is_stored.contains(&ban.what);
        let missing: Vec<Ban> = self.stored.iter().filter(|ban| is_missing(ban)).cloned().collect();
        let has_lost = |(_, seen): &(u64, BanVersion)| has_lost(seen, &version, missing.len() as u64);
        if self.seen.as_ref().is_some_and(has_lost) {
            if store.version()? != version {
                // Perhaps they were lifted since the version was read. The next look tells.
                return Ok(None);
            }
            self.lost.extend(missing);
        }
        self.lost.retain(is_missing);
        let bans = [&list.bans[..], &self.lost].concat();
        self.wrong = (list.unreadable > 0).then(|| format!("{} bans cannot be read", list.unreadable));
        (self.stored, self.version, self.seen) = (list.bans, Some(version.clone()), Some((now_ms, version)));
        Ok(Some(bans))
    }

    /// Whether the last look showed the bans as they are.
    fn sees(&self) -> bool {
        self.outage.is_none()
            && self.version.is_some()
            && self.version.as_ref() == self.seen.as_ref().map(|(_, seen)| seen)
    }

    /// What an operator should know.
    fn trouble(&self) -> Option<String> {
        let unseen = self.outage.as_ref().map(|why| {
            let since = self.seen.as_ref().and_then(|(seen_ms, _)| date(*seen_ms));
            since.map_or_else(|| why.clone(), |since| format!("bans are not seen since {since}: {why}"))
        });
        let lost = (!self.lost.is_empty()).then(|| {
            let count = self.lost.len();
            format!("the store has lost {count} bans, which stay in force here until they end: ban them again")
        });
        let troubles: Vec<String> = unseen.into_iter().chain(self.wrong.clone()).chain(lost).collect();
        (!troubles.is_empty()).then(|| troubles.join("; "))
    }
}

/// Whether so many bans can be missing only because the store has lost data: a Redis that was restarted without persistence, flushed,
/// restored or evicted, or a file that was removed.
fn has_lost(seen: &BanVersion, found: &BanVersion, missing: u64) -> bool {
    match (seen, found) {
        (BanVersion::Unwritten, _) => false,
        (_, BanVersion::Unwritten) => true,
        (BanVersion::Counted { changes: before, .. }, BanVersion::Counted { changes, .. }) => {
            changes.checked_sub(*before).is_none_or(|changed| missing > changed)
        }
        (BanVersion::Text(_), _) | (_, BanVersion::Text(_)) => false,
    }
}
