//! Histories of rooms: what scripts reply, and scripts that Redis has forgotten. What a reply means, the core knows.

use super::ask::{Ask, Message, Publish, Read};
use super::connection::reply_of;
use super::context::Over;
use super::conversation::{Conversation, Verdict};
use super::report::Report;
use fanfare_core::broker::PublishError;
use fanfare_core::broker::redis::Refusal;
use fanfare_core::broker::redis::history::{self, HistoryError, ReadReply, Script, StoreReply};
use fanfare_core::broker::redis::replication::Wait;
use fanfare_core::broker::redis::resp::Reply;
use fanfare_core::broker::redis::stores::{self, FORGETFUL, LOADS_IN_A_ROW_MAX, Refused};
use fanfare_core::history::Position;
use redis::Value;
use std::sync::atomic::Ordering::Relaxed;

impl Conversation<'_> {
    /// A store is answered.
    pub(super) fn stored(&mut self, publish: Publish, items: &[Value]) -> Result<Verdict, Over> {
        let StoreReply { at, is_announced, trouble, .. } = match StoreReply::of(items.iter().map(reply_of)) {
            Ok(stored) => stored,
            Err(error) => return self.script_refused(Ask::Publish(publish), error),
        };
        self.loads_in_a_row = 0;
        self.link.counts.unannounced.fetch_add(u64::from(!is_announced), Relaxed);
        if !trouble.is_empty() {
            self.complaints.incomplete(|| stores::incomplete(is_announced, trouble, &self.link.config));
            self.log();
        }
        if let Message::Stored { room, .. } = &publish.message
            && at.is_new
        {
            for ask in self.awaited.overtaken(room) {
                self.answers.fail(ask, PublishError::Unavailable)?;
            }
        }
        let replicas_min = match publish.message {
            Message::Stored { replicas_min, .. } => replicas_min,
            Message::Plain { .. } => 0,
        };
        if replicas_min == 0 {
            return self.answers.succeed(&publish, Some(at.position)).map(Ok);
        }
        let not_waited_for = self.awaited.replication().keep((publish, at.position), replicas_min);
        not_waited_for.map_or(Ok(()), |stored| self.acknowledge(stored, false)).map(Ok)
    }

    /// It is known of a stored message whether enough replicas have it.
    fn acknowledge(&self, (publish, position): (Publish, Position), has_enough: bool) -> Result<(), Over> {
        if has_enough {
            return self.answers.succeed(&publish, Some(position));
        }
        self.link.counts.unreplicated.fetch_add(1, Relaxed);
        self.answers.fail(Ask::Publish(publish), PublishError::Unreplicated)
    }

    /// A `WAIT` is answered, or `refused`.
    pub(super) fn waited(&mut self, wait: Wait, replicas: u16, refused: Option<&str>) -> Result<(), Over> {
        let (stored, goes_on) = {
            let mut replication = self.awaited.replication();
            (replication.waited(wait, replicas), replication.has_stores())
        };
        if goes_on {
            self.tell_writer(Ask::WaitAgain);
        }
        for (stored, has_enough) in stored {
            self.acknowledge(stored, has_enough)?;
        }
        if replicas < wait.replicas {
            self.complaints.unreplicated(|| stores::unreplicated(wait, replicas, refused, &self.link.config));
            self.log();
        }
        Ok(())
    }

    /// The same of a read.
    pub(super) fn have_read(&mut self, read: Read, items: &[Value]) -> Result<Verdict, Over> {
        match ReadReply::of(items.iter().map(reply_of)) {
            Ok(ReadReply { page, .. }) => {
                self.loads_in_a_row = 0;
                self.link.report(Report::Read(read.id, page)).map(Ok)
            }
            Err(error) => self.script_refused(Ask::Read(read), error),
        }
    }

    /// A script was refused, or did not say what scripts say.
    pub(super) fn script_refused(&mut self, ask: Ask, error: HistoryError<'_>) -> Result<Verdict, Over> {
        let Some(Refused { error, passes, refusal, reason }) = stores::refused(error, &self.link.config) else {
            return self.mistaken(Some(ask));
        };
        match ask {
            Ask::Read(read) => self.link.report(Report::ReadFailed(read.id, passes))?,
            ask => self.answers.fail(ask, error)?,
        }
        match (refusal, reason) {
            (_, None) => Ok(Ok(())),
            (Refusal::Lasting, Some(reason)) => {
                self.complain(reason);
                Ok(Ok(()))
            }
            (refusal, Some(reason)) => self.judge(refusal, reason),
        }
    }

    /// Redis does not know the script of what was asked first, so it was not done. Says whether it will be repeated.
    pub(super) fn repeats(&mut self) -> bool {
        if !self.link.counts.has_scripts.load(Relaxed) {
            return false;
        }
        let begins = !self.awaited.is_repeating();
        if begins && self.loads_in_a_row >= LOADS_IN_A_ROW_MAX {
            self.have_scripts(Some(FORGETFUL.to_owned()));
            return false;
        }
        let repeats = self.awaited.unknown();
        if repeats && begins {
            self.loads_in_a_row += 1;
            self.tell_writer(Ask::Repeat);
        }
        repeats
    }

    /// Whether Redis has taken a script.
    pub(super) fn loaded(&mut self, script: Script, reply: &Reply<'_>) -> Verdict {
        match history::loaded(script, reply, &self.link.config) {
            Err(reason) => self.have_scripts(Some(reason)),
            // With the first of them it is tried anew, and each that fails decides.
            Ok(()) if script == Script::ALL[0] && !self.link.counts.has_scripts.load(Relaxed) => {
                self.loads_in_a_row = 0;
                self.have_scripts(None);
            }
            Ok(()) => {}
        }
        Ok(())
    }

    /// There are histories from now on, or there are none, and why.
    pub(super) fn have_scripts(&mut self, unloaded: Option<String>) {
        self.link.counts.has_scripts.store(unloaded.is_none(), Relaxed);
        if let Some(reason) = unloaded {
            self.complain(reason);
        }
    }

    /// How Redis stands with its memory, and why it may evict histories, if it may.
    pub(super) fn may_evict(&mut self, eviction: Option<String>) {
        self.complaints.set_up(eviction);
        self.log();
    }

    fn complain(&mut self, reason: String) {
        self.complaints.refused(|| reason);
        self.log();
    }

    fn log(&mut self) {
        while let Some(reason) = self.complaints.take() {
            tracing::warn!(reason, address = %self.link.config.address, "redis and the histories of rooms");
        }
    }
}
