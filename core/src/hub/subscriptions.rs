//! What the broker's events do, and that its subscriptions equal the rooms that have members once things are quiet.
//!
//! For each room at most one request is outstanding. When its answer comes, what the room needs now is compared with what the
//! broker holds, and the next request follows if they differ: so joining and leaving may race with the broker's answers in any
//! order. An outage begins a new epoch, which voids every answer and every subscription of the last one at once.

use crate::broker::envelope::{self, Dropped};
use crate::broker::{BrokerEvent, PublishError, PublishId};
use crate::conn::{NONE, Phase};
use crate::core::Core;
use crate::dialect::Form;
use crate::hub::asks::Kind;
use crate::hub::group::{Place, Seat};
use crate::hub::rooms::Asked;
use crate::protocol::{CommandId, ErrorCode, reply};
use smallvec::SmallVec;
use std::time::Duration;

/// Rooms subscribed to again in one turn after an outage: a batch costs the broker about as much as a large message, and
/// messages of rooms that are back flow in between.
const RESUBSCRIBE_BATCH: usize = 512;

/// RFC 6455's registry: the client may come back later.
pub(crate) const TRY_AGAIN_LATER: u16 = 1013;

/// What clients are told of a subscription that the broker refuses. Its own words may hold what is not for them: users, channels,
/// addresses.
const REFUSED: &str = "the broker refused the subscription";

/// A message in one of the forms in which a room's members get it.
struct Frame {
    form: Form,
    /// Where it is written.
    track: u32,
    /// Where it begins there, once it has been written; `Some(None)` where it cannot be.
    position: Option<Option<u64>>,
}

/// How the broker stands.
#[derive(Debug)]
pub(crate) struct Broker {
    /// Why no subscription can be made; `None` when it can.
    down: Option<Box<str>>,
    /// Why nothing can be published; `None` when it can.
    publisher_down: Option<Box<str>>,
    /// Why it refuses for a while what it is asked, if it does.
    refusing: Option<Box<str>>,
    /// Counts outages, from 1.
    pub epoch: u32,
    /// After an outage: the first room that has not been looked at.
    pub resubscribe_from: Option<u32>,
}

impl Default for Broker {
    fn default() -> Broker {
        let reason = Some("the broker has not been reached yet".into());
        Broker { down: reason.clone(), publisher_down: reason, refusing: None, epoch: 1, resubscribe_from: None }
    }
}

impl Broker {
    /// Whether no subscription can be made.
    pub fn is_down(&self) -> bool {
        self.down.is_some()
    }

    pub fn readiness(&self) -> Result<(), &str> {
        match self.down.as_ref().or(self.publisher_down.as_ref()).or(self.refusing.as_ref()) {
            Some(reason) => Err(reason),
            None => Ok(()),
        }
    }
}

impl Core {
    pub(crate) fn broker_event(&mut self, event: BrokerEvent<'_>) {
        match event {
            BrokerEvent::Up => {
                self.broker.down = None;
                self.broker.resubscribe_from = Some(0);
                self.resubscribe();
            }
            BrokerEvent::Down { reason } => {
                self.broker.down = Some(reason.into());
                self.broker.epoch += 1;
                self.asks.void_subscriptions();
                self.broker.resubscribe_from = None;
                self.end_deferred(Duration::ZERO);
            }
            BrokerEvent::PublisherUp => self.broker.publisher_down = None,
            BrokerEvent::PublisherDown { reason } => self.broker.publisher_down = Some(reason.into()),
            BrokerEvent::Refusing { reason } => self.broker.refusing = Some(reason.into()),
            BrokerEvent::Willing => self.broker.refusing = None,
            BrokerEvent::Subscribed { room } => self.subscribed(room),
            BrokerEvent::Unsubscribed { room } => self.unsubscribed(room),
            BrokerEvent::SubscribeFailed { room, reason } => self.subscribe_failed(room, reason),
            BrokerEvent::Message { room, payload } => self.room_message(room, payload),
            BrokerEvent::Published { id } => self.published(id),
            BrokerEvent::PublishFailed { id, error } => self.publish_failed(id, error),
        }
    }

    /// Whether the broker holds the room's subscription and will go on to, so that a new member misses nothing from now on.
    pub(crate) fn is_held(&self, room: u32) -> bool {
        self.rooms.get(room).held_in == self.broker.epoch && self.asked(room) != Some(Asked::Unsubscribe)
    }

    fn asked(&self, room: u32) -> Option<Asked> {
        self.rooms.get(room).asked.filter(|(_, epoch)| *epoch == self.broker.epoch).map(|(asked, _)| asked)
    }

    /// Asks the broker for what the room needs and does not have; forgets a room that nobody needs.
    pub(crate) fn reconcile(&mut self, key: u32) {
        if self.asked(key).is_some() {
            return;
        }
        let held = self.is_held(key);
        let room = self.rooms.get_mut(key);
        // Lingering keeps a subscription and never makes one: what the broker refused would be asked again and again.
        let wanted = !room.is_empty() || held && room.lingering;
        if !wanted && !held {
            if room.has_run() {
                self.linger(key);
            } else if !room.lingering {
                self.rooms.remove(key);
            }
        } else if wanted != held && self.broker.down.is_none() {
            let (asked, kind) =
                if wanted { (Asked::Subscribe, Kind::Subscribe) } else { (Asked::Unsubscribe, Kind::Unsubscribe) };
            room.asked = Some((asked, self.broker.epoch));
            self.asks.push(kind, &room.name, |_| {});
        }
    }

    /// Looks at the next rooms after an outage.
    pub(crate) fn resubscribe(&mut self) {
        let Some(mut from) = self.broker.resubscribe_from else { return };
        for _ in 0..RESUBSCRIBE_BATCH {
            let Some(room) = self.rooms.next_key(from) else {
                self.broker.resubscribe_from = None;
                return;
            };
            from = room + 1;
            self.reconcile(room);
        }
        self.broker.resubscribe_from = Some(from);
    }

    /// Keeps a room that lost its last member for a while.
    pub(crate) fn linger(&mut self, key: u32) {
        let until = self.now + self.config.room_linger;
        let room = self.rooms.get_mut(key);
        room.linger_until = until;
        if !room.lingering {
            room.lingering = true;
            self.lingering.push_back((until, key));
        }
    }

    pub(crate) fn end_lingering(&mut self) {
        // Each room once at most: with no linger configured, one that goes back into the queue is due again at once.
        for _ in 0..self.lingering.len() {
            let Some((deadline, key)) = self.lingering.front().copied() else { return };
            if deadline > self.now {
                return;
            }
            self.lingering.pop_front();
            let room = self.rooms.get_mut(key);
            if room.is_empty() && room.linger_until > self.now {
                // It had a member in between, and lost it.
                self.lingering.push_back((room.linger_until, key));
            } else {
                room.lingering = false;
                self.reconcile(key);
            }
        }
    }

    fn subscribed(&mut self, name: &str) {
        let Some(key) = self.rooms.find(name) else { return };
        if self.asked(key) != Some(Asked::Subscribe) {
            return;
        }
        let room = self.rooms.get_mut(key);
        room.asked = None;
        room.held_in = self.broker.epoch;
        let mut waiting = Vec::new();
        for group in 0..self.rooms.get(key).group_count() {
            let members = self.rooms.get_mut(key).group_at_mut(group).members().len();
            for index in 0..members as u32 {
                waiting.extend(self.seat_the_waiting(key, group, index));
            }
        }
        for (slot, id) in waiting {
            self.journal.joined(self.conns.id(slot), name);
            let rooms = &self.conns.get(slot).rooms;
            if let Some(position) = rooms.position(key) {
                // Who was a member before an outage may have yet to be given what came then.
                self.catch_up(slot, key, rooms.as_slice()[position].place);
            }
            self.reply(slot, |out| reply::subscribed(out, name, id.as_ref()));
        }
        self.reconcile(key);
    }

    /// Ends the waiting of the member at `index` of the group at `group`, if it waits.
    fn seat_the_waiting(&mut self, key: u32, group: usize, index: u32) -> Option<(u32, Option<CommandId>)> {
        let group = self.rooms.get_mut(key).group_at_mut(group);
        let seat = group.seat(index);
        if !seat.is_waiting() {
            return None;
        }
        group.set_seat(index, Seat::new(seat.list_position(), false));
        let slot = group.members()[index as usize].slot() as u32;
        self.end_join(slot, key).map(|id| (slot, id))
    }

    fn unsubscribed(&mut self, name: &str) {
        let Some(key) = self.rooms.find(name) else { return };
        if self.asked(key) == Some(Asked::Unsubscribe) {
            let room = self.rooms.get_mut(key);
            room.asked = None;
            room.held_in = 0;
            self.reconcile(key);
        }
    }

    fn subscribe_failed(&mut self, name: &str, reason: &str) {
        let Some(key) = self.rooms.find(name) else { return };
        match self.asked(key) {
            None => return,
            // Refused to let go: nothing better can be asked, and what still comes is ignored.
            Some(Asked::Unsubscribe) => return self.unsubscribed(name),
            Some(Asked::Subscribe) => self.rooms.get_mut(key).asked = None,
        }
        self.metrics.subscriptions_refused += 1;
        self.journal.refused_room(name, reason);
        for at in 0..self.rooms.get(key).group_count() {
            loop {
                let group = self.rooms.get_mut(key).group_at_mut(at);
                let Some(conn) = group.members().last() else { break };
                let (slot, index) = (conn.slot() as u32, group.members().len() as u32 - 1);
                let position = group.seat(index).list_position();
                let waiting = self.seat_the_waiting(key, at, index);
                self.leave(slot, position);
                if waiting.is_none() {
                    self.journal.left(self.conns.id(slot), name);
                }
                match waiting {
                    // Nothing else could tell it, and it would wait for messages that never come.
                    _ if !self.conns.get(slot).dialect.has_replies() => self.close(slot, TRY_AGAIN_LATER, REFUSED),
                    Some((_, id)) => self.error(slot, ErrorCode::BrokerRefused, REFUSED, id.as_ref(), Some(name)),
                    None => {
                        self.reply(slot, |out| reply::unsubscribed(out, name, None, Some(ErrorCode::BrokerRefused)));
                    }
                }
            }
        }
        self.reconcile(key);
    }

    fn room_message(&mut self, name: &str, payload: &[u8]) {
        // Without members, or before the broker confirmed: the end of a subscription that nobody needs any more.
        let Some(key) = self.rooms.find(name) else { return };
        if !self.is_held(key) || self.rooms.get(key).is_empty() {
            return;
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        match envelope::open(name, payload, &mut scratch) {
            Ok((text, except)) => {
                let except = except.filter(|except| except.node == self.config.node).map(|except| except.conn);
                let spared = except.and_then(|conn| self.conns.slot(conn));
                self.fan_out(key, text, spared);
            }
            Err(Dropped::NotUtf8) => self.metrics.messages_not_utf8 += 1,
            Err(Dropped::Version) => self.metrics.messages_of_other_versions += 1,
            Err(Dropped::Forged) => self.metrics.messages_forged += 1,
        }
        self.scratch = scratch;
    }

    /// Adds a message to the run of each group; the connection `spared` does not get it.
    fn fan_out(&mut self, key: u32, text: &[u8], spared: Option<u32>) {
        self.metrics.messages_out += 1;
        let spared = spared.and_then(|slot| {
            let rooms = &self.conns.get(slot).rooms;
            Some((slot, rooms.as_slice()[rooms.position(key)?].place))
        });
        let (groups, in_all) = (self.rooms.get(key).group_count(), self.rooms.get(key).members());
        // A message is written once for each form, behind what groups of that form have yet to be given.
        let mut frames = SmallVec::<[Frame; 2]>::new();
        for at in 0..groups {
            let run = self.rooms.get(key).group_at(at).run;
            if let Some((form, track)) = self.runs.track_of(run)
                && !frames.iter().any(|frame| frame.form == form)
            {
                frames.push(Frame { form, track, position: None });
            }
        }
        let waited_for = frames.len();
        for at in 0..groups {
            let group = self.rooms.get(key).group_at(at);
            let (form, run, members) = (group.form, group.run, group.members().len());
            if members == 0 {
                continue;
            }
            let known = frames.iter().position(|frame| frame.form == form).unwrap_or_else(|| {
                frames.push(Frame { form, track: self.runs.add_track(form), position: None });
                frames.len() - 1
            });
            let Frame { track, position, .. } = &mut frames[known];
            let position = *position.get_or_insert_with(|| {
                let deflater = &mut self.deflater;
                let position = self.runs.write(*track, |out| form.write(deflater, out, text));
                self.metrics.messages_forged += u64::from(position.is_none());
                position
            });
            let Some(position) = position else { continue };
            if run == NONE {
                let run = self.runs.start(key, at, (members, in_all), *track, position);
                let group = self.rooms.get_mut(key).group_at_mut(at);
                (group.run, group.full) = (run, members as u32);
            }
            self.metrics.deliveries += members as u64;
            if let Some((slot, place)) = spared.filter(|(_, place)| place.group() == at) {
                self.metrics.deliveries -= 1;
                let run = self.rooms.get(key).group_at(at).run;
                self.skip_to_end(slot, key, place, self.runs.offset(run, position));
            }
        }
        for frame in &frames[waited_for..] {
            self.runs.forget_unused(frame.track);
        }
    }

    /// Gives a member its part of the run so far, so that what is said to it next comes after that.
    pub(crate) fn catch_up(&mut self, slot: u32, key: u32, place: Place) {
        let run = self.rooms.get(key).group_at(place.group()).run;
        if let Some((_, end)) = self.runs.get_mut(run) {
            self.skip_to_end(slot, key, place, end);
        }
    }

    /// Gives a member its part of the run before `until`, and spares it the rest that there is so far.
    fn skip_to_end(&mut self, slot: u32, key: u32, place: Place, until: usize) {
        let conns = &mut self.conns;
        let group = self.rooms.get_mut(key).group_at_mut(place.group());
        let run_index = group.run;
        let run = self.runs.get_mut(run_index).expect("the group has a run");
        let part = group.spare(place.index(), run, until, |conn, seat, index| {
            let place = Place::new(place.group(), index);
            conns.get_mut(conn.slot() as u32).rooms.set_place(seat.list_position(), place);
        });
        self.streams.add_part(&mut self.conns, slot, run_index, part);
    }

    /// Hands the members who joined while a run was being built the part that follows their SUBSCRIBED.
    pub(crate) fn give_the_late_their_part(&mut self) {
        for key in self.runs.due() {
            let run = self.runs.get(*key);
            let group = self.rooms.get(run.room).group_at(run.group);
            for (conn, start) in group.members()[group.full as usize..].iter().zip(&run.late) {
                let end = self.runs.part(*key).len();
                let part = (*start as usize).min(end)..end;
                self.streams.add_part(&mut self.conns, conn.slot() as u32, *key, part);
            }
        }
    }

    fn published(&mut self, id: PublishId) {
        let Some(sender) = self.senders.take(id) else { return };
        self.metrics.observe_publish(self.now.since(sender.at));
        self.metrics.publishes_confirmed += 1;
        if let Some(slot) = self.conns.slot(sender.conn).filter(|slot| self.conns.get(*slot).phase == Phase::Open) {
            self.reply(slot, |out| reply::ack(out, &sender.id));
        }
    }

    fn publish_failed(&mut self, id: PublishId, error: PublishError) {
        let Some(sender) = self.senders.take(id) else { return };
        self.metrics.observe_publish(self.now.since(sender.at));
        self.metrics.publishes_failed += 1;
        let (code, reason) = match error {
            PublishError::Unavailable => {
                (ErrorCode::BrokerUnavailable, "the broker is not available; the message was not published")
            }
            PublishError::Busy => {
                (ErrorCode::BrokerBusy, "too many messages wait for the broker; this one was not published")
            }
            PublishError::Refused => (ErrorCode::BrokerRefused, "the broker refused the message"),
            PublishError::Unconfirmed => (
                ErrorCode::Unconfirmed,
                "the broker went away before it confirmed; the message may have been published",
            ),
        };
        if let Some(slot) = self.conns.slot(sender.conn).filter(|slot| self.conns.get(*slot).phase == Phase::Open) {
            self.error(slot, code, reason, Some(&sender.id), None);
        }
    }
}
