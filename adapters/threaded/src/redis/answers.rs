//! Where the outcomes of publishes go. Each is counted and told once.

use super::ask::{Ask, Publish};
use super::context::Over;
use super::report::{Counts, Report};
use crossbeam_channel::Sender;
use fanfare_core::broker::PublishError;
use fanfare_core::history::Position;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Where the outcome of a publish goes.
#[derive(Clone)]
pub(super) struct Answers {
    pub(super) counts: Arc<Counts>,
    pub(super) inbox: Sender<Report>,
}

impl Answers {
    pub(super) fn succeed(&self, publish: &Publish, position: Option<Position>) -> Result<(), Over> {
        let was_last = self.counts.settle(publish);
        match publish.id {
            Some(id) => self.report(Report::Published(id, position)),
            None if was_last => self.report(Report::Settled),
            None => Ok(()),
        }
    }

    /// Other asks than publishes need no answer: that the connection is down says it all, also of reads, which are asked again.
    pub(super) fn fail(&self, ask: Ask, error: PublishError) -> Result<(), Over> {
        let Ask::Publish(publish) = ask else { return Ok(()) };
        if publish.id.is_none() {
            self.counts.dropped.fetch_add(1, Relaxed);
        }
        let was_last = self.counts.settle(&publish);
        match publish.id {
            Some(id) => self.report(Report::PublishFailed(id, error)),
            None if was_last => self.report(Report::Settled),
            None => Ok(()),
        }
    }

    fn report(&self, report: Report) -> Result<(), Over> {
        self.inbox.send(report).map_err(|_| Over)
    }
}
