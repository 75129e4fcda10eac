//! The heartbeat and the other deadlines of connections.

use super::Transport;
use crate::context::Context;
use crate::id::ConnId;
use crate::slots::{Conn, Phase, fine, mark};
use crate::sse;
use crate::time::Time;
use crate::ws::encode;
use crate::ws::handshake::Response;
use std::time::Duration;

/// How many deadlines a turn acts upon. Each may be a write to a socket: a millisecond's work in all.
const TIMERS_PER_TURN: usize = 256;
/// When a deadline is over and bytes of the client have yet to be read, it is judged again after so long.
const UNREAD_RECHECK: Duration = Duration::from_millis(50);

impl Transport {
    /// A turn begins at this time.
    pub fn begin_turn(&mut self, now: Time) {
        if self.wheel.is_empty() {
            // Nothing fires; but the wheel's present may be far behind, in the first turn by all that the clock shows.
            self.wheel.expire(now, &mut self.fired, 0);
        }
    }

    /// When it has something to do at the latest.
    pub fn next_timeout(&self, cx: &Context) -> Option<Time> {
        let usual = self.wheel.next();
        match self.unread.is_empty() && self.unfinished.is_empty() {
            true => usual,
            false => usual.into_iter().chain(self.unusual_timeout(cx)).min(),
        }
    }

    /// The deadlines that there are only now and then.
    fn unusual_timeout(&self, cx: &Context) -> Option<Time> {
        let unread = (!self.unread.is_empty()).then(|| match cx.limits.strain().is_over(cx.now) {
            true => cx.limits.strain().over_until(cx.now),
            false => Time::ZERO,
        });
        unread.into_iter().chain(self.unfinished_until(cx)).min()
    }

    /// Lets the timers of this turn fire.
    pub fn fire(&mut self, now: Time) {
        self.wheel.expire(now, &mut self.fired, TIMERS_PER_TURN);
        // To be taken from the end.
        self.fired.reverse();
    }

    /// Acts upon the timers that have fired, until one shows a WebSocket that gives no sign of life; returns its slot. `has_unread` tells
    /// whether the adapter has bytes of a connection that were not read.
    pub fn next_silent(&mut self, cx: &mut Context, has_unread: &mut dyn FnMut(ConnId) -> bool) -> Option<u32> {
        while let Some(slot) = self.fired.pop() {
            if self.timer(cx, slot, has_unread) {
                return Some(slot);
            }
        }
        None
    }

    /// A connection's timer has fired. Whether it is a WebSocket that gives no sign of life.
    fn timer(&mut self, cx: &mut Context, slot: u32, has_unread: &mut dyn FnMut(ConnId) -> bool) -> bool {
        let Conn { phase, pinged, .. } = *cx.slots.get(slot);
        let is_judged = phase == Phase::Head || phase == Phase::Open && pinged;
        if is_judged && (self.unread.has(slot) || has_unread(cx.slots.id(slot))) {
            self.wheel.set(slot, cx.now + UNREAD_RECHECK);
            return false;
        }
        match phase {
            Phase::Head => {
                cx.metrics.upgrades_timed_out += 1;
                let is_held = !self.held.is_empty() && self.held.contains_key(&slot);
                let response = if is_held { Response::UNVERIFIED } else { Response::TIMED_OUT };
                self.respond(cx, slot, response, false);
            }
            Phase::Open if pinged => return true,
            Phase::Open => self.heartbeat(cx, slot),
            Phase::Refused | Phase::Closing | Phase::Discarding => self.give_up(cx, slot),
            Phase::Backend | Phase::Ended | Phase::Free => {}
        }
        false
    }

    /// Pings a WebSocket that has been silent for as long, and else waits until it has been. The client of an event stream says nothing:
    /// the comment is for it and for proxies between, and to one that is gone it cannot be sent for ever.
    fn heartbeat(&mut self, cx: &mut Context, slot: u32) {
        if cx.slots.get(slot).framing.is_events() {
            if !cx.slots.is_marked(slot, mark::LAGGING) {
                sse::comment(cx.stream(slot));
            }
            return self.wheel.set(slot, cx.now + cx.config.timeouts.ping_interval);
        }
        let conn = cx.slots.get_mut(slot);
        let ping_at = fine(conn.last_seen, cx.now) + cx.config.timeouts.ping_interval;
        if ping_at <= cx.now {
            conn.pinged = true;
            encode::ping(cx.stream(slot));
            self.wheel.set(slot, cx.now + cx.config.timeouts.pong_timeout);
        } else {
            self.wheel.set(slot, ping_at);
        }
    }
}
