//! What one role's threads share, for all the connections they have one after the other.

use super::report::{Counts, Report};
use super::role::Role;
use crossbeam_channel::Sender;
use fanfare_core::broker::redis::RedisConfig;
use std::fmt::Display;
use std::sync::Arc;

/// What a role's threads need for all their connections.
#[derive(Debug)]
pub(super) struct LinkContext {
    pub(super) role: Role,
    pub(super) config: Arc<RedisConfig>,
    pub(super) counts: Arc<Counts>,
    pub(super) inbox: Sender<Report>,
}

/// The server has ended: nobody is left to report to.
#[derive(Debug)]
pub(super) struct Over;

impl LinkContext {
    /// Whether rooms have histories, which are on the connections that publish.
    pub(super) fn loads_scripts(&self) -> bool {
        self.role != Role::Subscriber && self.config.keeps_history
    }

    /// Has the hub hear this.
    pub(super) fn report(&self, report: Report) -> Result<(), Over> {
        self.inbox.send(report).map_err(|_| Over)
    }

    /// Where the hub hears from others.
    pub(super) fn reporter(&self) -> Sender<Report> {
        self.inbox.clone()
    }

    /// What went wrong, fit to be read.
    pub(super) fn reason(&self, error: &impl Display) -> String {
        self.config.printable_error(error.to_string().as_bytes())
    }
}
