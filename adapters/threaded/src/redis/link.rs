//! A connection's life, again and again: connecting, signing in, talking until it ends, waiting before the next attempt.

use super::connection::Connection;
use super::context::{LinkContext, Over};
use super::conversation::Conversation;
use super::report::Report;
use fanfare_core::broker::redis::{Backoff, Complaints};
use std::io;
use std::thread;
use std::time::{Duration, Instant};

/// One role's connections, one after the other.
#[derive(Debug)]
pub(super) struct Link {
    context: LinkContext,
    backoff: Backoff,
    /// Why there is no connection, as the hub was told last.
    told: Option<String>,
    /// What the log is told of the histories of rooms.
    complaints: Complaints,
}

impl Link {
    pub(super) fn new(context: LinkContext) -> Link {
        let backoff = Backoff::new(context.config.seed.wrapping_add(context.role as u64));
        Link { context, backoff, told: None, complaints: Complaints::default() }
    }

    /// Starts the thread, which lasts as long as the server.
    pub(super) fn start(mut self) -> io::Result<()> {
        let run = move || {
            while let Ok(wait) = self.attempt() {
                thread::sleep(wait);
            }
        };
        thread::Builder::new().name("fanfare-redis".to_owned()).spawn(run).map(drop)
    }

    /// One connection, from the attempt to its end. Returns how long to wait before the next.
    fn attempt(&mut self) -> Result<Duration, Over> {
        let reason = match Connection::open(&self.context) {
            Err(reason) => reason,
            Ok(connection) => {
                self.told = None;
                let since = Instant::now();
                let reason = Conversation::hold(&self.context, connection, &mut self.complaints)?;
                // Had it been shorter, a server that ends every connection soon would be visited again and again at once.
                if since.elapsed() >= self.context.config.backoff_max {
                    self.backoff.reset();
                }
                reason
            }
        };
        let reason = format!("Redis: {reason}");
        if self.told.as_ref() != Some(&reason) {
            self.told = Some(reason.clone());
            self.context.report(Report::Down(self.context.role, reason))?;
        }
        Ok(self.backoff.next(self.context.config.backoff_min, self.context.config.backoff_max))
    }
}
