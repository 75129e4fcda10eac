//! What a client does to make much work, and what it may be closed for: no more than it has made.

use super::{Client, Connection};
use crate::cluster::Surroundings;
use crate::options::{Fault, Options, chance};
use crate::reference::Key;
use fanfare_core::Config;
use fanfare_wire::Frame;

/// What the core acts upon before it charges: of a look at bytes the last message, and all before it.
const LOOK_BYTES: u64 = 100 * 1024;
/// Microseconds by which messages can be on their way longer than their client has taken for them, while nothing holds bytes up.
const ON_THE_WAY: u64 = 2_000_000;
/// What a message grows by at most where it is published: the name of its room, and the quotation marks of a text.
pub(super) const GROWN_BYTES: u64 = 100;

/// A message that has begun.
#[derive(Debug)]
pub(super) struct Unfinished {
    /// What is missing of it.
    rest: Frame,
    since: u64,
    /// When it ends, if nothing hurries it.
    until: u64,
    /// If it is one to a room.
    pub key: Option<Key>,
}

/// What a connection has made so far.
#[derive(Debug, Default)]
pub(super) struct Made {
    /// Bytes beyond those that it has said: what these inflate to and grow by, and what it was told at once.
    pub surplus: u64,
    /// Microseconds that its messages have taken, the longest.
    longest: u64,
    /// Messages to rooms.
    pub sends: u64,
    /// Messages refused because they make too many deliveries.
    pub refused: u64,
}

impl Client {
    /// Blanks for the end of a command, if it shall inflate.
    pub(super) fn blanks(&mut self) -> String {
        let compresses = self.connection.as_ref().is_some_and(|of| of.incoming.is_compressed());
        let inflates = compresses && !self.is_healed && chance(&mut self.rng, self.options.costs.inflating);
        let bytes = match inflates {
            true => self.options.costs.blanks.draw(&mut self.rng),
            false => 0,
        };
        " ".repeat(bytes as usize)
    }

    /// Whether the next message shall end later than it begins.
    pub(super) fn is_slow(&mut self) -> bool {
        !self.is_healed && chance(&mut self.rng, self.options.costs.unfinished)
    }

    /// Begins a message, of which `rest` is missing.
    pub(super) fn begin(&mut self, rest: Frame, around: &Surroundings<'_>) {
        let now = around.timeline.now;
        let until = now + self.options.costs.pause.draw(&mut self.rng);
        if let Some(connection) = &mut self.connection {
            connection.unfinished = Some(Unfinished { rest, since: now, until, key: None });
        }
    }

    /// Ends the message that it has begun, once it is time, if it says anything any more. Says whether nothing is unfinished any more.
    pub(super) fn finish(&mut self, hurries: bool, around: &mut Surroundings<'_>) -> bool {
        let now = around.timeline.now;
        let Some(connection) = &mut self.connection else { return true };
        let Some(unfinished) = connection.unfinished.take_if(|of| hurries || of.until <= now) else {
            return connection.unfinished.is_none();
        };
        connection.made.longest = connection.made.longest.max(now - unfinished.since);
        if connection.is_over {
            // Nothing follows what it has said, so the message never ends.
            return true;
        }
        self.frame(unfinished.rest, around);
        if let Some(connection) = &mut self.connection {
            connection.view.ends(connection.said);
            if let Some(key) = unfinished.key {
                around.reference.sent_to(key, connection.wire, connection.said);
            }
        }
        true
    }
}

impl Connection {
    /// Whether the server may close it for what it has made, with this reason.
    pub(super) fn is_too_costly(&self, code: u16, reason: &str, core: &Config, now: u64) -> bool {
        let longest = self.unfinished.as_ref().map_or(0, |of| now - of.since).max(self.made.longest);
        match (code, reason) {
            (4029, "too many bytes a second") => {
                let made = self.said + self.made.surplus + GROWN_BYTES * self.made.sends;
                core.limits.bytes.is_limited() && made > core.limits.bytes.burst
            }
            (4029, "too many deliveries a second") => core.limits.deliveries.is_limited() && self.made.sends > 0,
            // Refusals count as errors.
            (4029, "too fast") => self.made.refused > 0,
            (4008, "a message did not end in time") => longest + ON_THE_WAY >= core.timeouts.message.as_micros() as u64,
            (4008, "too many messages are unfinished") => {
                core.limits.unfinished_total_bytes_max < Config::default().limits.unfinished_total_bytes_max
            }
            _ => false,
        }
    }

    /// What the server has done for it is no more than it could be charged.
    ///
    /// # Errors
    /// If it is more.
    pub(super) fn check_charged(&self, options: &Options, now: u64) -> Result<(), String> {
        let bytes = options.core.limits.bytes;
        // A second of silence before it began makes good for what comes first.
        let seconds = (now - self.opened_at).div_ceil(1_000_000) + 1;
        let most = bytes.burst + bytes.per_second * seconds + LOOK_BYTES;
        let inflated = self.view.inflated;
        if bytes.is_limited() && !options.has(Fault::InstanceClockJump) && inflated > most {
            return Err(format!("{inflated} bytes were inflated, and it can be charged {most} at most"));
        }
        Ok(())
    }
}
