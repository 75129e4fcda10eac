//! How connections end.

use super::Transport;
use super::pending::Pending;
use crate::close::{CloseReason, Then};
use crate::context::Context;
use crate::hash::take_of;
use crate::id::ConnId;
use crate::slots::{Ending, Phase, mark};
use crate::sse;
use crate::ws::decoder::Decoder;
use crate::ws::encode;

/// How a connection's socket ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Shutdown(ConnId),
    Close(ConnId),
}

impl Transport {
    /// Ends a WebSocket that is open and has left its rooms: by a close frame, after all that goes to it alone so far, and by what
    /// follows that. An event stream ends by an event, and its client has nothing to say to that.
    pub fn close(&mut self, cx: &mut Context, slot: u32, reason: CloseReason<'_>) {
        let is_events = cx.slots.get(slot).framing.is_events();
        match reason {
            CloseReason::TooSlow => return self.close_slow(cx, slot, reason),
            CloseReason::Silent if cx.slots.is_marked(slot, mark::LAGGING) => {
                // Nobody reads what is before it.
                self.discard(cx, slot);
                return self.end_now(cx, slot);
            }
            _ if is_events => sse::closed(cx.stream(slot), reason.code(), reason.told()),
            _ => encode::close(cx.stream(slot), reason.code(), reason.told()),
        }
        match reason.then() {
            Then::AwaitClient if is_events => self.discard(cx, slot),
            Then::AwaitClient => self.await_close(cx, slot),
            Then::HalfClose => self.discard(cx, slot),
            Then::Close => {
                self.discard(cx, slot);
                self.end_when_written(cx, slot, Ending::Close);
            }
        }
    }

    /// The same for one that does not read: what is queued is cut to the rest of the frame that it is in.
    fn close_slow(&mut self, cx: &mut Context, slot: u32, reason: CloseReason<'_>) {
        if !cx.slots.is_marked(slot, mark::TORN) {
            let mut last = Vec::new();
            let is_events = cx.slots.get(slot).framing.is_events();
            match is_events {
                true => sse::closed(&mut last, reason.code(), reason.told()),
                false => encode::close(&mut last, reason.code(), reason.told()),
            }
            if cx.fanout.cut_queue(&mut cx.slots, slot, &last) {
                return if is_events { self.discard(cx, slot) } else { self.await_close(cx, slot) };
            }
        }
        // It keeps its marks until the slot is free: nothing is sent to it any more.
        self.give_up(cx, slot);
    }

    /// A close frame is on its way: waits for the peer's, but not for ever.
    fn await_close(&mut self, cx: &mut Context, slot: u32) {
        self.enter_phase(cx, slot, Phase::Closing);
        self.wheel.set(slot, cx.now + cx.config.timeouts.close);
    }

    /// The peer's close frame, which was waited for.
    pub fn closed_by_both(&mut self, cx: &mut Context, slot: u32) {
        self.enter_phase(cx, slot, Phase::Discarding);
        self.end_when_written(cx, slot, Ending::Close);
    }

    /// The peer has ended its side, or the socket is broken. Its rooms must have been given up before.
    pub fn hang_up(&mut self, cx: &mut Context, slot: u32) {
        self.discard(cx, slot);
        self.end_now(cx, slot);
    }

    /// Reads no more of what the peer sends, and half-closes when everything is written.
    pub fn discard(&mut self, cx: &mut Context, slot: u32) {
        let was_pending = Pending::includes(cx.slots.get(slot).phase);
        self.enter_phase(cx, slot, if was_pending { Phase::Refused } else { Phase::Discarding });
        take_of(&mut self.heads, slot);
        cx.slots.get_mut(slot).decoder = Decoder::default();
        self.wheel.set(slot, cx.now + cx.config.timeouts.close);
        self.end_when_written(cx, slot, Ending::Shutdown);
    }

    /// Ends the connection in this way once everything queued for it has been written.
    pub fn end_when_written(&mut self, cx: &mut Context, slot: u32, ending: Ending) {
        cx.slots.get_mut(slot).ending = ending;
        self.touched.push(slot);
    }

    /// Ends the connection in this turn, written or not. Nothing more is sent: it could follow half a frame.
    pub fn end_now(&mut self, cx: &mut Context, slot: u32) {
        cx.fanout.silence(&mut cx.slots, slot);
        self.end_when_written(cx, slot, Ending::Close);
    }

    /// Gives up on a connection whose time to end by itself is over.
    pub(super) fn give_up(&mut self, cx: &mut Context, slot: u32) {
        self.enter_phase(cx, slot, Phase::Discarding);
        self.end_now(cx, slot);
    }

    /// The turn's writing is over: takes in the slots whose queues have been written to their end.
    pub fn end_writing(&mut self) -> &mut Vec<u32> {
        self.inflater.settle();
        &mut self.touched
    }

    /// The turn is over: those who are to end when all is written, and have nothing more to be written, end.
    pub fn end_the_written(&mut self, cx: &mut Context) {
        let mut touched = std::mem::take(&mut self.touched);
        for slot in touched.drain(..) {
            self.end_if_written(cx, slot);
        }
        self.touched = touched;
    }

    fn end_if_written(&mut self, cx: &mut Context, slot: u32) {
        let id = cx.slots.id(slot);
        let lags = cx.slots.is_marked(slot, mark::LAGGING);
        let conn = cx.slots.get_mut(slot);
        if lags || matches!(conn.phase, Phase::Free | Phase::Ended) {
            return;
        }
        match std::mem::replace(&mut conn.ending, Ending::None) {
            Ending::None => {}
            // Its close frame is the last message there is; a FIN is for those who hold the socket.
            Ending::Shutdown if conn.by_message => {}
            Ending::Shutdown => {
                debug_assert!(matches!(conn.phase, Phase::Refused | Phase::Discarding));
                self.ends.push(End::Shutdown(id));
            }
            Ending::Close => {
                self.enter_phase(cx, slot, Phase::Ended);
                self.ends.push(End::Close(id));
            }
        }
    }

    /// What the adapter has to be told of sockets.
    pub fn ends(&self) -> &[End] {
        &self.ends
    }

    /// Frees the slots of the first `done` endings, which the adapter has carried out.
    pub fn forget_ended(&mut self, cx: &mut Context, done: usize) {
        for index in 0..done {
            if let End::Close(conn) = self.ends[index]
                && let Some(slot) = cx.slots.slot(conn)
            {
                self.free(cx, slot);
            }
        }
        self.ends.drain(..done);
    }
}
