//! The end of a core that has been told to stop: whoever is owed an answer gets it first, within a time, and then 1012.

use crate::core::Core;
use crate::id::ConnId;
use crate::slots::Phase;
use crate::time::Time;
use crate::ws::handshake::Response;
use std::collections::BTreeSet;

/// RFC 6455's registry: the service restarts.
const SERVICE_RESTART: u16 = 1012;

/// What is left to be done before everybody has been told.
#[derive(Debug)]
pub(crate) struct Drain {
    /// Then everybody is told, whatever is owed.
    until: Time,
    /// WebSockets that have not been told.
    untold: Vec<ConnId>,
}

impl Core {
    /// Refuses whoever has not been answered yet; WebSockets are told at the end of this turn, or when nothing is owed to them any
    /// more. What they say from here on is not acted upon.
    pub(crate) fn shutdown(&mut self) {
        if self.drain.is_some() {
            return;
        }
        let mut untold = Vec::new();
        for slot in self.conns.slots() {
            match self.conns.get(slot).phase {
                Phase::Open => untold.push(self.conns.id(slot)),
                Phase::Head if self.heads.remove(&slot).is_some() => {
                    self.metrics.upgrades_refused_draining += 1;
                    self.respond(slot, Response::unavailable("shutting down"), false);
                }
                Phase::Head => {
                    self.discard(slot);
                    self.end_now(slot);
                }
                _ => {}
            }
        }
        self.drain = Some(Drain { until: self.now + self.config.drain_timeout, untold });
    }

    /// Whether it has been told to stop.
    pub(crate) fn is_draining(&self) -> bool {
        self.drain.is_some()
    }

    /// When nobody waits for answers any more.
    pub(crate) fn drained_at(&self) -> Option<Time> {
        self.drain.as_ref().filter(|drain| !drain.untold.is_empty()).map(|drain| drain.until)
    }

    /// Closes those who are owed nothing any more; at the end of a turn, behind all that it has answered.
    pub(crate) fn close_the_settled(&mut self) {
        let Some(drain) = &mut self.drain else { return };
        if drain.untold.is_empty() {
            return;
        }
        let (is_time_up, untold) = (drain.until <= self.now, std::mem::take(&mut drain.untold));
        let owed = if is_time_up { BTreeSet::new() } else { self.owed() };
        let mut left = Vec::new();
        for conn in untold {
            let Some(slot) = self.conns.slot(conn).filter(|slot| self.conns.get(*slot).phase == Phase::Open) else {
                continue;
            };
            if owed.contains(&slot) {
                left.push(conn);
            } else {
                self.close(slot, SERVICE_RESTART, "the server restarts");
            }
        }
        if let Some(drain) = &mut self.drain {
            drain.untold = left;
        }
    }

    /// Who waits for the outcome of a publish, or to become a member; but for those whose dialect has no word for it, and while the
    /// broker is away nobody becomes a member.
    fn owed(&self) -> BTreeSet<u32> {
        let senders = self.senders.waiting().filter_map(|conn| self.conns.slot(conn));
        let joining = self.joins.slots().filter(|_| !self.broker.is_down());
        senders.chain(joining).filter(|slot| self.conns.get(*slot).dialect.has_replies()).collect()
    }

    /// For checks: whether the end of the turn has left everybody told, or waiting to be.
    pub(crate) fn check_drain(&self) {
        let Some(drain) = &self.drain else { return };
        for slot in self.conns.slots().filter(|slot| self.conns.get(*slot).phase == Phase::Open) {
            assert!(drain.untold.contains(&self.conns.id(slot)), "whoever is open while it ends waits for an answer");
        }
    }
}
