//! Those who want to know who is in a room: members of the room beside it, and clients that ask.

use super::super::Hub;
use super::view::{News, Next, View};
use super::{ANSWERED_WITHIN, Outstanding, Question};
use crate::broker::PresenceId;
use crate::context::Context;
use crate::fanout::Rest;
use crate::fanout::group::Group;
use crate::fanout::place::MEMBERSHIPS_MAX;
use crate::limits::meter::Limit;
use crate::presence::{Change, RosterPage, name_of, room_of};
use crate::protocol::{CommandId, ErrorCode, reply};
use crate::rules::{Right, Slow};
use std::collections::btree_map;

/// Users of whom those who observe a room are told at first: as many as in the answer to a `PRESENCE` that names no limit.
const FIRST_MAX: u32 = 100;
/// Bytes of an answer, but for its last user.
const ANSWER_BYTES_MAX: usize = 256 * 1024;
/// `PRESENCE` commands are refused while so many of them wait.
const QUESTIONS_MAX: usize = 4_096;
/// The same of one connection.
const OWN_QUESTIONS_MAX: usize = 16;

/// What clients are told of rooms without presence.
const UNKEPT: &str = "nobody keeps who is in this room";
/// What they are told while it is not known.
const UNKNOWN: &str = "who is in this room is not known at the moment";

impl Hub {
    /// Whether the room's rule has presence; if not, the client is told so.
    pub(in crate::hub) fn has_presence(&self, cx: &mut Context, slot: u32, name: &str, id: Option<&CommandId>) -> bool {
        let is_kept = self.rule_for(cx, slot, name).is_some_and(|rule| rule.presence);
        if !is_kept {
            cx.refuse(slot, ErrorCode::PresenceUnavailable, UNKEPT, id, Some(name));
        }
        is_kept
    }

    /// The right that a member of this room needs, and in which room.
    pub fn right_of_members(&self, room: u32) -> (Right, &str) {
        match self.observed(room) {
            Some(observed) => (Right::Presence, observed),
            None => (Right::Subscribe, &self.rooms.get(room).name),
        }
    }

    /// The room that is observed by the members of this one.
    pub(in crate::hub) fn observed(&self, room: u32) -> Option<&str> {
        if self.presence.is_none() { None } else { room_of(&self.rooms.get(room).name) }
    }

    /// How many rooms the connection is in, beside those by which it observes others.
    pub(in crate::hub) fn rooms_of(&self, cx: &Context, slot: u32) -> usize {
        let observed = self.presence.as_ref().map_or(0, |presence| presence.observed_by(slot));
        cx.slots.get(slot).rooms.len() - observed
    }

    /// A member of the room wants to be told who is there, and who comes and goes.
    pub(in crate::hub) fn observe(&mut self, cx: &mut Context, slot: u32, name: &str) {
        let key = self.rooms.find_or_insert(&name_of(name), &cx.config.rules);
        cx.fanout.add_room(key, Slow::Close);
        let rooms = &cx.slots.get(slot).rooms;
        if let Some(position) = rooms.position(key) {
            let place = rooms.as_slice()[position].place;
            if !cx.fanout.audience(key).group_at(place.group()).form.is_behind {
                // What has happened in this turn comes before what is the outcome of it.
                cx.fanout.catch_up(&mut cx.slots, slot, key, place);
                self.tell_present(cx, slot, key);
            }
            return;
        }
        if rooms.len() >= MEMBERSHIPS_MAX {
            let reason = "a connection that is in so many rooms cannot observe one more";
            cx.refuse(slot, ErrorCode::TooManyRooms, reason, None, Some(name));
            return self.reconcile(cx, key);
        }
        let presence = self.presence.as_mut().expect("a rule has presence");
        *presence.observing.entry(slot).or_default() += 1;
        presence.add_view(key);
        cx.fanout.join(&mut cx.slots, slot, key, false, true);
        self.admit(cx, slot, key);
        self.reconcile(cx, key);
    }

    /// The connection's SUBSCRIBE for the room has been answered: if it observes the room, it is told now who is there.
    pub(in crate::hub) fn begin_to_observe(&mut self, cx: &mut Context, slot: u32, room: u32) {
        if self.presence.as_ref().is_some_and(|presence| presence.observed_by(slot) > 0)
            && let Some(key) = self.rooms.find(&name_of(&self.rooms.get(room).name))
        {
            self.admit(cx, slot, key);
        }
    }

    /// Tells one who observes the room who is there, and from now on who comes and goes; unless that is not known yet, its SUBSCRIBE is
    /// not answered, or it is told already.
    fn admit(&mut self, cx: &mut Context, slot: u32, key: u32) {
        let rooms = &cx.slots.get(slot).rooms;
        let Some(place) = rooms.position(key).map(|position| rooms.as_slice()[position].place) else { return };
        let is_told = !cx.fanout.audience(key).group_at(place.group()).form.is_behind;
        let is_known = self.presence.as_ref().and_then(|presence| presence.views.get(&key)).is_some_and(View::is_known);
        let Some(room) = self.observed(key).and_then(|name| self.rooms.find(name)) else { return };
        let waits = self.joins.contains(slot, room) || self.histories.asking(slot, room).is_some();
        if !is_told && is_known && !waits {
            self.tell_present(cx, slot, key);
            cx.fanout.set_behind(&mut cx.slots, slot, key, false);
        }
    }

    /// Tells a client unasked who is there.
    fn tell_present(&mut self, cx: &mut Context, slot: u32, key: u32) {
        let Some(name) = self.observed(key) else { return };
        let Some(view) = self.presence.as_ref().and_then(|presence| presence.views.get(&key)) else { return };
        cx.reply(slot, |out| write_present(out, name, view, (FIRST_MAX, None), None));
    }

    /// The room beside one that is observed is a member less.
    pub(in crate::hub) fn unobserve(&mut self, cx: &mut Context, slot: u32, room: u32, rest: Rest) {
        let Some(presence) = &mut self.presence else { return };
        if presence.observing.is_empty() {
            return;
        }
        let name = &self.rooms.get(room).name;
        if room_of(name).is_some() {
            if let Some(observed) = presence.observing.get_mut(&slot) {
                *observed -= 1;
                if *observed == 0 {
                    presence.observing.remove(&slot);
                }
            }
        } else if presence.observed_by(slot) > 0
            && let Some(beside) = self.rooms.find(&name_of(name))
            && let Some(position) = cx.slots.get(slot).rooms.position(beside)
        {
            self.leave(cx, slot, position, rest);
        }
    }

    /// The connection observes the room no more, and is told why.
    pub(in crate::hub) fn end_observing(
        &mut self,
        cx: &mut Context,
        (slot, key): (u32, u32),
        (code, reason): (ErrorCode, &str),
    ) {
        let Some(name) = self.observed(key).map(Box::<str>::from) else { return };
        if let Some(position) = cx.slots.get(slot).rooms.position(key) {
            self.leave(cx, slot, position, Rest::Part);
            cx.refuse(slot, code, reason, None, Some(&name));
        }
    }

    /// A client asks who is in a room.
    pub fn presence(
        &mut self,
        cx: &mut Context,
        slot: u32,
        name: &str,
        (limit, after): (u32, Option<&str>),
        id: Option<CommandId>,
    ) {
        if !cx.slots.get(slot).dialect.has_replies() {
            return cx.refuse(slot, ErrorCode::NotSupported, "this dialect has no replies", id.as_ref(), Some(name));
        }
        if !self.has_presence(cx, slot, name, id.as_ref()) {
            return;
        }
        let beside = name_of(name);
        let key = self.rooms.find(&beside);
        // What only lingers is not subscribed to again after an outage, and so may be told of no more.
        let is_told_of = |key: u32| self.is_held(key) || !cx.fanout.audience(key).is_empty();
        let is_known = |key: &u32| {
            is_told_of(*key) && self.presence.as_ref().is_some_and(|presence| presence.views[key].is_known())
        };
        if let Some(key) = key.filter(is_known) {
            let question = Question { conn: cx.slots.id(slot), id, at: cx.now, limit, after: after.map(Box::from) };
            self.answer(cx, key, question);
            return self.linger_unobserved(cx, key);
        }
        if self.status.is_down() || self.status.publisher_down.is_some() {
            return cx.refuse(slot, ErrorCode::BrokerUnavailable, UNKNOWN, id.as_ref(), Some(name));
        }
        let presence = self.presence.as_mut().expect("a rule has presence");
        let conn = cx.slots.id(slot);
        let own = presence.askers().filter(|asker| *asker == conn).count();
        if own >= OWN_QUESTIONS_MAX || presence.askers().count() >= QUESTIONS_MAX {
            return cx.refuse(slot, ErrorCode::BrokerBusy, "too many questions wait", id.as_ref(), Some(name));
        }
        let key = self.rooms.find_or_insert(&beside, &cx.config.rules);
        cx.fanout.add_room(key, Slow::Close);
        presence.add_view(key);
        let question = Question { conn, id, at: cx.now, limit, after: after.map(Box::from) };
        presence.questions.entry(key).or_default().push(question);
        presence.asked.push_back((cx.now, key));
        self.reconcile(cx, key);
    }

    /// Goes on to know who is there for a while, because whoever asks may ask again.
    fn linger_unobserved(&mut self, cx: &mut Context, key: u32) {
        if cx.fanout.audience(key).is_empty() {
            self.linger(cx, key);
        }
    }

    fn answer(&mut self, cx: &mut Context, key: u32, question: Question) {
        let Question { conn, id, limit, after, .. } = question;
        let Some(slot) = cx.slots.listener(conn) else { return };
        let mut text = std::mem::take(&mut self.text);
        text.clear();
        let Some(name) = self.observed(key) else { return };
        let Some(view) = self.presence.as_ref().and_then(|presence| presence.views.get(&key)) else { return };
        write_present(&mut text, name, view, (limit, after.as_deref()), id.as_ref());
        match cx.limits.charge(&mut cx.slots, slot, Limit::Bytes, text.len(), cx.now) {
            // It is charged for already.
            true => drop(cx.say(slot, |out| out.extend_from_slice(&text))),
            false => {
                let reason = "more bytes a second than a connection may have read for it";
                cx.refuse(slot, ErrorCode::TooFast, reason, id.as_ref(), Some(name));
            }
        }
        self.text = text;
    }

    /// The broker cannot tell who is there.
    pub(in crate::hub) fn refuse_questions(&mut self, cx: &mut Context, key: u32, passes: bool) {
        let Some(presence) = &mut self.presence else { return };
        let questions = presence.questions.remove(&key).unwrap_or_default();
        let code = if passes { ErrorCode::BrokerUnavailable } else { ErrorCode::BrokerRefused };
        for Question { conn, id, .. } in questions {
            if let Some(slot) = cx.slots.listener(conn) {
                cx.refuse(slot, code, UNKNOWN, id.as_ref(), self.observed(key));
            }
        }
    }

    /// Refuses what has waited for too long.
    pub(super) fn refuse_overdue_questions(&mut self, cx: &mut Context) {
        while let Some(presence) = &mut self.presence
            && let Some((at, key)) = presence.asked.front().copied().filter(|(at, _)| *at + ANSWERED_WITHIN <= cx.now)
        {
            presence.asked.pop_front();
            let is_overdue = |question: &Question| question.at <= at;
            if presence.questions.get(&key).is_some_and(|questions| questions.iter().any(is_overdue)) {
                self.refuse_questions(cx, key, true);
                self.reconcile(cx, key);
            }
        }
    }

    /// The rooms of which it has asked who is there, and has not been told yet.
    pub fn presence_asked(&self, cx: &Context, slot: u32) -> impl Iterator<Item = (u32, &str)> {
        let conn = cx.slots.id(slot);
        let questions = self.presence.iter().flat_map(|presence| &presence.questions);
        let asked = questions.filter(move |(_, questions)| questions.iter().any(|question| question.conn == conn));
        asked.filter_map(|(key, _)| Some((*key, self.observed(*key)?)))
    }

    /// Refuses what the connection has asked of this room.
    pub fn withdraw_presence(&mut self, cx: &mut Context, slot: u32, key: u32) {
        let conn = cx.slots.id(slot);
        let Some(presence) = &mut self.presence else { return };
        let btree_map::Entry::Occupied(mut waiting) = presence.questions.entry(key) else { return };
        let (withdrawn, left): (Vec<_>, Vec<_>) =
            std::mem::take(waiting.get_mut()).into_iter().partition(|question| question.conn == conn);
        match left.is_empty() {
            true => drop(waiting.remove()),
            false => *waiting.get_mut() = left,
        }
        let reason = "this user may not see any more who is in this room";
        for Question { id, .. } in withdrawn {
            cx.refuse(slot, ErrorCode::Forbidden, reason, id.as_ref(), self.observed(key));
        }
        self.reconcile(cx, key);
    }

    /// The broker holds the subscription to what changes: from now on, or again.
    pub(in crate::hub) fn watch_presence(&mut self, cx: &mut Context, key: u32) {
        self.with_view(cx, key, |view, _| view.learn());
    }

    /// Of some rooms it does not any more.
    pub(in crate::hub) fn unwatch_presence(&mut self) {
        let Hub { presence: Some(presence), rooms, status, .. } = self else { return };
        for (key, view) in &mut presence.views {
            if rooms.get(*key).held_in != status.epoch {
                view.stop_learning();
            }
        }
    }

    /// The broker holds none for these rooms: whoever waits to be told who is there is told that nobody knows.
    pub(in crate::hub) fn refuse_questions_of(&mut self, cx: &mut Context, is_lost: impl Fn(&str) -> bool) {
        self.unwatch_presence();
        let waiting = self.presence.iter().flat_map(|presence| presence.questions.keys());
        let waiting: Vec<u32> = waiting.copied().filter(|key| is_lost(&self.rooms.get(*key).name)).collect();
        for key in waiting {
            self.refuse_questions(cx, key, true);
            self.reconcile(cx, key);
        }
    }

    /// What changed.
    pub(in crate::hub) fn hear_presence(&mut self, cx: &mut Context, key: u32, payload: &[u8]) {
        let Some(change) = Change::parse(payload) else {
            cx.metrics.messages_forged += 1;
            return;
        };
        let now = cx.now;
        cx.metrics.presence_changes += 1;
        self.with_view(cx, key, |view, news| view.hear(&change, now, news));
    }

    /// A part of those who are there.
    pub(in crate::hub) fn read_roster(&mut self, cx: &mut Context, id: PresenceId, page: &RosterPage) {
        let Some(presence) = &mut self.presence else { return };
        let Some(Outstanding::Read(key, course)) = presence.take(id) else { return };
        let now = cx.now;
        if presence.has_view(key, course) {
            self.with_view(cx, key, |view, news| view.read(page, now, news));
        }
        self.ask_presence(cx);
    }

    /// Changes the view, tells those who observe the room what is new, and does what is to be done.
    fn with_view(
        &mut self,
        cx: &mut Context,
        key: u32,
        change: impl FnOnce(&mut View, &mut dyn FnMut(News<'_>)) -> Next,
    ) {
        let Hub { presence: Some(presence), rooms, text, .. } = self else { return };
        let Some(view) = presence.views.get_mut(&key) else { return };
        let Some(name) = room_of(&rooms.get(key).name) else { return };
        let mut is_replaced = false;
        let next = change(view, &mut |news| {
            text.clear();
            match news {
                News::Joined(user, info) => reply::joined(text, name, user, info),
                News::Left(user) => reply::left(text, name, user),
                News::Replaced => {
                    is_replaced = true;
                    return;
                }
            }
            cx.metrics.presence_announced += 1;
            cx.fanout.announce((&mut cx.slots, &mut cx.metrics), key, text, None);
        });
        if is_replaced {
            text.clear();
            write_present(text, name, view, (FIRST_MAX, None), None);
            cx.fanout.announce((&mut cx.slots, &mut cx.metrics), key, text, None);
        }
        if presence.note(key, next) {
            self.become_known(cx, key);
        }
        self.ask_presence(cx);
    }

    /// It is known who is there: whoever waits for that is told.
    fn become_known(&mut self, cx: &mut Context, key: u32) {
        let behind = |group: &&Group| group.form.is_behind;
        let waiting = cx.fanout.audience(key).groups().filter(behind).flat_map(Group::members);
        let waiting: Vec<u32> = waiting.map(|conn| conn.slot() as u32).collect();
        for slot in waiting {
            self.admit(cx, slot, key);
        }
        let Some(presence) = &mut self.presence else { return };
        let questions = presence.questions.remove(&key).unwrap_or_default();
        if !questions.is_empty() {
            self.linger_unobserved(cx, key);
        }
        for question in questions {
            self.answer(cx, key, question);
        }
    }
}

impl super::Presence {
    fn add_view(&mut self, key: u32) {
        if !self.views.contains_key(&key) {
            self.views.insert(key, View::new(self.next_serial, self.users_max));
            self.next_serial += 1;
        }
    }
}

/// Appends a `PRESENT`: so many users behind this one, or only how many there are.
fn write_present(
    out: &mut Vec<u8>,
    name: &str,
    view: &View,
    (limit, after): (u32, Option<&str>),
    id: Option<&CommandId>,
) {
    let (total, users) = view.users(after);
    let Some(users) = users else { return reply::present_total(out, name, id, total) };
    let mut users = users.peekable();
    let (mut told, mut bytes) = (Vec::new(), 0);
    while told.len() < limit as usize
        && bytes < ANSWER_BYTES_MAX
        && let Some(user) = users.next()
    {
        bytes += user.0.len() + user.2.len();
        told.push(user);
    }
    reply::present(out, name, id, told.into_iter(), (total, users.peek().is_some()));
}
