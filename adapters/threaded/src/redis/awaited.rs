//! What was asked on a connection and not answered yet, for the thread that writes and the one that reads.

use super::ask::Ask;
use fanfare_core::broker::redis::history::Script;
use std::collections::VecDeque;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Unanswered commands beyond which no more are written until half are answered. A message comes after all answers that Redis owes,
/// and after those still in the socket, so it would be late by as many. Enough for Redis to have some at hand while one of the
/// threads waits for a processor.
const UNANSWERED_MAX: usize = 1_024;

/// What was asked and not answered yet.
pub(super) struct Awaited {
    /// `None` once nothing will be answered any more.
    asks: Mutex<Option<Asks>>,
    /// More may be written, or nothing ever again.
    may_write: Condvar,
    /// What was refused for a while, to be asked again.
    refused: Mutex<Vec<Ask>>,
    /// The server's role is worth asking for.
    pub(super) asks_role: AtomicBool,
    /// The server is a replica by now.
    pub(super) demoted: AtomicBool,
}

#[derive(Default)]
struct Asks {
    /// In the order in which they were written.
    unanswered: VecDeque<Ask>,
    /// Redis has forgotten the scripts: what it did not know, to be repeated before anything else is written.
    unknown: Option<Vec<Ask>>,
}

impl Asks {
    /// Whether more than so many are unanswered, or any has to be before more is written.
    fn exceed(&self, unanswered_max: usize) -> bool {
        let max = if self.unknown.is_some() { 0 } else { unanswered_max };
        self.unanswered.len() > max
    }
}

impl Awaited {
    pub(super) fn new(asks_role: bool) -> Awaited {
        Awaited {
            asks: Mutex::new(Some(Asks::default())),
            may_write: Condvar::new(),
            refused: Mutex::default(),
            asks_role: AtomicBool::new(asks_role),
            demoted: AtomicBool::new(false),
        }
    }

    /// Keeps what is to be asked again.
    pub(super) fn refuse(&self, ask: Ask) {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).push(ask);
    }

    pub(super) fn has_refused(&self) -> bool {
        !self.refused.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    pub(super) fn take_refused(&self) -> Vec<Ask> {
        std::mem::take(&mut *self.refused.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether a sign of life is asked for already, or whatever has no answer yet is probe enough.
    pub(super) fn is_probed(&self) -> bool {
        let asks = self.lock();
        let asks_role = self.asks_role.load(Relaxed);
        let is_probe = |ask: &Ask| !asks_role || matches!(ask, Ask::Probe { .. });
        asks.as_ref().is_some_and(|asks| asks.unanswered.iter().any(is_probe))
    }

    /// Takes what was asked first.
    pub(super) fn answered(&self) -> Option<Ask> {
        let mut asks = self.lock();
        let asks = asks.as_mut()?;
        let first = asks.unanswered.pop_front();
        self.wake(asks);
        first
    }

    fn wake(&self, asks: &Asks) {
        let at = if asks.unknown.is_some() { 0 } else { UNANSWERED_MAX / 2 };
        if asks.unanswered.len() == at {
            self.may_write.notify_one();
        }
    }

    /// Whether something is to be repeated that Redis did not know.
    pub(super) fn is_repeating(&self) -> bool {
        self.lock().as_ref().is_some_and(|asks| asks.unknown.is_some())
    }

    /// Redis does not know the script of what was asked first: it is repeated. In the same step, so that nothing is written in between.
    /// Returns whether it has a script at all.
    pub(super) fn unknown(&self) -> bool {
        let mut asks = self.lock();
        let Some(asks) = asks.as_mut() else { return false };
        let Asks { unanswered, unknown } = asks;
        if !unanswered.front().is_some_and(Ask::runs_script) {
            return false;
        }
        unknown.get_or_insert_default().extend(unanswered.pop_front());
        self.wake(asks);
        true
    }

    /// A store of this room was made, and these were not, because somebody else has given Redis the script in between. Repeated, they would
    /// come after what their sender said later.
    pub(super) fn overtaken(&self, room: &str) -> Vec<Ask> {
        let mut asks = self.lock();
        let unknown = asks.as_mut().and_then(|asks| asks.unknown.as_mut());
        unknown.map_or_else(Vec::new, |unknown| unknown.extract_if(.., |ask| ask.stores_in(room)).collect())
    }

    /// Nothing will be answered any more. Takes what Redis has refused to do, and what it may have done.
    pub(super) fn end(&self) -> (Vec<Ask>, VecDeque<Ask>) {
        let Asks { unanswered, unknown } = self.lock().take().unwrap_or_default();
        self.may_write.notify_one();
        (unknown.unwrap_or_default(), unanswered)
    }

    /// Waits until more may be written; then these are asked as well, unless nothing will be answered any more: they come back. Returns
    /// what has to be written before.
    pub(super) fn ask(&self, batch: Vec<Ask>, prefix: &str) -> Result<Vec<u8>, Vec<Ask>> {
        let mut asks = self.lock();
        if asks.as_ref().is_some_and(|asks| asks.exceed(UNANSWERED_MAX - 1)) {
            let exceed = |asks: &mut Option<Asks>| asks.as_ref().is_some_and(|asks| asks.exceed(UNANSWERED_MAX / 2));
            asks = self.may_write.wait_while(asks, exceed).unwrap_or_else(PoisonError::into_inner);
        }
        let Some(Asks { unanswered, unknown }) = asks.as_mut() else { return Err(batch) };
        let mut first = Vec::new();
        if let Some(unknown) = unknown.take() {
            unanswered.extend(Script::ALL.map(Ask::Load));
            unanswered.extend(unknown);
            unanswered.iter().for_each(|ask| ask.encode(prefix, &mut first));
        }
        unanswered.extend(batch);
        Ok(first)
    }

    /// A list of asks is whole whoever panicked.
    fn lock(&self) -> MutexGuard<'_, Option<Asks>> {
        self.asks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
