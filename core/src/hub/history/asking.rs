//! Questions to the broker about rooms' histories, and what becomes of the answers.

use super::super::Hub;
use super::keeper::Behind;
use super::reads::{Asked, Purpose, Question};
use crate::broker::{ReadId, envelope};
use crate::context::Context;
use crate::fanout::Rest;
use crate::history::{Continuity, Epoch, Page, Part, Position, Query, Removal, Retention};
use crate::limits::meter::Limit;
use crate::protocol::command::HistoryFrom;
use crate::protocol::reply::Told;
use crate::protocol::{CommandId, ErrorCode, reply};
use std::borrow::Cow;

/// Bytes of messages in the answer to a `HISTORY`, at most.
const ANSWER_BYTES_MAX: u64 = 256 * 1024;

/// `HISTORY` commands are refused while so many of them wait for a place among those in flight: half a megabyte.
const HISTORIES_WAITING_MAX: usize = 4_096;

/// What clients are told where a room's history is out of reach.
const UNAVAILABLE: &str = "the room's history is not available";

impl Hub {
    /// Asks what there are places for.
    pub(in crate::hub) fn ask_reads(&mut self, cx: &Context) {
        if self.status.publisher_down.is_some() {
            return;
        }
        while let Some((id, question)) = self.histories.reads.next() {
            let (name, retention) = match &question.purpose {
                Purpose::History(asked) => (&*asked.room, retention_of(cx, &asked.room)),
                Purpose::Learn(serial, _) | Purpose::Resume(serial, _) | Purpose::Page(serial) => {
                    let is_there =
                        self.histories.keepers.get(&question.room).is_some_and(|keeper| keeper.serial == *serial);
                    if !is_there {
                        self.histories.reads.take(id);
                        continue;
                    }
                    let room = self.rooms.get(question.room);
                    (&*room.name, room.rule.and_then(|rule| cx.config.rules.get(rule)?.history))
                }
            };
            match retention {
                Some(retention) => self.asks.push_read(id, name, question.query, retention),
                None => drop(self.histories.reads.take(id)),
            }
        }
    }

    /// The publishing connection is there again, or is gone.
    pub(in crate::hub) fn void_reads(&mut self, cx: &mut Context) {
        self.asks.void_reads();
        for asked in self.histories.reads.void() {
            refuse(cx, &asked, ErrorCode::BrokerUnavailable);
        }
    }

    /// Time has passed.
    pub(in crate::hub) fn history_timeout(&mut self, cx: &mut Context) {
        self.histories.reads.timeout(cx.now);
        self.ask_reads(cx);
        self.replay(cx);
    }

    /// An answer.
    pub(in crate::hub) fn read(&mut self, cx: &mut Context, id: ReadId, page: &Page) {
        let Some(Question { room, purpose, query }) = self.histories.reads.take(id) else { return };
        let is_wanted = self.is_wanted(room, &purpose);
        match purpose {
            Purpose::History(asked) => self.answer_history(cx, *asked, page),
            _ if !is_wanted => {}
            // While the subscription is lost nobody becomes a member. With the next one it is asked again.
            Purpose::Learn(..) if self.is_held(room) => self.learned(cx, room, page),
            Purpose::Learn(..) => {}
            Purpose::Resume(_, place) => self.resumed(cx, room, place, page),
            Purpose::Page(_) => self.paged(cx, room, query.part, page),
        }
        self.ask_reads(cx);
    }

    /// There is no answer; where that `passes`, it is asked again.
    pub(in crate::hub) fn read_failed(&mut self, cx: &mut Context, id: ReadId, passes: bool) {
        let Some(question) = self.histories.reads.take(id) else { return };
        match &question.purpose {
            Purpose::History(asked) => {
                let code = if passes { ErrorCode::BrokerUnavailable } else { ErrorCode::HistoryUnavailable };
                refuse(cx, asked, code);
            }
            purpose if self.is_wanted(question.room, purpose) => {
                if !passes {
                    self.give_up_waiting(cx, question.room);
                }
                self.histories.reads.ask_later(question, cx.now);
            }
            _ => {}
        }
        self.ask_reads(cx);
    }

    /// Whether the answer still matters: the room may be another by now, or have been asked about anew.
    fn is_wanted(&self, room: u32, purpose: &Purpose) -> bool {
        let keeper = self.histories.keepers.get(&room);
        keeper.is_some_and(|keeper| match purpose {
            Purpose::Learn(serial, asked) => (keeper.serial, keeper.asked) == (*serial, *asked),
            Purpose::Resume(serial, _) | Purpose::Page(serial) => keeper.serial == *serial,
            Purpose::History(_) => false,
        })
    }

    /// The broker does not tell: whoever waits to become a member is told so, and may try again. Members stay.
    fn give_up_waiting(&mut self, cx: &mut Context, room: u32) {
        let Some(keeper) = self.histories.keepers.get(&room) else { return };
        let asking: Vec<(u32, Option<CommandId>)> = keeper
            .behind
            .iter()
            .filter_map(|(slot, behind)| match behind {
                Behind::Asking { id, .. } => Some((*slot, id.clone())),
                Behind::Replaying { .. } => None,
            })
            .collect();
        let waiting = self.take_waiting(cx, room);
        let name = self.rooms.get(room).name.clone();
        for (slot, id) in asking.into_iter().chain(waiting.into_iter().map(|(slot, id, _)| (slot, id))) {
            let Some(position) = cx.slots.get(slot).rooms.position(room) else { continue };
            self.leave(cx, slot, position, Rest::Part);
            match cx.slots.get(slot).dialect.has_replies() {
                true => cx.refuse(slot, ErrorCode::HistoryUnavailable, UNAVAILABLE, id.as_ref(), Some(&name)),
                false => drop(self.histories.missed.insert(slot)),
            }
        }
    }

    /// A client reads a part of a room's history.
    pub fn history(
        &mut self,
        cx: &mut Context,
        slot: u32,
        (name, from, epoch, limit): (&str, HistoryFrom, Option<Epoch>, u32),
        id: Option<CommandId>,
    ) {
        if !cx.slots.get(slot).dialect.has_replies() {
            // Nobody would be told what the broker was asked for.
            return cx.refuse(slot, ErrorCode::NotSupported, "this dialect has no replies", id.as_ref(), Some(name));
        }
        if retention_of(cx, name).is_none() {
            let reason = "this room keeps no history";
            return cx.refuse(slot, ErrorCode::HistoryUnavailable, reason, id.as_ref(), Some(name));
        }
        let asked = Asked { conn: Some(cx.slots.id(slot)), id, room: name.into(), from, epoch, limit };
        if self.status.publisher_down.is_some() {
            return refuse(cx, &asked, ErrorCode::BrokerUnavailable);
        }
        if self.histories.reads.histories_waiting() >= HISTORIES_WAITING_MAX {
            return refuse(cx, &asked, ErrorCode::BrokerBusy);
        }
        self.histories.reads.push(asked.question());
        self.ask_reads(cx);
    }

    /// The rooms of which it has asked for a part of the history, and has not been told yet.
    pub fn histories_asked(&self, cx: &Context, slot: u32) -> impl Iterator<Item = &str> {
        self.histories.reads.asked_by(cx.slots.id(slot))
    }

    /// Refuses what the connection has asked of the histories of rooms of which it `is_withdrawn`, and which it has not been told yet.
    pub fn withdraw_histories(&mut self, cx: &mut Context, slot: u32, is_withdrawn: impl Fn(&str) -> bool) {
        for Asked { id, room, .. } in self.histories.reads.withdraw(cx.slots.id(slot), is_withdrawn) {
            let reason = "this user may not read this room's history any more";
            cx.refuse(slot, ErrorCode::Forbidden, reason, id.as_ref(), Some(&room));
        }
    }

    fn answer_history(&mut self, cx: &mut Context, mut asked: Asked, page: &Page) {
        let Some(slot) = asked.slot(cx) else { return };
        let known =
            self.rooms.find(&asked.room).map_or(Some(Cow::Borrowed(page)), |room| self.histories.amended(room, page));
        // What has been removed since it was read must not be told any more. Nor must a page from which all is taken out, because that says
        // that nothing is kept there.
        let Some(page) = known.filter(|known| known.entries.is_empty() == page.entries.is_empty()) else {
            return self.histories.reads.push(asked.question());
        };
        let epoch = page.last.epoch;
        if let (HistoryFrom::After(_), None) = (asked.from, asked.epoch) {
            // Which epoch it is had to be asked first.
            asked.epoch = Some(epoch);
            return self.histories.reads.push(asked.question());
        }
        let Asked { id, room, from, .. } = &asked;
        let is_unknown = match from {
            HistoryFrom::After(_) => matches!(page.continuity, Continuity::Fenced(_) | Continuity::Unknown),
            HistoryFrom::Before(_) | HistoryFrom::Newest => asked.epoch.is_some_and(|asked| asked != epoch),
        };
        if is_unknown {
            let reason = "the room's history has another epoch now";
            return cx.refuse(slot, ErrorCode::EpochUnknown, reason, id.as_ref(), Some(room));
        }
        let bytes: usize = page.entries.iter().map(|entry| entry.payload.len()).sum();
        if !cx.limits.charge(&mut cx.slots, slot, Limit::Bytes, bytes, cx.now) {
            let reason = "more bytes a second than a connection may have read for it";
            return cx.refuse(slot, ErrorCode::TooFast, reason, id.as_ref(), Some(room));
        }
        let more = match (from, page.entries.first(), page.entries.last()) {
            (HistoryFrom::After(_), _, Some(last)) => last.offset < page.last.offset,
            (HistoryFrom::Before(_) | HistoryFrom::Newest, Some(first), _) => first.offset > page.first,
            _ => false,
        };
        let messages = page.entries.iter().filter_map(|entry| {
            let text = envelope::open_sent(room, &entry.payload).ok()?.text;
            let told = match Removal::of_payload(text) {
                Some(removal) => Told::Removal(removal),
                None => Told::Message(reply::said(text)?),
            };
            Some((entry.offset, entry.time_ms, told))
        });
        cx.reply(slot, |out| reply::history(out, room, id.as_ref(), epoch, messages, more));
    }
}

impl Asked {
    /// Who waits for the answer.
    fn slot(&self, cx: &Context) -> Option<u32> {
        cx.slots.listener(self.conn?)
    }

    fn question(self) -> Question {
        let query = self.query();
        Question { room: u32::MAX, purpose: Purpose::History(Box::new(self)), query }
    }

    fn query(&self) -> Query {
        let part = match (self.from, self.epoch) {
            (HistoryFrom::After(_), None) => return Query { part: Part::Newest, messages_max: 0, bytes_max: 0 },
            (HistoryFrom::After(offset), Some(epoch)) => Part::After(Position { epoch, offset }),
            (HistoryFrom::Before(offset), _) => Part::Before(offset),
            (HistoryFrom::Newest, _) => Part::Newest,
        };
        Query { part, messages_max: self.limit, bytes_max: ANSWER_BYTES_MAX }
    }
}

/// Tells a client that what it has asked cannot be answered.
fn refuse(cx: &mut Context, asked: &Asked, code: ErrorCode) {
    if let Some(slot) = asked.slot(cx) {
        cx.refuse(slot, code, UNAVAILABLE, asked.id.as_ref(), Some(&asked.room));
    }
}

/// What a room of this name keeps.
fn retention_of(cx: &Context, name: &str) -> Option<Retention> {
    cx.config.rules.get(cx.config.rules.find(name)?)?.history
}
