//! A WebSocket's bytes to messages. Also what is kept: bytes that were not looked at, and messages that are not whole.

use super::Transport;
use crate::context::Context;
use crate::error::Violation;
use crate::id::ConnId;
use crate::limits::meter::Limit;
use crate::slots::{Phase, Slots};
use crate::time::Time;
use crate::ws::decoder::{Decoded, Decoder, Limits};
use crate::ws::deflate::Inflater;

/// A connection's bytes are looked at until they have made this many bytes of work beyond themselves. By default that is one
/// message of the largest kind, less than half a millisecond's work.
const SURPLUS_BYTES_PER_STEP: usize = 32 * 1024;

/// Whether frames of the connection are read.
pub(super) fn reads_frames(slots: &Slots, slot: u32) -> bool {
    matches!(slots.get(slot).phase, Phase::Open | Phase::Closing)
}

/// One connection whose frames are read. Its decoder is out of the record meanwhile, for messages borrow from it.
#[derive(Debug)]
pub(crate) struct Reading {
    slot: u32,
    decoder: Decoder,
    inflater: Inflater,
    limits: Limits,
    /// How many bytes have been looked at.
    at: usize,
    /// Whatever was unfinished before is whole, or nothing was.
    has_ended: bool,
}

impl Reading {
    /// What is next in these bytes; `None` when all have been looked at, or when the reading has ended. What came before ends it by
    /// closing the connection, or by so much work that others have their turn.
    #[inline]
    pub fn next<'a>(
        &'a mut self,
        cx: &mut Context,
        data: &'a mut [u8],
    ) -> Option<Result<Option<Decoded<'a>>, Violation>> {
        if self.limits.compression {
            cx.limits.owe(self.inflater.take_surplus());
        }
        self.has_ended |= self.decoder.is_between_messages();
        let is_over = self.at >= data.len() || cx.limits.owed() >= SURPLUS_BYTES_PER_STEP;
        if is_over || !reads_frames(&cx.slots, self.slot) {
            return None;
        }
        Some(self.decoder.next(&mut data[self.at..], self.limits, &mut self.inflater).map(|(taken, decoded)| {
            self.at += taken;
            decoded
        }))
    }
}

impl Transport {
    /// Charges a WebSocket for what it sent, and keeps the bytes where others of it have yet to be looked at. Whether they are to be
    /// looked at now.
    ///
    /// # Errors
    /// It sent too much, so that it has to be ended, and what it sent is not looked at.
    pub fn admit(&mut self, cx: &mut Context, slot: u32, data: &[u8]) -> Result<bool, Limit> {
        self.charge_bytes(cx, slot, data.len())?;
        if self.unread.has(slot) {
            self.unread.keep(cx.slots.id(slot), data);
            return Ok(false);
        }
        Ok(true)
    }

    /// Charges a WebSocket for this many bytes.
    ///
    /// # Errors
    /// They are too many.
    pub fn charge_bytes(&mut self, cx: &mut Context, slot: u32, bytes: usize) -> Result<(), Limit> {
        match cx.limits.charge(&mut cx.slots, slot, Limit::Bytes, bytes, cx.now) {
            true => Ok(()),
            false => Err(Limit::Bytes),
        }
    }

    /// Begins to look at frames.
    pub fn read(&mut self, cx: &mut Context, slot: u32) -> Reading {
        cx.limits.forget_owed();
        let conn = cx.slots.get_mut(slot);
        Reading {
            slot,
            limits: Limits {
                message_bytes_max: cx.config.limits.message_bytes_max,
                frames_per_message_max: cx.config.limits.frames_per_message_max,
                compression: conn.framing.window().is_some(),
            },
            decoder: std::mem::take(&mut conn.decoder),
            inflater: std::mem::take(&mut self.inflater),
            at: 0,
            has_ended: false,
        }
    }

    /// The same bytes have been looked at, or some of them: the rest is kept, and so is the beginning of a message.
    ///
    /// # Errors
    /// What they made is too much, so that the connection has to be ended. It has been acted upon, so nothing is lost.
    pub fn stop_reading(&mut self, cx: &mut Context, reading: Reading, data: &[u8]) -> Result<(), Limit> {
        let Reading { slot, mut decoder, inflater, at, has_ended, .. } = reading;
        self.inflater = inflater;
        let charged = self.charge_owed(cx, slot);
        if charged.is_ok() && reads_frames(&cx.slots, slot) {
            decoder.settle();
            let held_bytes = decoder.held_bytes();
            cx.slots.get_mut(slot).decoder = decoder;
            if has_ended {
                // What is unfinished now is another message, which has its own time.
                self.unfinished.forget(slot);
            }
            if held_bytes > 0 {
                self.unfinished.hold(cx.slots.id(slot), held_bytes, cx.now);
            }
            if at < data.len() {
                self.unread.keep(cx.slots.id(slot), &data[at..]);
            }
        }
        charged
    }

    /// Charges a WebSocket for the work that its messages made beyond their bytes.
    ///
    /// # Errors
    /// It is too much.
    pub fn charge_owed(&mut self, cx: &mut Context, slot: u32) -> Result<(), Limit> {
        let bytes = cx.limits.take_owed(cx.now);
        if bytes == 0 || !reads_frames(&cx.slots, slot) {
            return Ok(());
        }
        self.charge_bytes(cx, slot, bytes)
    }

    /// Takes the bytes of the connection whose turn it is to have those looked at that were kept.
    pub fn next_unread(&mut self, cx: &mut Context) -> Option<(u32, Vec<u8>)> {
        if self.unread.is_empty() || cx.limits.strain().is_over(cx.now) {
            return None;
        }
        let slots = &cx.slots;
        let slot = self.unread.next(|conn| slots.slot(conn).is_some())?.slot() as u32;
        Some((slot, self.take_unread(cx, slot)?))
    }

    /// Takes this connection's.
    pub fn take_unread(&mut self, cx: &mut Context, slot: u32) -> Option<Vec<u8>> {
        let kept = self.unread.take(slot)?;
        cx.limits.resume_event();
        Some(kept)
    }

    /// Whether bytes of this connection are kept that have not been looked at.
    pub fn keeps_unread_of(&self, slot: u32) -> bool {
        self.unread.has(slot)
    }

    /// Whether there are such bytes of anybody.
    pub fn keeps_unread(&self) -> bool {
        !self.unread.is_empty()
    }

    /// The connection whose unfinished message has to go, if all together hold too much.
    pub fn next_excess(&mut self, cx: &Context) -> Option<u32> {
        while self.unfinished.bytes() > cx.config.limits.unfinished_total_bytes_max {
            let oldest = self.unfinished.pop()?;
            if let Some(slot) = cx.slots.slot(oldest) {
                return Some(slot);
            }
        }
        None
    }

    /// The next connection whose message has not become whole in time.
    pub fn next_unfinished(&mut self, cx: &Context, has_unread: &mut dyn FnMut(ConnId) -> bool) -> Option<u32> {
        while let Some(conn) = self.unfinished.pop_older(cx.config.timeouts.message, cx.now) {
            if self.unread.has(conn.slot() as u32) || has_unread(conn) {
                // How it goes on is known when these have been read.
                self.unfinished.begin_again(conn, cx.now);
            } else if let Some(slot) = cx.slots.slot(conn) {
                return Some(slot);
            }
        }
        None
    }

    /// When the first message will have been unfinished for too long, at the earliest; `None` if there is none.
    pub(super) fn unfinished_until(&self, cx: &Context) -> Option<Time> {
        self.unfinished.next(cx.config.timeouts.message)
    }
}
