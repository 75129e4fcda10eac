//! What a client's commands do.

use super::Hub;
use super::asks::{KEYS_MAX, Kind, Sender};
use super::deferral::Deferral;
use super::publication::Publication;
use crate::broker::{Store, envelope};
use crate::close::CloseReason;
use crate::config::{Config, PublishFormat};
use crate::context::Context;
use crate::fanout::Rest;
use crate::fanout::place::MEMBERSHIPS_MAX;
use crate::history::{IdempotencyKey, Remove};
use crate::protocol::command::Start;
use crate::protocol::{CommandId, ErrorCode, reply};
use crate::rules::{Rule, Slow};

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

    /// The connection joins a room; `beside_own` says whether it may be in one room more than others, `presence` whether it is told who is
    /// there.
    ///
    /// # Errors
    /// The room is full, and the client's dialect has no word for that.
    pub fn subscribe(
        &mut self,
        cx: &mut Context,
        slot: u32,
        (name, beside_own): (&str, bool),
        (start, presence): (Start, bool),
        id: Option<CommandId>,
    ) -> Result<(), CloseReason<'static>> {
        if presence && !self.has_presence(cx, slot, name, id.as_ref()) {
            return Ok(());
        }
        let known = self.rooms.find(name).and_then(|room| {
            let rooms = &cx.slots.get(slot).rooms;
            Some((room, rooms.as_slice()[rooms.position(room)?].place))
        });
        match known {
            Some((room, ..)) if self.joins.contains(slot, room) || self.histories.asking(slot, room).is_some() => {
                let reason = "an earlier SUBSCRIBE for this room still waits for the broker";
                cx.refuse(slot, ErrorCode::Pending, reason, id.as_ref(), Some(name));
                return Ok(());
            }
            // What it has yet to be given comes at its room's pace: it is a member already.
            Some((room, place)) if self.is_open(room) => {
                // Where it is cannot be said before it has been given all up to there.
                let has_all = self.histories.has(room) && cx.fanout.try_catch_up(&mut cx.slots, slot, room, place);
                let place = self.place_of(slot, room).filter(|_| has_all);
                cx.reply_at((slot, room), place, |out| reply::subscribed(out, name, id.as_ref(), place, None));
            }
            Some((room, place)) => {
                cx.fanout.set_waiting(room, place, true);
                self.joins.insert(slot, room, Start::Live, id);
            }
            None if !self.join(cx, slot, (name, beside_own), start, id)? => return Ok(()),
            None => {}
        }
        if presence {
            self.observe(cx, slot, name);
        }
        Ok(())
    }

    /// Whether it has become a member, or waits to.
    fn join(
        &mut self,
        cx: &mut Context,
        slot: u32,
        (name, beside_own): (&str, bool),
        start: Start,
        id: Option<CommandId>,
    ) -> Result<bool, CloseReason<'static>> {
        let most = cx.config.limits.rooms_per_connection_max;
        let rooms = self.rooms_of(cx, slot);
        if rooms >= usize::from(most) + usize::from(beside_own) || cx.slots.get(slot).rooms.len() >= MEMBERSHIPS_MAX {
            let beside = if beside_own { ", beside its user's own" } else { "" };
            let reason = format!("a connection is in at most {most} rooms{beside}");
            cx.refuse(slot, ErrorCode::TooManyRooms, &reason, id.as_ref(), Some(name));
            return Ok(false);
        }
        let room = self.rooms.find_or_insert(name, &cx.config.rules);
        let rule = self.rule(cx, room);
        let (slow, members_max) = rule.map_or((Slow::Close, 0), |rule| (rule.slow, rule.members_max));
        cx.fanout.add_room(room, slow);
        // A room that is full has members, so it is not one that was made just now.
        if members_max > 0 && cx.fanout.audience(room).members() >= members_max as usize {
            return refuse_member(cx, slot, (name, members_max), id.as_ref()).map(|()| false);
        }
        let is_kept = self.retention(cx, room).is_some();
        if is_kept {
            self.histories.keep(room);
        }
        if cx.fanout.audience(room).is_empty()
            && let Some(hook) = self.rule(cx, room).and_then(|rule| rule.occupancy.clone())
        {
            cx.notices.occupied(hook, name);
        }
        let is_open = self.is_open(room);
        cx.fanout.join(&mut cx.slots, slot, room, !is_open, is_kept);
        self.note_member(cx, slot, room);
        cx.limits.quotas_mut().join(slot, room);
        if is_open {
            cx.journal.joined(cx.slots.id(slot), name);
            self.begin(cx, slot, room, start, id);
        } else {
            self.joins.insert(slot, room, start, id);
            self.reconcile(cx, room);
        }
        Ok(true)
    }

    pub fn unsubscribe(&mut self, cx: &mut Context, slot: u32, name: &str, id: Option<CommandId>) {
        if let Some(room) = self.rooms.find(name)
            && let Some(position) = cx.slots.get(slot).rooms.position(room)
        {
            let waiting = self.joins.get(slot, room).map(|join| &join.id).or_else(|| self.histories.asking(slot, room));
            if let Some(waiting) = waiting.and_then(Clone::clone) {
                let reason = "undone by an UNSUBSCRIBE before the broker confirmed it";
                cx.refuse(slot, ErrorCode::Cancelled, reason, Some(&waiting), Some(name));
            }
            self.leave(cx, slot, position, Rest::Part);
            cx.journal.left(cx.slots.id(slot), name);
        }
        cx.reply(slot, |out| reply::unsubscribed(out, name, id.as_ref(), None));
    }

    /// Whether the connection's `SUBSCRIBE` for the room wants what was said before, and not all of that has been said to it.
    pub fn waits_for_earlier(&self, slot: u32, room: u32) -> bool {
        let join = self.joins.get(slot, room);
        join.is_some_and(|join| join.start != Start::Live) || self.histories.waits_for_earlier(slot, room)
    }

    /// Takes the connection out of a room, for this reason. Whether that could be told.
    pub fn expel(&mut self, cx: &mut Context, slot: u32, room: u32, (code, reason): (ErrorCode, &str)) -> bool {
        let Some(position) = cx.slots.get(slot).rooms.position(room) else { return true };
        if self.observed(room).is_some() {
            let reason = "this user may not see any more who is in this room";
            self.end_observing(cx, (slot, room), (code, reason));
            return true;
        }
        let name = self.rooms.get(room).name.clone();
        let waiting = self.joins.get(slot, room).map(|join| &join.id).or_else(|| self.histories.asking(slot, room));
        if let Some(waiting) = waiting.and_then(Clone::clone) {
            cx.refuse(slot, code, reason, Some(&waiting), Some(&name));
        }
        self.leave(cx, slot, position, Rest::Part);
        cx.journal.left(cx.slots.id(slot), &name);
        cx.reply(slot, |out| reply::unsubscribed(out, &name, None, Some(code)));
        cx.slots.get(slot).dialect.has_replies()
    }

    /// The name of a room that is there.
    pub fn name_of(&self, room: u32) -> &str {
        &self.rooms.get(room).name
    }

    /// Whether the connection is in the room, or waits to be.
    pub fn is_in(&self, cx: &Context, slot: u32, name: &str) -> bool {
        self.rooms.find(name).is_some_and(|room| cx.slots.get(slot).rooms.position(room).is_some())
    }

    /// The rooms that the connection is in, but for those by which it observes others.
    pub fn rooms_joined(&self, cx: &Context, slot: u32) -> impl Iterator<Item = u32> {
        let rooms = cx.slots.get(slot).rooms.as_slice().iter().map(|membership| membership.room);
        rooms.filter(|room| self.observed(*room).is_none())
    }

    /// Takes the connection out of the room at this position of its list.
    pub(super) fn leave(&mut self, cx: &mut Context, slot: u32, position: usize, rest: Rest) {
        let room = cx.slots.get(slot).rooms.as_slice()[position].room;
        self.end_join(cx, slot, room);
        self.histories.leave(slot, room);
        cx.fanout.leave(&mut cx.slots, slot, position, rest);
        if self.observed(room).is_none() {
            cx.limits.quotas_mut().leave(slot, room);
        }
        if cx.fanout.audience(room).is_empty() {
            if self.observed(room).is_none()
                && let Some(hook) = self.rule(cx, room).and_then(|rule| rule.occupancy.clone())
            {
                cx.notices.vacated(hook, &self.rooms.get(room).name);
            }
            self.linger(cx, room);
        }
        if self.presence.is_some() {
            self.unnote_member(cx, slot, room);
            self.unobserve(cx, slot, room, rest);
        }
    }

    /// Takes the connection out of all its rooms.
    pub fn depart(&mut self, cx: &mut Context, slot: u32, rest: Rest) {
        while let Some(last) = cx.slots.get(slot).rooms.len().checked_sub(1) {
            self.leave(cx, slot, last, rest);
        }
        if let Some(presence) = &mut self.presence {
            presence.forget_connection(slot, cx.now);
            self.ask_presence(cx);
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
        room: &str,
        said: &Publication<'_>,
        mut id: Option<CommandId>,
    ) -> Result<(), CloseReason<'static>> {
        cx.metrics.messages_in += 1;
        let conn = cx.slots.id(slot);
        let rule = self.rule_for(cx, slot, room);
        let replicas_min = rule.map_or(0, |rule| rule.replicas_min);
        let retention = rule.and_then(Rule::stores).filter(|_| said.store);
        if said.key.is_some() && retention.is_none() {
            let reason = "this room keeps no history, and so knows no keys";
            cx.refuse(slot, ErrorCode::KeyUnsupported, reason, id.as_ref(), Some(room));
            return Ok(());
        }
        if !self.joins.is_empty()
            && let Some(waited_for) = self.room_waited_for(cx, slot, room)
        {
            match self.defer(cx, (slot, waited_for), said, id)? {
                Deferral::AtOnce(at_once) => id = at_once,
                Deferral::Settled => return Ok(()),
            }
        }
        let publish = id.map(|id| self.senders.push(Sender { conn, id, at: cx.now }, replicas_min));
        match retention {
            None => {
                let write = |out: &mut Vec<u8>| cx.config.write_publish(out, room, said, false);
                self.asks.push(Kind::Publish(publish, replicas_min), room, write);
            }
            Some(retention) => {
                let age_max = cx.config.history.key_age_max;
                let key =
                    said.key.map(|text| IdempotencyKey { text, digest: said.digest(), age_max, keys_max: KEYS_MAX });
                let write = |out: &mut Vec<u8>| cx.config.write_publish(out, room, said, true);
                self.asks.push_store(
                    publish,
                    room,
                    (Store { retention: &retention, key, removes: None }, replicas_min),
                    write,
                );
            }
        }
        Ok(())
    }

    /// Removes messages of a room, for the program that the core is a part of.
    pub fn remove(&mut self, cx: &mut Context, slot: u32, room: &str, remove: Remove, id: Option<CommandId>) {
        let rule = self.rule_for(cx, slot, room);
        let Some(retention) = rule.and_then(|rule| rule.history) else {
            let reason = "this room keeps no history";
            return cx.refuse(slot, ErrorCode::HistoryUnavailable, reason, id.as_ref(), Some(room));
        };
        let replicas_min = rule.map_or(0, |rule| rule.replicas_min);
        let conn = cx.slots.id(slot);
        let publish = id.map(|id| self.senders.push(Sender { conn, id, at: cx.now }, replicas_min));
        let store = Store { retention: &retention, key: None, removes: Some(&remove) };
        let payload = remove.what.payload();
        self.asks.push_store(publish, room, (store, replicas_min), |out| out.extend_from_slice(payload.as_bytes()));
    }

    /// The rule of a room of this name, whether anybody is in it or not.
    pub fn rule_for<'a>(&self, cx: &'a Context, slot: u32, name: &str) -> Option<&'a Rule> {
        if cx.config.rules.is_empty() {
            return None;
        }
        let rule = match self.find_room(cx, slot, name) {
            Some(room) => self.rooms.get(room).rule,
            None => cx.config.rules.find(name),
        };
        cx.config.rules.get(rule?)
    }
}

/// Tells a client that the room is full.
#[cold]
fn refuse_member(
    cx: &mut Context,
    slot: u32,
    (name, members_max): (&str, u32),
    id: Option<&CommandId>,
) -> Result<(), CloseReason<'static>> {
    cx.metrics.members_refused += 1;
    if !cx.slots.get(slot).dialect.has_replies() {
        return Err(CloseReason::TryAgainLater("the room is full"));
    }
    let reason = format!("this room has at most {members_max} members");
    cx.refuse(slot, ErrorCode::RoomFull, &reason, id, Some(name));
    Ok(())
}

impl Config {
    /// Appends what is published of a message, or what is stored of it, to which the broker adds the position.
    #[inline]
    pub(super) fn write_publish(&self, out: &mut Vec<u8>, room: &str, said: &Publication<'_>, stores: bool) {
        let Publication { message, except, signed, .. } = *said;
        let write_message = |out: &mut Vec<u8>| match signed {
            None => reply::message(out, room, message),
            Some(signed) => reply::signed_message(out, room, signed, message),
        };
        match self.publish_format {
            _ if stores => {
                envelope::write_sender(out, self.node, except);
                write_message(out);
            }
            PublishFormat::Fanfare => {
                envelope::write_header(out, self.node, except);
                write_message(out);
            }
            PublishFormat::Classic => {
                let except = except.map(|conn| envelope::except_text(self.node, conn));
                reply::classic(out, room, message, except.as_deref());
            }
        }
    }
}
