//! What the broker's events do, and that its subscriptions equal the rooms that have members once things are quiet.
//!
//! For each room at most one request is outstanding. When its answer comes, what the room needs now is compared with what the
//! broker holds. If they differ, the next request follows. So joining and leaving may race with the broker's answers in any order.
//! An outage begins a new epoch, which voids every answer and every subscription of the last one at once. An outage of a part of the broker
//! voids those of its rooms.

use super::Hub;
use super::asks::Kind;
use super::rooms::{LOST, Outstanding};
use crate::broker::envelope::{self, Dropped, Opened};
use crate::broker::{BrokerEvent, Partitions, PublishError, PublishId};
use crate::context::Context;
use crate::fanout::Rest;
use crate::fanout::group::Group;
use crate::fanout::place::Place;
use crate::history::{Position, Removal};
use crate::protocol::command::Start;
use crate::protocol::reply::Gap;
use crate::protocol::{CommandId, ErrorCode, reply};
use crate::rules::Rule;
use crate::slots::Phase;
use std::time::Duration;

/// Rooms subscribed to again in one turn after an outage. A batch costs the broker about as much as a large message, and messages
/// of rooms that are back flow in between.
const RESUBSCRIBE_BATCH: usize = 512;

/// Rooms that have lingered for long enough and are given up in one turn; the next turns give up the rest at once.
const LINGERING_BATCH: usize = 512;

/// What clients are told of a subscription that the broker refuses. Its own words may hold what is not for them: users, channels,
/// addresses.
pub(crate) const REFUSED: &str = "the broker refused the subscription";

/// A subscription that the broker has refused, and how far its room's members have been told.
#[derive(Debug)]
pub(crate) struct Refused<'a> {
    room: u32,
    name: &'a str,
    group: usize,
}

/// What a member has heard of that.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Told {
    /// That it is no member.
    Told,
    /// Nothing: the dialect of this slot's connection has no word for it, so that the connection has to end.
    NoWordFor(u32),
}

impl Hub {
    /// What the broker says. Of a subscription that it refused, members are to be told next: see [`Hub::next_refused`].
    pub fn broker_event<'a>(&mut self, cx: &mut Context, event: BrokerEvent<'a>) -> Option<Refused<'a>> {
        match event {
            BrokerEvent::Up => {
                self.status.down = None;
                self.look_at_all(cx);
            }
            BrokerEvent::Down { reason } => {
                self.status.down = Some(reason.into());
                self.status.epoch += 1;
                self.asks.void_subscriptions(|_| true);
                self.status.resubscribe_from = None;
                self.recovery.end();
                self.recovery.tell(cx.now, &mut cx.metrics);
                self.end_deferred(cx, Duration::ZERO);
                self.refuse_questions_of(cx, |_| true);
            }
            BrokerEvent::Lost { partitions } => self.lose(cx, partitions),
            BrokerEvent::PublisherUp => {
                self.status.publisher_down = None;
                self.ask_reads(cx);
                self.ask_presence(cx);
            }
            BrokerEvent::PublisherDown { reason } => {
                self.status.publisher_down = Some(reason.into());
                self.void_reads(cx);
                self.void_presence(cx);
            }
            BrokerEvent::Refusing { reason } => self.status.refusing = Some(reason.into()),
            BrokerEvent::Willing => self.status.refusing = None,
            BrokerEvent::Subscribed { room } => self.subscribed(cx, room),
            BrokerEvent::Unsubscribed { room } => self.unsubscribed(cx, room),
            BrokerEvent::SubscribeFailed { room, reason } => return self.subscribe_failed(cx, room, reason),
            BrokerEvent::Message { room, payload } => self.room_message(cx, room, payload),
            BrokerEvent::Published { id, position, receivers } => self.published(cx, id, position, receivers),
            BrokerEvent::PublishFailed { id, error } => self.publish_failed(cx, id, error),
            BrokerEvent::Read { id, page } => self.read(cx, id, page),
            BrokerEvent::ReadFailed { id, passes } => self.read_failed(cx, id, passes),
            BrokerEvent::PresenceKept { id, connections } => self.presence_kept(cx, id, connections),
            BrokerEvent::Roster { id, page } => self.read_roster(cx, id, page),
            BrokerEvent::PresenceFailed { id, passes } => self.presence_failed(cx, id, passes),
            BrokerEvent::PresenceLost => self.presence_lost(cx),
            // Of that the core hears itself.
            BrokerEvent::Fenced { .. } => {}
        }
        None
    }

    /// Whether the broker holds the room's subscription and will go on to, so that a new member misses nothing from now on.
    pub(super) fn is_held(&self, room: u32) -> bool {
        self.rooms.get(room).held_in == self.status.epoch && self.asked(room) != Some(Outstanding::Unsubscribe)
    }

    /// Whether a new member can begin at once: each message of the room is said as it comes.
    pub(super) fn is_open(&self, room: u32) -> bool {
        self.is_held(room) && self.histories.is_live(room)
    }

    fn asked(&self, room: u32) -> Option<Outstanding> {
        self.rooms.get(room).asked.filter(|(_, epoch)| *epoch == self.status.epoch).map(|(asked, _)| asked)
    }

    /// Asks the broker for what the room needs and does not have; forgets a room that nobody needs.
    pub(super) fn reconcile(&mut self, cx: &mut Context, key: u32) {
        if self.asked(key).is_some() {
            return;
        }
        let held = self.is_held(key);
        let (room, audience) = (self.rooms.get_mut(key), cx.fanout.audience(key));
        // Lingering keeps a subscription and never makes one: what the broker refused would be asked again and again.
        let is_asked = self.presence.as_ref().is_some_and(|presence| presence.is_asked(key));
        let is_asked = is_asked || self.program_rooms.contains(&key);
        let wanted = !audience.is_empty() || held && room.lingering || is_asked;
        if !wanted && !held {
            if audience.has_run() {
                self.linger(cx, key);
            } else if !room.lingering {
                self.rooms.remove(key);
                self.histories.forget(key);
                if let Some(presence) = &mut self.presence {
                    presence.forget(key);
                }
                cx.fanout.remove_room(key);
            }
        } else if wanted != held && self.status.down.is_none() {
            let (asked, kind) = if wanted {
                (Outstanding::Subscribe, Kind::Subscribe)
            } else {
                (Outstanding::Unsubscribe, Kind::Unsubscribe)
            };
            room.asked = Some((asked, self.status.epoch));
            if wanted && room.held_in != 0 {
                self.recovery.asked();
            }
            self.asks.push(kind, &room.name, |_| {});
        }
    }

    /// The broker has lost the subscriptions of some rooms, and takes new ones.
    fn lose(&mut self, cx: &mut Context, partitions: &Partitions) {
        if self.status.is_down() {
            return;
        }
        self.asks.void_subscriptions(|room| partitions.has_room(room));
        for room in self.rooms.iter_mut().filter(|room| partitions.has_room(&room.name)) {
            if room.is_asked_again(self.status.epoch) {
                self.recovery.answered();
            }
            room.asked = None;
            room.held_in = room.held_in.min(LOST);
        }
        self.refuse_questions_of(cx, |room| partitions.has_room(room));
        self.look_at_all(cx);
    }

    /// Begins to ask for what rooms need and do not have any more.
    fn look_at_all(&mut self, cx: &mut Context) {
        self.status.resubscribe_from = Some(0);
        self.recovery.begin(cx.now, cx.fanout.rooms());
        self.resubscribe(cx);
    }

    /// Looks at the next rooms after an outage.
    pub(super) fn resubscribe(&mut self, cx: &mut Context) {
        let Some(mut from) = self.status.resubscribe_from else { return };
        for _ in 0..RESUBSCRIBE_BATCH {
            let Some(room) = self.rooms.next_key(from) else {
                self.status.resubscribe_from = None;
                self.recovery.all_seen();
                self.recovery.tell(cx.now, &mut cx.metrics);
                return;
            };
            from = room + 1;
            if !cx.fanout.audience(room).is_empty() {
                self.recovery.seen();
            }
            self.reconcile(cx, room);
        }
        self.status.resubscribe_from = Some(from);
        self.recovery.tell(cx.now, &mut cx.metrics);
    }

    /// Keeps a room that lost its last member for a while.
    pub(super) fn linger(&mut self, cx: &Context, key: u32) {
        let until = cx.now + cx.config.timeouts.room_linger;
        let room = self.rooms.get_mut(key);
        room.linger_until = until;
        if !room.lingering {
            room.lingering = true;
            self.lingering.push_back((until, key));
        }
    }

    pub(super) fn end_lingering(&mut self, cx: &mut Context) {
        // Each room once at most: with no linger configured, one that goes back into the queue is due again at once.
        for _ in 0..self.lingering.len().min(LINGERING_BATCH) {
            let Some((deadline, key)) = self.lingering.front().copied() else { return };
            if deadline > cx.now {
                return;
            }
            self.lingering.pop_front();
            let room = self.rooms.get_mut(key);
            if cx.fanout.audience(key).is_empty() && room.linger_until > cx.now {
                // It had a member in between, and lost it.
                self.lingering.push_back((room.linger_until, key));
            } else {
                room.lingering = false;
                self.reconcile(cx, key);
            }
        }
    }

    fn subscribed(&mut self, cx: &mut Context, name: &str) {
        let Some(key) = self.rooms.find(name) else { return };
        if self.asked(key) != Some(Outstanding::Subscribe) {
            return;
        }
        let room = self.rooms.get_mut(key);
        room.asked = None;
        let was_held = std::mem::replace(&mut room.held_in, self.status.epoch) != 0;
        if was_held {
            self.recovery.answered();
            self.recovery.tell(cx.now, &mut cx.metrics);
        }
        match self.histories.has(key) {
            true => self.begin_to_keep(cx, key),
            false if self.observed(key).is_some() => self.watch_presence(cx, key),
            false if self.program_rooms.contains(&key) => self.tell_held(cx, key),
            false => {
                if was_held {
                    self.tell_of_an_interruption(cx, key);
                }
                self.seat_all(cx, key);
            }
        }
        self.reconcile(cx, key);
    }

    /// The room's members have not been given what was published during the outage, and nobody knows how much that was.
    fn tell_of_an_interruption(&mut self, cx: &mut Context, key: u32) {
        let audience = cx.fanout.audience(key);
        let is_waiting = |group: &Group, index: usize| group.seat(index as u32).is_waiting();
        let waiting: Vec<u32> = audience
            .groups()
            .flat_map(|group| group.members().iter().enumerate().filter(move |(index, _)| is_waiting(group, *index)))
            .map(|(_, conn)| conn.slot() as u32)
            .collect();
        if waiting.len() < audience.members() {
            self.text.clear();
            reply::gap(&mut self.text, &self.rooms.get(key).name, Gap::Interrupted);
            cx.fanout.announce_but((&mut cx.slots, &mut cx.metrics), key, &self.text, &waiting);
            cx.metrics.gaps += 1;
        }
    }

    /// Ends the waiting of those who wait for the room, and answers them.
    pub(super) fn seat_all(&mut self, cx: &mut Context, key: u32) {
        for (slot, id, start) in self.take_waiting(cx, key) {
            if self.histories.has_to_come_back(slot) {
                continue;
            }
            cx.journal.joined(cx.slots.id(slot), &self.rooms.get(key).name);
            let rooms = &cx.slots.get(slot).rooms;
            if let Some(position) = rooms.position(key) {
                // Who was a member before an outage may have yet to be given what came then.
                let place = rooms.as_slice()[position].place;
                cx.fanout.catch_up(&mut cx.slots, slot, key, place);
            }
            self.begin(cx, slot, key, start, id);
        }
    }

    /// Ends the waiting of those who wait for the room: who they are, and their SUBSCRIBEs.
    pub(super) fn take_waiting(&mut self, cx: &mut Context, key: u32) -> Vec<(u32, Option<CommandId>, Start)> {
        let mut waiting = Vec::new();
        for group in 0..cx.fanout.audience(key).group_count() {
            for index in 0..cx.fanout.audience(key).group_at(group).members().len() as u32 {
                let seated = self.seat_the_waiting(cx, key, Place::new(group, index));
                waiting.extend(seated.map(|(slot, (id, start))| (slot, id, start)));
            }
        }
        waiting
    }

    /// Ends the waiting of the member at this place, if it waits: its slot, and its SUBSCRIBE.
    fn seat_the_waiting(
        &mut self,
        cx: &mut Context,
        key: u32,
        place: Place,
    ) -> Option<(u32, (Option<CommandId>, Start))> {
        let group = cx.fanout.audience(key).group_at(place.group());
        if !group.seat(place.index()).is_waiting() {
            return None;
        }
        let slot = group.members()[place.index() as usize].slot() as u32;
        cx.fanout.set_waiting(key, place, false);
        self.end_join(cx, slot, key).map(|join| (slot, join))
    }

    fn unsubscribed(&mut self, cx: &mut Context, name: &str) {
        let Some(key) = self.rooms.find(name) else { return };
        if self.asked(key) == Some(Outstanding::Unsubscribe) {
            let room = self.rooms.get_mut(key);
            room.asked = None;
            room.held_in = 0;
            self.reconcile(cx, key);
        }
    }

    fn subscribe_failed<'a>(&mut self, cx: &mut Context, name: &'a str, reason: &str) -> Option<Refused<'a>> {
        let room = self.rooms.find(name)?;
        match self.asked(room)? {
            // Refused to let go: nothing better can be asked, and what still comes is ignored.
            Outstanding::Unsubscribe => {
                self.unsubscribed(cx, name);
                None
            }
            Outstanding::Subscribe => {
                if self.rooms.get(room).is_asked_again(self.status.epoch) {
                    self.recovery.answered();
                    self.recovery.tell(cx.now, &mut cx.metrics);
                }
                self.rooms.get_mut(room).asked = None;
                cx.metrics.subscriptions_refused += 1;
                cx.journal.refused_room(name, reason);
                self.refuse_questions(cx, room, false);
                if self.program_rooms.contains(&room) {
                    self.release(cx, room);
                    return None;
                }
                Some(Refused { room, name, group: 0 })
            }
        }
    }

    /// Takes the next member out of a room whose subscription was refused, and tells it. `None` when all have gone.
    pub fn next_refused(&mut self, cx: &mut Context, refused: &mut Refused<'_>) -> Option<Told> {
        let Refused { room, name, group } = refused;
        while *group < cx.fanout.audience(*room).group_count() {
            let members = cx.fanout.audience(*room).group_at(*group).members();
            let Some(conn) = members.last() else {
                *group += 1;
                continue;
            };
            let (slot, place) = (conn.slot() as u32, Place::new(*group, members.len() as u32 - 1));
            let position = cx.fanout.audience(*room).group_at(*group).seat(place.index()).list_position();
            let waiting = self.seat_the_waiting(cx, *room, place).map(|(_, (id, _))| id);
            let asking = self.histories.asking(slot, *room).cloned();
            self.leave(cx, slot, position, Rest::Part);
            if let Some(observed) = crate::presence::room_of(name) {
                let reason = "the broker refused to tell who is in this room";
                cx.refuse(slot, ErrorCode::BrokerRefused, reason, None, Some(observed));
                return Some(Told::Told);
            }
            if waiting.is_none() {
                cx.journal.left(cx.slots.id(slot), name);
            }
            match waiting.or(asking) {
                // Nothing else could tell it, and it would wait for messages that never come.
                _ if !cx.slots.get(slot).dialect.has_replies() => return Some(Told::NoWordFor(slot)),
                Some(id) => cx.refuse(slot, ErrorCode::BrokerRefused, REFUSED, id.as_ref(), Some(name)),
                None => cx.reply(slot, |out| reply::unsubscribed(out, name, None, Some(ErrorCode::BrokerRefused))),
            }
            return Some(Told::Told);
        }
        self.reconcile(cx, *room);
        None
    }

    fn room_message(&mut self, cx: &mut Context, name: &str, payload: &[u8]) {
        // Without members, or before the broker confirmed: the end of a subscription that nobody needs any more.
        let Some(key) = self.rooms.find(name) else { return };
        if self.observed(key).is_some() {
            if self.is_held(key) {
                self.hear_presence(cx, key, payload);
            }
            return;
        }
        if self.program_rooms.contains(&key) {
            if self.is_held(key) {
                self.hear_programs(cx, key, payload);
            }
            return;
        }
        let is_kept = self.histories.has(key);
        if !self.is_held(key) || cx.fanout.audience(key).is_empty() && !is_kept {
            return;
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        match envelope::open(name, payload, &mut scratch) {
            Ok(opened) if is_kept => {
                if opened.is_foreign && self.rule(cx, key).and_then(Rule::stores).is_some() {
                    cx.metrics.history_foreign += 1;
                    cx.journal.not_stored(name);
                }
                self.heard(cx, key, opened);
            }
            // Nothing is kept of the room here, and nobody could be told what is removed.
            Ok(Opened { position: Some(_), text, .. }) if Removal::of_payload(text).is_some() => {}
            Ok(Opened { text, except, .. }) => {
                let except = except.filter(|except| except.node == cx.config.node).map(|except| except.conn);
                let spared = except.and_then(|conn| cx.slots.slot(conn));
                cx.fanout.say((&mut cx.slots, &mut cx.metrics), key, text, spared);
            }
            Err(Dropped::NotUtf8) => cx.metrics.messages_not_utf8 += 1,
            Err(Dropped::Version) => cx.metrics.messages_of_other_versions += 1,
            Err(Dropped::Forged) => cx.metrics.messages_forged += 1,
        }
        self.scratch = scratch;
    }

    fn published(&mut self, cx: &mut Context, id: PublishId, position: Option<Position>, receivers: Option<u32>) {
        let Some(sender) = self.senders.take(id) else { return };
        cx.metrics.observe_publish(cx.now.since(sender.at));
        cx.metrics.publishes_confirmed += 1;
        if let Some(slot) = cx.slots.listener(sender.conn) {
            let receivers = receivers.filter(|_| cx.slots.get(slot).phase == Phase::Backend);
            cx.reply(slot, |out| reply::ack(out, &sender.id, position, receivers));
        }
    }

    fn publish_failed(&mut self, cx: &mut Context, id: PublishId, error: PublishError) {
        let Some(sender) = self.senders.take(id) else { return };
        cx.metrics.observe_publish(cx.now.since(sender.at));
        cx.metrics.publishes_failed += 1;
        let (code, reason) = match error {
            PublishError::Unavailable => {
                (ErrorCode::BrokerUnavailable, "the broker is not available; the message was not published")
            }
            PublishError::Busy => {
                (ErrorCode::BrokerBusy, "too many messages wait for the broker; this one was not published")
            }
            PublishError::KeyReused => {
                (ErrorCode::KeyReused, "the key belongs to another message; this one was not published")
            }
            PublishError::NoMessage => {
                (ErrorCode::MessageUnknown, "there is no such message, or it is kept no more, or removed already")
            }
            PublishError::EpochUnknown => (ErrorCode::EpochUnknown, "the room's history has another epoch now"),
            PublishError::NotStored => {
                (ErrorCode::HistoryUnavailable, "the broker cannot store the message; it was not published")
            }
            PublishError::Refused => (ErrorCode::BrokerRefused, "the broker refused the message"),
            PublishError::Unreplicated => {
                (ErrorCode::Unconfirmed, "the message is stored and published, and too few replicas have confirmed it")
            }
            PublishError::Unconfirmed => (
                ErrorCode::Unconfirmed,
                "the broker went away before it confirmed; the message may have been published",
            ),
        };
        if let Some(slot) = cx.slots.listener(sender.conn) {
            cx.refuse(slot, code, reason, Some(&sender.id), None);
        }
    }
}
