//! What every machine of the core may use beside itself.

use crate::config::Config;
use crate::fanout::FanOut;
use crate::history::Position;
use crate::journal::Journal;
use crate::limits::Limits;
use crate::metrics::Metrics;
use crate::notices::Notices;
use crate::protocol::{CommandId, ErrorCode, reply};
use crate::slots::{Phase, Slots};
use crate::time::Time;

/// The surroundings of a machine: it is handed them with every event that it hears. One struct beside the machines and not the core
/// itself, so that a machine can use them while it changes its own state.
#[derive(Debug)]
pub(crate) struct Context {
    pub now: Time,
    pub wall_clock: WallClock,
    pub config: Config,
    pub slots: Slots,
    pub fanout: FanOut,
    pub limits: Limits,
    pub metrics: Metrics,
    pub journal: Journal,
    pub notices: Notices,
    /// What the backend was answered, and has yet to be told.
    pub replies: Vec<Vec<u8>>,
}

/// What time it is for people, as it was told last.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct WallClock {
    told: Option<(Time, u64)>,
}

impl WallClock {
    /// It is so late now.
    pub fn set(&mut self, now: Time, unix_ms: u64) {
        self.told = Some((now, unix_ms));
    }

    /// Unix, ms; if it is known.
    pub fn unix_ms(self, now: Time) -> Option<u64> {
        let (at, unix_ms) = self.told?;
        Some(unix_ms.saturating_add((now.as_micros() - at.as_micros()) / 1_000))
    }
}

impl Context {
    /// Unix, ms; if it is known.
    pub fn unix_ms(&self) -> Option<u64> {
        self.wall_clock.unix_ms(self.now)
    }

    /// Sends one text of the server's to a connection, where its dialect has any.
    pub fn reply(&mut self, slot: u32, write: impl FnOnce(&mut Vec<u8>)) {
        if self.slots.get(slot).dialect.has_replies() {
            let bytes = self.say(slot, write);
            self.limits.owe(bytes);
        }
    }

    /// The same of a text that is charged for already, or is not to be. Returns its bytes.
    pub fn say(&mut self, slot: u32, write: impl FnOnce(&mut Vec<u8>)) -> usize {
        if self.slots.get(slot).phase == Phase::Backend {
            let before = self.replies.len();
            self.tell_program(write);
            return self.replies[before].len();
        }
        self.fanout.reply(&mut self.slots, slot, write)
    }

    /// Tells the program that the core is a part of.
    #[cold]
    pub fn tell_program(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let mut text = Vec::new();
        write(&mut text);
        self.replies.push(text);
    }

    /// The same of a room's, which says behind which position of the room a connection goes on.
    pub fn reply_at(&mut self, (slot, room): (u32, u32), position: Option<Position>, write: impl FnOnce(&mut Vec<u8>)) {
        self.reply(slot, write);
        if let Some(position) = position {
            self.fanout.stands_at(&mut self.slots, slot, room, position);
        }
    }

    /// Refuses a command.
    pub fn refuse(&mut self, slot: u32, code: ErrorCode, reason: &str, id: Option<&CommandId>, room: Option<&str>) {
        self.metrics.command_errors += 1;
        self.journal.refused(self.slots.id(slot), code.as_str(), room);
        self.reply(slot, |out| reply::error(out, code, reason, id, room));
    }

    /// Where this turn's bytes to the connection alone go.
    pub fn stream(&mut self, slot: u32) -> &mut Vec<u8> {
        self.fanout.stream(&mut self.slots, slot)
    }
}
