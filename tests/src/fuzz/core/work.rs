//! What a turn has been given to do, and what it has done: no more than its bounds. And floods of messages that make much work.

use crate::work::Bounds;
use crate::{COMPRESSED, Frame, deflated, opcode};
use fanfare_core::Core;

/// Connections that are open at the same time, at most, and so members of a room and who waits for one.
const CONNECTIONS_MAX: usize = 8;
/// Rooms that each may be in.
const ROOMS_MAX: usize = 3;

#[derive(Debug)]
pub(super) struct TurnWork {
    bounds: Bounds,
    looks: usize,
    /// Of the looks: what was fed in this turn, and since something is kept unread.
    bytes: usize,
    /// Messages of the broker, and their bytes.
    reports: usize,
    reported: usize,
    /// Bytes that had not been written before.
    unsent: usize,
    published: usize,
    said: usize,
    /// Something was deferred before this turn, or the one before it.
    deferred: [bool; 2],
    /// This turn does what an earlier one has left, or looks at all that was kept of one that has gone.
    is_free: bool,
    /// The adapter has left actions for the next turn.
    is_left: bool,
}

impl TurnWork {
    pub fn new(bounds: Bounds) -> TurnWork {
        TurnWork {
            bounds,
            looks: 0,
            bytes: 0,
            reports: 0,
            reported: 0,
            unsent: 0,
            published: 0,
            said: 0,
            deferred: [false; 2],
            is_free: false,
            is_left: false,
        }
    }

    pub fn begin(&mut self, core: &Core) {
        let metrics = core.metrics();
        // What is deferred in the turn in which its connection's socket fails is asked for in the next.
        self.deferred = [metrics.publishes_deferred_now > 0, self.deferred[0] || self.looks > 0];
        self.unsent = metrics.unsent_bytes_now as usize;
        (self.looks, self.reports, self.reported) = (0, 0, 0);
        (self.published, self.said) = (0, 0);
        self.is_free = self.is_left;
    }

    /// Bytes are fed, or those that are kept have their turn.
    pub fn looks(&mut self, bytes: usize) {
        self.looks += 1;
        self.bytes += bytes;
    }

    /// A connection goes; what is kept of it is looked at to its end.
    pub fn closes(&mut self, keeps_unread: bool) {
        self.is_free |= keeps_unread;
    }

    pub fn reports(&mut self, bytes: usize) {
        self.reports += 1;
        self.reported += bytes;
    }

    pub fn published(&mut self, bytes: usize) {
        self.published += bytes;
    }

    pub fn said(&mut self, bytes: usize) {
        self.said += bytes;
    }

    /// The turn is over; with `is_left` not all of its actions have been carried out.
    pub fn end(&mut self, core: &Core, is_left: bool) {
        let asked = self.bounds.said(self.looks, self.bytes);
        if !self.is_free {
            let deferred = if self.deferred.contains(&true) { self.bounds.deferred() } else { 0 };
            assert!(self.published <= asked + deferred, "too much is published: {self:?}");
            // Words to everybody, of a broker that goes or of the server that stops, and to all who wait for rooms; what waited to be
            // written; and what the broker has reported, as JSON, to every member.
            let words = CONNECTIONS_MAX * (ROOMS_MAX + 2) * self.bounds.reply();
            let given = CONNECTIONS_MAX * self.bounds.reports(self.reports, self.reported);
            let said = asked + self.looks * self.bounds.reply() + words + self.unsent + given + deferred;
            assert!(self.said <= said, "too much is said, at most {said}: {self:?}");
        }
        self.is_left = is_left;
        if !core.has_unread() {
            self.bytes = 0;
        }
    }
}

/// Up to 128 messages of one of four kinds, by the upper bits.
pub(super) fn flood(choice: u8) -> Vec<u8> {
    let times = 2 * usize::from(choice & 0x3f) + 2;
    let compressed = |text: String| Frame::text(deflated(text)).with_rsv(COMPRESSED).masked();
    let message = match choice >> 6 {
        0 => compressed(format!(r#"{{"type":"PING"{}}}"#, " ".repeat(280))),
        1 => compressed(format!(r#"{{"type":"SEND_MESSAGE","room":"r1","message":"{}"}}"#, "x".repeat(240))),
        2 => Frame::text("\u{1}".repeat(100)).masked(),
        _ => Frame::new(opcode::TEXT, "ping").masked(),
    };
    message.repeat(times)
}
