//! What a client's commands do.

use super::Hub;
use super::asks::Kind;
use super::deferral::Deferral;
use crate::broker::envelope;
use crate::close::CloseReason;
use crate::config::{Config, PublishFormat};
use crate::context::Context;
use crate::fanout::Rest;
use crate::id::ConnId;
use crate::protocol::{CommandId, ErrorCode, reply};

/// In so few rooms of its own a connection's room is found quicker than among all.
const FEW_ROOMS: usize = 4;

impl Hub {
    /// The room of this name, which is most likely one that the connection is in.
    pub fn find_room(&self, cx: &Context, slot: u32, name: &str) -> Option<u32> {
        let own = cx.slots.get(slot).rooms.as_slice();
        for own in &own[..own.len().min(FEW_ROOMS)] {
            if *self.rooms.get(own.room).name == *name {
                return Some(own.room);
            }
        }
        self.rooms.find(name)
    }

    pub fn subscribe(&mut self, cx: &mut Context, slot: u32, name: &str, id: Option<CommandId>) {
        let known = self.rooms.find(name).and_then(|room| {
            let rooms = &cx.slots.get(slot).rooms;
            Some((room, rooms.as_slice()[rooms.position(room)?].place))
        });
        match known {
            Some((room, ..)) if self.joins.contains(slot, room) => {
                let reason = "an earlier SUBSCRIBE for this room still waits for the broker";
                cx.refuse(slot, ErrorCode::Pending, reason, id.as_ref(), Some(name));
            }
            // What it has yet to be given comes at its room's pace: it is a member already.
            Some((room, _)) if self.is_held(room) => cx.reply(slot, |out| reply::subscribed(out, name, id.as_ref())),
            Some((room, place)) => {
                cx.fanout.set_waiting(room, place, true);
                self.joins.insert(slot, room, id);
            }
            None => self.join(cx, slot, name, id),
        }
    }

    fn join(&mut self, cx: &mut Context, slot: u32, name: &str, id: Option<CommandId>) {
        let position = cx.slots.get(slot).rooms.len();
        if position >= usize::from(cx.config.limits.rooms_per_connection_max) {
            let reason = format!("a connection is in at most {position} rooms");
            return cx.refuse(slot, ErrorCode::TooManyRooms, &reason, id.as_ref(), Some(name));
        }
        let room = self.rooms.find_or_insert(name);
        let held = self.is_held(room);
        cx.fanout.add_room(room);
        cx.fanout.join(&mut cx.slots, slot, room, !held);
        if held {
            cx.journal.joined(cx.slots.id(slot), name);
            cx.reply(slot, |out| reply::subscribed(out, name, id.as_ref()));
        } else {
            self.joins.insert(slot, room, id);
            self.reconcile(cx, room);
        }
    }

    pub fn unsubscribe(&mut self, cx: &mut Context, slot: u32, name: &str, id: Option<CommandId>) {
        if let Some(room) = self.rooms.find(name)
            && let Some(position) = cx.slots.get(slot).rooms.position(room)
        {
            if let Some(waiting) = self.joins.get(slot, room).and_then(|join| join.id.clone()) {
                let reason = "undone by an UNSUBSCRIBE before the broker confirmed it";
                cx.refuse(slot, ErrorCode::Cancelled, reason, Some(&waiting), Some(name));
            }
            self.leave(cx, slot, position, Rest::Part);
            cx.journal.left(cx.slots.id(slot), name);
        }
        cx.reply(slot, |out| reply::unsubscribed(out, name, id.as_ref(), None));
    }

    /// Takes the connection out of the room at this position of its list.
    pub(super) fn leave(&mut self, cx: &mut Context, slot: u32, position: usize, rest: Rest) {
        let room = cx.slots.get(slot).rooms.as_slice()[position].room;
        self.end_join(cx, slot, room);
        cx.fanout.leave(&mut cx.slots, slot, position, rest);
        if cx.fanout.audience(room).is_empty() {
            self.linger(cx, room);
        }
    }

    /// Takes the connection out of all its rooms.
    pub fn depart(&mut self, cx: &mut Context, slot: u32, rest: Rest) {
        while let Some(last) = cx.slots.get(slot).rooms.len().checked_sub(1) {
            self.leave(cx, slot, last, rest);
        }
    }

    /// The room that a connection is in which can be in no other.
    pub fn only_room(&self, cx: &Context, slot: u32) -> Option<&str> {
        let membership = cx.slots.get(slot).rooms.as_slice().first()?;
        Some(&self.rooms.get(membership.room).name)
    }

    /// How many members the room has on this instance.
    pub fn members(&self, cx: &Context, slot: u32, room: &str) -> usize {
        self.find_room(cx, slot, room).map_or(0, |room| cx.fanout.audience(room).members())
    }

    /// Publishes a message.
    ///
    /// # Errors
    /// It cannot be, and the client's dialect has no word for that.
    pub fn publish(
        &mut self,
        cx: &mut Context,
        slot: u32,
        (room, message, echo): (&str, &str, bool),
        mut id: Option<CommandId>,
    ) -> Result<(), CloseReason<'static>> {
        cx.metrics.messages_in += 1;
        let conn = cx.slots.id(slot);
        let except = (!echo).then_some(conn);
        if !self.joins.is_empty()
            && let Some(waited_for) = self.room_waited_for(cx, slot, room)
        {
            match self.defer(cx, (slot, waited_for), (message, except), id)? {
                Deferral::AtOnce(at_once) => id = at_once,
                Deferral::Settled => return Ok(()),
            }
        }
        let publish = id.map(|id| self.senders.push(conn, id, cx.now));
        self.asks.push(Kind::Publish(publish), room, |out| cx.config.write_publish(out, room, message, except));
        Ok(())
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
