//! Credentials that are asked about again. Few are under way at once, and the others stand in a line, so that a crowd of connections
//! keeps nobody new waiting. What an answer means is decided in `authentication.rs`.

use crate::hash::{BySlot, Seeded, take_of};
use crate::time::Time;
use std::collections::BTreeMap;
use std::time::Duration;

/// After this time an answer is not waited for any more. Whoever verifies tells of an outage sooner.
const LOST: Duration = Duration::from_secs(120);

/// Who stands in line, and how many have left it and are not answered.
#[derive(Debug)]
pub(super) struct Rechecks {
    at_once_max: usize,
    under_way: usize,
    /// By the places that were given out.
    line: BTreeMap<u64, u32>,
    next_place: u64,
    /// From when on everything that was asked is unanswered.
    unanswered_since: Time,
    /// Of credentials that have expired: how long since then they have stood in line.
    waited: BySlot<Duration>,
}

/// A place in the line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    number: u64,
    since: Time,
}

impl Place {
    /// How long it has been taken, of the time that the credential has been over.
    pub fn waited(self, now: Time, over: Duration) -> Duration {
        now.since(self.since).min(over)
    }
}

impl Rechecks {
    pub fn new(at_once_max: usize, seed: u64) -> Rechecks {
        Rechecks {
            // With none, a session would never end.
            at_once_max: at_once_max.max(1),
            under_way: 0,
            line: BTreeMap::new(),
            next_place: 0,
            unanswered_since: Time::ZERO,
            waited: BySlot::with_hasher(Seeded::new(seed)),
        }
    }

    /// How many stand in line.
    pub fn waiting(&self) -> usize {
        self.line.len()
    }

    /// Whether the first in line may be asked about.
    pub fn is_due(&self) -> bool {
        !self.line.is_empty() && self.under_way < self.at_once_max
    }

    /// Puts a connection at the end of the line.
    pub fn enter(&mut self, slot: u32, now: Time) -> Place {
        let number = self.next_place;
        self.next_place += 1;
        self.line.insert(number, slot);
        Place { number, since: now }
    }

    /// Takes it out again.
    pub fn leave(&mut self, place: Place) {
        self.line.remove(&place.number);
    }

    /// The first in line, if it may be asked about. It counts as under way until [`Rechecks::ended`].
    pub fn begin(&mut self, now: Time) -> Option<u32> {
        if self.under_way >= self.at_once_max {
            return None;
        }
        let (_, slot) = self.line.pop_first()?;
        if self.under_way == 0 {
            self.unanswered_since = now;
        }
        self.under_way += 1;
        Some(slot)
    }

    /// One that was under way is not any more.
    pub fn ended(&mut self) {
        self.under_way -= 1;
    }

    /// It could be found out what became of one.
    pub fn answered(&mut self, now: Time) {
        self.unanswered_since = now;
    }

    /// For how long nothing could be found out, although it was asked. While answers come, whoever stands in line waits for our own sake.
    pub fn unanswered(&self, now: Time) -> Duration {
        if self.under_way == 0 { Duration::ZERO } else { now.since(self.unanswered_since) }
    }

    /// Its credential, which is over, has stood in line for so long.
    pub fn add_wait(&mut self, slot: u32, wait: Duration) {
        if !wait.is_zero() {
            *self.waited.entry(slot).or_default() += wait;
        }
    }

    /// How long that was in all.
    pub fn waited(&self, slot: u32) -> Duration {
        self.waited.get(&slot).copied().unwrap_or_default()
    }

    /// Its credential is another one, or it has ended.
    pub fn forget(&mut self, slot: u32) {
        take_of(&mut self.waited, slot);
    }

    /// Panics unless so many stand in line, and so many are under way.
    pub fn check(&self, waiting: usize, under_way: usize) {
        assert_eq!(
            (self.line.len(), self.under_way),
            (waiting, under_way),
            "rechecks that wait, and that are under way"
        );
    }

    /// Panics if anything is left.
    pub fn check_idle(&self) {
        self.check(0, 0);
        assert!(self.waited.is_empty(), "a wait of a connection is left");
    }
}

/// Whether an answer that was asked for then comes no more.
pub(super) fn is_lost(asked: Time, now: Time) -> bool {
    now.since(asked) >= LOST
}
