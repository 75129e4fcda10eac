//! Commands of presence among what is asked on a publishing connection. What they are for, the keeper knows; here is only whether they are
//! repeated, and what their refusal means for the connection.

use super::super::RedisConfig;
use super::super::buffers::Outbox;
use super::super::history::HistoryError;
use super::super::presence::commands::{self, PresenceError};
use super::super::presence::{Heard, Outcome, PresenceAsked};
use super::super::redirect::Redirect;
use super::super::refusal::Refusal;
use super::super::resp::Reply;
use super::super::stores::{self, Refused};
use super::super::verdict::{Loss, Verdict};
use super::{Asked, Publisher};
use crate::time::Time;

impl Publisher {
    /// Appends a command of presence. The error is whether it is worth trying again.
    pub(in super::super) fn keep(
        &mut self,
        asked: PresenceAsked,
        command: &[u8],
        outbox: &mut Outbox,
    ) -> Result<(), Outcome> {
        if self.is_unloaded {
            return Err(Outcome::Failed { passes: false });
        }
        self.append((Asked::Presence(asked), Time::ZERO), outbox, |out| out.extend_from_slice(command));
        Ok(())
    }

    /// What the keeper has to hear.
    pub(in super::super) fn take_heard(&mut self) -> Vec<Heard> {
        std::mem::take(&mut self.heard)
    }

    /// Whether there is any.
    pub(in super::super) fn has_heard(&self) -> bool {
        !self.heard.is_empty()
    }

    /// The connection has come up, or was lost.
    pub(in super::super) fn tell_keeper(&mut self, heard: Heard, config: &RedisConfig) {
        if config.keeps_presence {
            self.heard.push(heard);
        }
    }

    /// A command is answered, or has to be repeated. `None`: not by any answer.
    pub(super) fn have_kept(
        &mut self,
        reply: &Reply<'_>,
        (asked, kept): (PresenceAsked, usize),
        outbox: &Outbox,
        config: &RedisConfig,
    ) -> Option<Result<Verdict, Loss>> {
        let error = match commands::parse(asked.kind, reply) {
            Ok((done, trouble)) => {
                self.loads_in_a_row = 0;
                if !trouble.is_empty() {
                    let trouble = config.printable_error(trouble);
                    self.complaints
                        .presence(|| format!("somebody came or went, and that could not be announced: {trouble}"));
                }
                self.heard.push(Heard::Answer(asked, Outcome::Done(done)));
                return Some(Ok(Verdict::Fine));
            }
            Err(PresenceError::NoScript) if self.repeats((Asked::Presence(asked), Time::ZERO), kept, outbox) => {
                return Some(Ok(Verdict::Fine));
            }
            Err(error) => error,
        };
        let (passes, refusal) = match error {
            PresenceError::Gone => {
                self.heard.push(Heard::Answer(asked, Outcome::Dead));
                return Some(Ok(Verdict::Fine));
            }
            PresenceError::Unavailable(why) => {
                let why = config.printable_error(why);
                self.complaints.presence(|| format!("it does not keep who is in a room: {why}"));
                (false, Ok(Verdict::Fine))
            }
            PresenceError::Malformed => {
                self.complaints.presence(|| {
                    "what it keeps of who is in a room is nothing that an instance has written".to_owned()
                });
                (false, Ok(Verdict::Fine))
            }
            PresenceError::NoList => return None,
            PresenceError::NoScript => (false, Ok(Verdict::Fine)),
            // Nothing is wrong with the connection.
            PresenceError::Refused(text) if Redirect::of(text) == Some(Redirect::TryAgain) => (true, Ok(Verdict::Fine)),
            PresenceError::Refused(text) => {
                let Refused { passes, refusal, reason, .. } = stores::refused(HistoryError::Refused(text), config)?;
                if refusal == Refusal::Lasting
                    && let Some(reason) = reason
                {
                    self.complaints.presence(|| reason);
                    (passes, Ok(Verdict::Fine))
                } else {
                    (passes, self.script_refused(refusal, reason))
                }
            }
        };
        self.heard.push(Heard::Answer(asked, Outcome::Failed { passes }));
        Some(refusal)
    }
}
