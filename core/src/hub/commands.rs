//! What a client's commands do.

use crate::broker::envelope;
use crate::config::{Config, PublishFormat};
use crate::core::Core;
use crate::fanout::place::Seat;
use crate::hub::asks::Kind;
use crate::id::ConnId;
use crate::limits::meter::Limit;
use crate::protocol::{CommandId, ErrorCode, reply};
use crate::slots::Membership;
use crate::ws::encode;
use std::time::Duration;

/// In so few rooms of its own a connection's room is found quicker than among all.
const FEW_ROOMS: usize = 4;

/// Close code for a client that keeps sending what is no command: in the range that means "do not reconnect".
const TOO_MANY_ERRORS: u16 = 4509;

const MINUTE_US: u128 = 60_000_000;

impl Core {
    /// What is well-formed forgives a malformed one.
    pub(crate) fn forgive(&mut self, slot: u32) {
        if self.conns.get(slot).errors > 0 {
            self.forgive_some(slot, 1);
        }
    }

    fn forgive_some(&mut self, slot: u32, errors: u64) {
        let conn = self.conns.get_mut(slot);
        conn.errors = u16::try_from(errors).map_or(0, |errors| conn.errors.saturating_sub(errors));
        if conn.errors == 0 {
            self.erring.remove(&slot);
        }
    }

    /// Forgives what time makes good for: one error for each full share of a minute since the first that is not forgiven.
    fn forgive_by_time(&mut self, slot: u32) {
        let Some(until) = self.erring.get_mut(&slot) else { return };
        let per_minute = u64::from(self.config.errors_per_minute);
        let micros = self.now.since(*until).as_micros() as u64;
        let errors = u64::try_from(u128::from(micros) * u128::from(per_minute) / MINUTE_US).unwrap_or(u64::MAX);
        if errors > 0 {
            *until = *until + Duration::from_micros((u128::from(errors) * MINUTE_US / u128::from(per_minute)) as u64);
            self.forgive_some(slot, errors);
        }
    }

    /// Counts an error that is the client's. Returns whether that is one too many.
    fn count_error(&mut self, slot: u32) -> bool {
        self.forgive_by_time(slot);
        let conn = self.conns.get_mut(slot);
        if conn.errors >= self.config.errors_max {
            return true;
        }
        conn.errors += 1;
        if conn.errors == 1 {
            self.erring.insert(slot, self.now);
        }
        false
    }

    /// The room of this name, which is most likely one that the connection is in.
    pub(crate) fn find_room(&self, slot: u32, name: &str) -> Option<u32> {
        let own = self.conns.get(slot).rooms.as_slice();
        for own in &own[..own.len().min(FEW_ROOMS)] {
            if *self.rooms.get(own.room).name == *name {
                return Some(own.room);
            }
        }
        self.rooms.find(name)
    }

    pub(crate) fn pong(&mut self, slot: u32, id: Option<&CommandId>) {
        self.reply(slot, |out| reply::pong(out, id));
    }

    /// Sends one text of the server's, where the dialect has any.
    pub(crate) fn reply(&mut self, slot: u32, write: impl FnOnce(&mut Vec<u8>)) {
        if !self.conns.get(slot).dialect.has_replies() {
            return;
        }
        self.scratch.clear();
        write(&mut self.scratch);
        self.surplus_bytes += self.scratch.len();
        encode::text(self.streams.of(&mut self.conns, slot), &self.scratch);
    }

    pub(crate) fn error(
        &mut self,
        slot: u32,
        code: ErrorCode,
        reason: &str,
        id: Option<&CommandId>,
        room: Option<&str>,
    ) {
        self.metrics.command_errors += 1;
        self.journal.refused(self.conns.id(slot), code.as_str(), room);
        self.reply(slot, |out| reply::error(out, code, reason, id, room));
        if (code.is_malformed() || code == ErrorCode::TooFast) && self.count_error(slot) {
            match code {
                ErrorCode::TooFast => self.close_too_fast(slot, Limit::Messages),
                _ => self.close(slot, TOO_MANY_ERRORS, "too many malformed commands"),
            }
        }
    }

    /// Refuses what is beyond a rate, where that can be told; nothing may be lost silently.
    pub(crate) fn refuse_too_fast(
        &mut self,
        slot: u32,
        limit: Limit,
        reason: &str,
        id: Option<&CommandId>,
        room: Option<&str>,
    ) {
        if self.conns.get(slot).dialect.has_replies() {
            self.error(slot, ErrorCode::TooFast, reason, id, room);
        } else {
            self.close_too_fast(slot, limit);
        }
    }

    pub(crate) fn subscribe(&mut self, slot: u32, name: &str, id: Option<CommandId>) {
        let known = self.rooms.find(name).and_then(|room| {
            let position = self.conns.get(slot).rooms.position(room)?;
            Some((room, position, self.conns.get(slot).rooms.as_slice()[position].place))
        });
        match known {
            Some((room, ..)) if self.joins.contains(slot, room) => {
                let reason = "an earlier SUBSCRIBE for this room still waits for the broker";
                self.error(slot, ErrorCode::Pending, reason, id.as_ref(), Some(name));
            }
            Some((room, _, place)) if self.is_held(room) => {
                self.catch_up(slot, room, place);
                self.reply(slot, |out| reply::subscribed(out, name, id.as_ref()));
            }
            Some((room, position, place)) => {
                let group = self.rooms.get_mut(room).group_at_mut(place.group());
                group.set_seat(place.index(), Seat::new(position, true));
                self.joins.insert(slot, room, id);
            }
            None => self.join(slot, name, id),
        }
    }

    pub(crate) fn join(&mut self, slot: u32, name: &str, id: Option<CommandId>) {
        let position = self.conns.get(slot).rooms.len();
        if position >= usize::from(self.config.rooms_per_connection_max) {
            let reason = format!("a connection is in at most {position} rooms");
            return self.error(slot, ErrorCode::TooManyRooms, &reason, id.as_ref(), Some(name));
        }
        let room = self.rooms.find_or_insert(name);
        let held = self.is_held(room);
        let (conn, form) = (self.conns.id(slot), self.conns.get(slot).form());
        let place = self.rooms.join(room, form, conn, Seat::new(position, !held), &mut self.runs);
        self.conns.enter_room(slot, Membership { room, place });
        if held {
            self.journal.joined(conn, name);
            self.reply(slot, |out| reply::subscribed(out, name, id.as_ref()));
        } else {
            self.joins.insert(slot, room, id);
            self.reconcile(room);
        }
    }

    pub(crate) fn unsubscribe(&mut self, slot: u32, name: &str, id: Option<CommandId>) {
        if let Some(room) = self.rooms.find(name)
            && let Some(position) = self.conns.get(slot).rooms.position(room)
        {
            if let Some(waiting) = self.joins.get(slot, room).and_then(|join| join.id.clone()) {
                let reason = "undone by an UNSUBSCRIBE before the broker confirmed it";
                self.error(slot, ErrorCode::Cancelled, reason, Some(&waiting), Some(name));
            }
            self.leave(slot, position);
            self.journal.left(self.conns.id(slot), name);
        }
        self.reply(slot, |out| reply::unsubscribed(out, name, id.as_ref(), None));
    }

    /// Takes the connection out of the room at this place of its list.
    pub(crate) fn leave(&mut self, slot: u32, position: usize) {
        let left = self.conns.leave_room(slot, position);
        let conn = self.conns.get(slot);
        if let Some(moved) = conn.rooms.as_slice().get(position) {
            let group = self.rooms.get_mut(moved.room).group_at_mut(moved.place.group());
            let index = moved.place.index();
            group.set_seat(index, Seat::new(position, group.seat(index).is_waiting()));
        }
        self.leave_room(slot, left, true);
    }

    /// Takes the connection out of all its rooms; with `deliver` it still gets its part of this turn's messages.
    pub(crate) fn depart(&mut self, slot: u32, deliver: bool) {
        while let Some(last) = self.conns.get(slot).rooms.len().checked_sub(1) {
            let left = self.conns.leave_room(slot, last);
            self.leave_room(slot, left, deliver);
        }
    }

    fn leave_room(&mut self, slot: u32, left: Membership, deliver: bool) {
        let Membership { room, place } = left;
        self.end_join(slot, room);
        let run = self.rooms.get(room).group_at(place.group()).run;
        let conns = &mut self.conns;
        let part = self.rooms.leave(room, place, &mut self.runs, |conn, seat, place| {
            conns.get_mut(conn.slot() as u32).rooms.set_place(seat.list_position(), place);
        });
        if deliver {
            self.streams.add_part(&mut self.conns, slot, run, part);
        }
        if self.rooms.get(room).is_empty() {
            self.linger(room);
        }
    }

    pub(crate) fn send_message(&mut self, slot: u32, room: &str, message: &str, echo: bool, id: Option<CommandId>) {
        if !self.charge_deliveries(slot, room, message.len()) {
            let reason = "more deliveries a second than the messages of a connection may make";
            return self.refuse_too_fast(slot, Limit::Deliveries, reason, id.as_ref(), Some(room));
        }
        self.metrics.messages_in += 1;
        let conn = self.conns.id(slot);
        let except = (!echo).then_some(conn);
        let mut id = id;
        if !self.joins.is_empty()
            && let Some(waited_for) = self.room_waited_for(slot, room)
        {
            match self.defer((slot, waited_for), message, except, id) {
                Some(at_once) => id = at_once,
                None => return,
            }
        }
        let publish = id.map(|id| self.senders.push(conn, id, self.now));
        let Self { config, asks, .. } = self;
        asks.push(Kind::Publish(publish), room, |out| config.write_publish(out, room, message, except));
    }
}

impl Config {
    /// Appends what is published of a message; the connection `except` does not get it.
    #[inline]
    pub(super) fn write_publish(&self, out: &mut Vec<u8>, room: &str, message: &str, except: Option<ConnId>) {
        match self.publish_format {
            PublishFormat::Fanfare => {
                envelope::write_header(out, self.node, except);
                reply::message(out, room, message);
            }
            PublishFormat::Classic => {
                let except = except.map(|conn| envelope::except_text(self.node, conn));
                reply::classic(out, room, message, except.as_deref());
            }
        }
    }
}
