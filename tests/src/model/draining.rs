//! When a server that drains may close a client: in its time, behind a fence, and when nothing is owed to it. Which time it is that a client has
//! is drawn by lot, so only bounds of it are known here.

use super::DRAIN;
use fanfare_core::ConnId;
use fanfare_core::broker::FenceId;
use fanfare_core::time::Time;
use std::time::Duration;

/// The time over which clients are let go.
pub(super) const SPREAD: Duration = Duration::from_secs(2);
/// How long after its time one that was told is closed.
const GRACE: Duration = Duration::from_millis(500);

#[derive(Debug, Default)]
pub(super) struct Draining {
    begun: Option<Time>,
    /// The turn in which that was said has ended.
    is_closed: bool,
    asked: Option<(FenceId, Time)>,
    /// When the last fence was asked that is there.
    fenced: Option<Time>,
    /// When the broker was away last: then none is asked.
    away: Option<Time>,
}

impl Draining {
    pub fn begin(&mut self, now: Time) {
        self.begun.get_or_insert(now);
    }

    pub fn has_begun(&self) -> bool {
        self.begun.is_some()
    }

    pub fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Whether what clients say may have no effect any more.
    pub fn may_be_deaf(&self, now: Time) -> bool {
        self.is_closed && self.begun.is_some_and(|begun| begun + GRACE <= now)
    }

    pub fn end_turn(&mut self, is_up: bool, now: Time) {
        self.is_closed = self.begun.is_some();
        if !is_up {
            self.away = Some(now);
        }
    }

    pub fn asked(&mut self, id: FenceId, now: Time) {
        assert!(self.asked.is_none_or(|(before, _)| before < id), "fences are numbered upwards");
        self.asked = Some((id, now));
    }

    pub fn answered(&mut self, id: FenceId) {
        if let Some((_, at)) = self.asked.filter(|(asked, _)| *asked == id) {
            self.fenced = Some(at);
        }
    }

    pub fn voided(&mut self, now: Time) {
        self.away = Some(now);
    }

    pub fn check_let_go(&self, conn: ConnId, is_bare: bool, is_owed: bool, now: Time) {
        let begun = self.begun.unwrap_or_else(|| panic!("{conn:?} is told to come back, and nobody has to go"));
        let earliest = if is_bare { begun } else { begun + GRACE };
        assert!(earliest <= now, "{conn:?} is closed too early");
        let has_waited = earliest + DRAIN <= now;
        let is_fenced = [self.fenced, self.away].into_iter().flatten().any(|at| earliest <= at);
        assert!(is_fenced || has_waited, "{conn:?} is closed, and there was no fence");
        assert!(is_bare || !is_owed || has_waited, "{conn:?} is let go, and has an answer to get");
    }
}
