//! What one connection of a client has asked for and been told, judged against the reference: membership, order, gaps, replies.

mod kept;
mod known;
mod leaving;
mod there;

use crate::network::{Network, WireId};
use crate::options::{Fault, Options};
use crate::reference::{Incarnation, Key, Origin, Owed, Place, ReadTo, Reference, Told};
use fanfare_core::history::Position;
use std::collections::{BTreeMap, BTreeSet};

use kept::Course;
pub use kept::{Gap, HistoryAsk, Message, Page, Part, Start};
use there::There;
pub use there::WhoAsk;

/// What a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Commands, replies, and messages with a room.
    Fanfare,
    /// Commands without replies, messages bare.
    Classic,
    /// No commands: one room.
    Broadcast,
}

/// What was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// To be a member; whether another such ask was waiting then, and where it wants to begin.
    Subscribe(usize, bool, Start),
    /// Who is in a room.
    Who(usize, WhoAsk),
    /// For a part of a room's history.
    History(usize, HistoryAsk),
    /// To be none; how far the instance had read when it was asked, and how many messages the room had had.
    Unsubscribe(usize, Place, usize),
    /// To publish.
    Send(Key),
    /// For a sign of life.
    Ping,
    /// To be known by a credential.
    Auth(String),
}

#[derive(Clone, Debug)]
struct Asked {
    ask: Ask,
    at: u64,
    /// The place behind it in what the client says.
    end: u64,
    /// Its number among all that was asked.
    number: u64,
    /// Bytes that it inflates to beyond its own.
    inflates: u64,
}

/// How the client stands with a room, as far as it was told.
#[derive(Clone, Debug, Default)]
struct Seat {
    is_member: bool,
    /// The message that comes next of each origin, once there was one in this membership.
    next: BTreeMap<Origin, usize>,
    /// What stands before in the room's order need not come, nor what its instance has read before.
    from: (usize, ReadTo),
    /// One behind the last message of each origin that came in any membership.
    behind: BTreeMap<Origin, usize>,
    /// The number of its last request to leave.
    left: Option<u64>,
    /// A client without replies: it has asked to be a member, and not since been sure that it is none.
    may_be_member: bool,
    /// Since when it has asked to be a member, and not asked to leave or been refused since.
    joining_since: Option<u64>,
    /// The place behind that in what the client says.
    joining_end: u64,
    /// It has asked to leave and not been sure of it before it came back: what comes may be of either membership.
    is_mixed: bool,
    /// In a room with history.
    course: Course,
    there: There,
}

/// With so much memory for histories no instance lets go of what waits.
const HOLDS_ALL_BYTES: usize = 1 << 20;

/// The end of what is asked and has only begun.
pub const UNFINISHED: u64 = u64::MAX;

/// One connection, as the client sees it.
#[derive(Debug)]
pub struct View {
    /// Its number among all connections.
    pub session: u64,
    /// The instance that has accepted it.
    pub incarnation: Option<Incarnation>,
    wire: WireId,
    client: usize,
    dialect: Dialect,
    /// How many removals clients had been told of when it connected.
    pub removals_told: usize,
    seats: Vec<Seat>,
    /// Rooms of which it asks who is there.
    observed: BTreeSet<usize>,
    asked: BTreeMap<u64, Asked>,
    without_id: Vec<Asked>,
    asks: u64,
    /// What it has sent to each room since it asked to be a member, behind how many asks, and was not told that it is one.
    sent: Vec<(usize, u64, Key)>,
    /// Commands that were none, and are not answered yet.
    pub nonsense: u64,
    /// Messages that came.
    pub delivered: u64,
    /// Bytes that have been inflated for what was answered, beyond what it had itself.
    pub inflated: u64,
    is_quiet: bool,
    /// Clients are asked who they are, and not all may do everything.
    is_guarded: bool,
    refuses_subscribe: bool,
    is_tight: bool,
    /// Messages can make too many deliveries.
    limits_deliveries: bool,
    /// Bytes can be too many.
    limits_bytes: bool,
    /// Instances have memory for all that waits in rooms with history.
    holds_all: bool,
    /// Rooms in which it is kept who is there.
    present: Vec<bool>,
    /// In a room with more users than these nobody is told who they are.
    named_max: u64,
}

impl View {
    /// A connection that has asked for nothing.
    pub fn new(session: u64, wire: WireId, client: usize, dialect: Dialect, options: &Options) -> View {
        let refuses_subscribe = options.has(Fault::RedisRefusesSubscribe);
        View {
            session,
            incarnation: None,
            wire,
            client,
            dialect,
            removals_told: 0,
            seats: vec![Seat::default(); options.rooms],
            observed: BTreeSet::new(),
            asked: BTreeMap::new(),
            without_id: Vec::new(),
            asks: 0,
            sent: Vec::new(),
            nonsense: 0,
            delivered: 0,
            inflated: 0,
            is_quiet: options.is_quiet(),
            is_guarded: options.identities.is_some(),
            refuses_subscribe,
            is_tight: options.is_tight(),
            limits_deliveries: options.core.limits.deliveries.is_limited(),
            limits_bytes: options.core.limits.bytes.is_limited(),
            holds_all: options.core.history.memory_bytes_max >= HOLDS_ALL_BYTES,
            present: options.presence.as_ref().map(|presence| presence.kept.clone()).unwrap_or_default(),
            named_max: options.core.presence.users_max.into(),
        }
    }

    /// Notes what is asked; in what the client says it ends at `end`, and it inflates to so many bytes more.
    pub fn ask(&mut self, id: Option<u64>, ask: Ask, (end, inflates): (u64, u64), now: u64) {
        self.asks += 1;
        let number = self.asks;
        match ask {
            Ask::Subscribe(room, ..) => {
                let seat = &mut self.seats[room];
                seat.may_be_member = true;
                if seat.joining_since.is_none() {
                    (seat.joining_since, seat.joining_end) = (Some(now), end);
                }
                if self.dialect != Dialect::Fanfare {
                    seat.left = None;
                }
            }
            Ask::Unsubscribe(room, ..) => {
                let seat = &mut self.seats[room];
                (seat.left, seat.is_mixed, seat.joining_since) = (Some(number), true, None);
                // That ends its waiting, too.
                self.sent.retain(|(of, ..)| *of != room);
            }
            _ => {}
        }
        if self.dialect != Dialect::Fanfare {
            return;
        }
        let asked = Asked { ask, at: now, end, number, inflates };
        match id {
            Some(id) => assert!(self.asked.insert(id, asked).is_none(), "ids are used once"),
            None if matches!(asked.ask, Ask::Send(_)) => {}
            None => self.without_id.push(asked),
        }
    }

    /// What had begun has come to an end there.
    pub fn ends(&mut self, end: u64) {
        for asked in self.asked.values_mut().chain(&mut self.without_id).filter(|asked| asked.end == UNFINISHED) {
            asked.end = end;
        }
        for seat in self.seats.iter_mut().filter(|seat| seat.joining_end == UNFINISHED) {
            seat.joining_end = end;
        }
    }

    /// What it has asked for up to `end` of what it says, and was not told, but for memberships: a broker that is away gives none.
    pub fn unanswered_before(&self, end: u64) -> Option<&Ask> {
        let asked = self.asked.values().chain(&self.without_id).filter(|asked| asked.end <= end);
        asked.map(|asked| &asked.ask).find(|ask| !matches!(ask, Ask::Subscribe(..) | Ask::Auth(_)))
    }

    /// Since when it has asked to be a member of the room, unless it has left since.
    pub fn joining_since(&self, room: usize) -> Option<u64> {
        self.seats[room].joining_since
    }

    /// It has sent a message to a room.
    pub fn sent(&mut self, room: usize, key: Key) {
        if self.seats[room].joining_since.is_some() {
            self.sent.push((room, self.asks, key));
        }
    }

    /// It is a member of the room, and has been since it asked to be: what it sent behind that must not have overtaken it.
    fn check_sent(&mut self, room: usize, asked: u64, reference: &Reference) -> Result<(), String> {
        let mut sent = self.sent.iter().filter(|(of, number, _)| *of == room && *number >= asked);
        if let Some((_, _, key)) = sent.find(|(_, _, key)| reference.is_early(*key)) {
            return Err(format!("{key:?} was handed on before the SUBSCRIBE before it was confirmed"));
        }
        if self.dialect == Dialect::Fanfare {
            self.sent.retain(|(of, ..)| *of != room);
        }
        Ok(())
    }

    /// Whether it can be told of gaps.
    pub fn speaks_of_history(&self) -> bool {
        self.dialect == Dialect::Fanfare
    }

    /// Whether a SUBSCRIBE for the room waits.
    pub fn waits_for(&self, room: usize) -> bool {
        let waits = |asked: &Asked| matches!(asked.ask, Ask::Subscribe(of, ..) if of == room);
        self.asked.values().any(waits) || self.without_id.iter().any(waits)
    }

    /// The number of its last request to leave a room, if it has not come back since.
    pub fn left(&self, room: usize) -> Option<u64> {
        self.seats[room].left
    }

    /// What has no answer yet, for people.
    pub fn unanswered(&self) -> String {
        format!("{:?} {:?}", self.asked, self.without_id)
    }

    /// Whether anything with an id has no answer yet.
    pub fn waits(&self) -> bool {
        !self.asked.is_empty()
    }

    /// Whether it was told that it is a member, or, where nothing is told, has asked to be one.
    pub fn is_member(&self, room: usize) -> bool {
        match self.dialect {
            Dialect::Fanfare => self.seats[room].is_member,
            _ => self.seats[room].may_be_member,
        }
    }

    /// Whether this message of the room has come, or one behind it.
    pub fn has_come(&self, room: usize, index: usize, reference: &Reference) -> bool {
        self.seats[room].behind.get(&reference.origin(room, index)).is_some_and(|behind| *behind > index)
    }

    fn answered(&mut self, id: u64) -> Option<Asked> {
        let asked = self.asked.remove(&id)?;
        self.inflated += asked.inflates;
        Some(asked)
    }

    fn take(&mut self, id: Option<u64>, is: impl Fn(&Ask) -> bool) -> Option<Asked> {
        match id {
            Some(id) => self.answered(id).filter(|asked| is(&asked.ask)),
            None => {
                let at = self.without_id.iter().position(|asked| is(&asked.ask))?;
                Some(self.without_id.remove(at))
            }
        }
    }

    /// `SUBSCRIBED`; where it begins in a room with history, and whether all that it has missed follows. If the instance did not act upon the
    /// request when it had read it, how far it had read Redis when it did.
    ///
    /// # Errors
    /// If nobody asked, or the broker did not confirm.
    pub fn subscribed(
        &mut self,
        room: usize,
        id: Option<u64>,
        (place, recovered, request): (Option<Position>, Option<bool>, Option<Place>),
        reference: &Reference,
        network: &Network,
    ) -> Result<(), String> {
        let is_asked = |ask: &Ask| matches!(ask, Ask::Subscribe(of, ..) if *of == room);
        let asked = self.take(id, is_asked).ok_or("SUBSCRIBED, and nobody asked")?;
        let incarnation = self.incarnation.ok_or("SUBSCRIBED by nobody")?;
        if !reference.was_held(incarnation, room, asked.at, network) {
            return Err("SUBSCRIBED, and the broker has not confirmed it".to_owned());
        }
        // Whoever has left since, and asked again, waits for another answer than this.
        if self.seats[room].left.is_none_or(|left| left < asked.number) {
            self.check_sent(room, asked.number, reference)?;
        }
        let from = match request {
            Some(request) => reference.owed_behind(room, incarnation, request, network),
            None => reference.owed_from(room, incarnation, (self.wire, asked.end), network)?,
        };
        if let Ask::Subscribe(_, _, start) = asked.ask {
            self.begins(room, start, (place, recovered), reference)?;
        }
        let seat = &mut self.seats[room];
        if !seat.is_member {
            (seat.is_member, seat.next, seat.from) = (true, BTreeMap::new(), from);
        }
        Ok(())
    }

    /// `UNSUBSCRIBED`, with a code where it comes unasked.
    ///
    /// # Errors
    /// If nobody asked, or something that came before it for the instance did not come to the client.
    pub fn unsubscribed(
        &mut self,
        room: usize,
        id: Option<u64>,
        code: Option<&str>,
        reference: &Reference,
        network: &Network,
    ) -> Result<(), String> {
        if let Some(code) = code {
            // Whether it may be in the room is judged before.
            let is_withdrawn = self.is_guarded && code == "forbidden";
            if is_withdrawn {
                // Without an id it is not told twice.
                self.without_id.retain(|asked| !matches!(asked.ask, Ask::Subscribe(of, ..) if of == room));
            } else if !(self.refuses_subscribe && code == "broker_refused") {
                return Err("UNSUBSCRIBED unasked, and the broker refuses nothing".to_owned());
            }
        } else {
            let asked = self.take(id, |ask| matches!(ask, Ask::Unsubscribe(of, ..) if *of == room));
            let asked = asked.ok_or("UNSUBSCRIBED, and nobody asked")?;
            // Without an id, a SUBSCRIBE that it undoes is not answered.
            self.without_id.retain(|other| {
                !matches!(other.ask, Ask::Subscribe(of, ..) if of == room) || other.number > asked.number
            });
            if let Ask::Unsubscribe(_, place, len) = asked.ask
                && !reference.lives.keeps(room)
            {
                self.check_gap(room, (None, len), Some(place), reference, network)?;
            }
        }
        self.check_told(room, reference)?;
        self.seats[room].is_member = false;
        self.seats[room].next.clear();
        Ok(())
    }

    /// A client without replies is sure now that it has left, if it has not come back since.
    pub fn has_left(&mut self, room: usize, left: u64) {
        let seat = &mut self.seats[room];
        if seat.left == Some(left) {
            (seat.may_be_member, seat.is_mixed, seat.next) = (false, false, BTreeMap::new());
            seat.course.at = None;
        }
    }

    /// A message, with its offset where it has one.
    ///
    /// # Errors
    /// If the client should not get it, or should have got others before it.
    pub fn message(
        &mut self,
        room: usize,
        (text, offset): (&str, Option<u64>),
        reference: &Reference,
        network: &Network,
    ) -> Result<(), String> {
        let key = Reference::key_of(text)?;
        let sent = reference.sent(key).ok_or_else(|| format!("{key:?} was never sent"))?;
        let index = sent.published.ok_or_else(|| format!("{key:?} comes and was not published"))?;
        if sent.room != room {
            return Err(format!("{key:?} comes in room {room} and was sent to {}", sent.room));
        }
        if !self.is_member(room) {
            return Err(format!("{key:?} comes to somebody who is not in room {room}"));
        }
        if reference.lives.keeps(room) {
            self.kept_message((room, key, index), offset, reference, network)?;
            self.seats[room].behind.insert(reference.origin(room, index), index + 1);
            self.delivered += 1;
            return Ok(());
        }
        if offset.is_some() {
            return Err("an offset in a room without history".to_owned());
        }
        if sent.session == self.session && !sent.echo {
            return Err(format!("{key:?} comes back to its sender, who did not want it"));
        }
        let origin = reference.origin(room, index);
        let behind = self.seats[room].behind.get(&origin).copied().unwrap_or(0);
        let is_late = |of| reference.may_come_late(room, (index, behind - 1), of, network);
        if index < behind && self.incarnation.is_some_and(is_late) {
            self.delivered += 1;
            return Ok(());
        }
        if index < behind {
            return Err(format!("{key:?}, number {index} of room {room}, comes behind number {}", behind - 1));
        }
        // Nobody tells it that it is a member. It is one by what it has asked for last if its instance had that before it had the message.
        let asked = (self.wire, self.seats[room].joining_end);
        if self.dialect != Dialect::Fanfare
            && !self.refuses_subscribe
            && self.incarnation.is_some_and(|of| reference.is_read_behind((room, index), of, asked, network))
        {
            self.check_sent(room, 0, reference)?;
        }
        if self.dialect == Dialect::Fanfare || self.seats[room].next.contains_key(&origin) && !self.seats[room].is_mixed
        {
            self.check_gap(room, (Some(origin), index), None, reference, network)?;
        }
        let seat = &mut self.seats[room];
        if self.dialect != Dialect::Fanfare && seat.is_mixed {
            seat.next.clear();
        } else {
            seat.next.insert(origin, index + 1);
        }
        seat.behind.insert(origin, index + 1);
        self.delivered += 1;
        Ok(())
    }

    /// Whether everything before `until` that is owed has come: of all origins, or of one, since what comes of another is not in order with it.
    fn check_gap(
        &self,
        room: usize,
        (origin, until): (Option<Origin>, usize),
        place: Option<Place>,
        reference: &Reference,
        network: &Network,
    ) -> Result<(), String> {
        let seat = &self.seats[room];
        let Some(incarnation) = self.incarnation.filter(|_| self.is_member(room)) else {
            return Ok(());
        };
        let next = |of: &Origin| seat.next.get(of).copied().unwrap_or(seat.from.0);
        let first = origin.map_or_else(|| seat.next.values().copied().min(), |origin| Some(next(&origin)));
        for index in first.unwrap_or(seat.from.0)..until {
            let of = reference.origin(room, index);
            let is_told = self.dialect == Dialect::Fanfare || seat.next.contains_key(&of);
            if !is_told || index < next(&of) || origin.is_some_and(|origin| origin != of) {
                continue;
            }
            let key = reference.key(room, index);
            let sent = reference.sent(key).expect("what is published was sent");
            if sent.session == self.session && !sent.echo {
                continue;
            }
            match reference.owed((room, index), incarnation, (seat.from.1, place), network) {
                Owed::No => {}
                Owed::Yes => return Err(format!("{key:?}, number {index} of room {room}, has not come")),
                Owed::GivenUp => {
                    return Err(format!("{key:?}, number {index} of room {room}: no subscription, and no outage"));
                }
            }
        }
        Ok(())
    }

    /// Whether everything has come, now that nothing is on its way.
    ///
    /// # Errors
    /// What has not.
    pub fn check_all(&mut self, reference: &Reference, network: &Network) -> Result<(), String> {
        for room in 0..self.seats.len() {
            if reference.lives.keeps(room) {
                self.check_caught_up(room, reference)?;
                self.check_unstored(room, (None, reference.len(room)), reference, network)?;
                continue;
            }
            let seat = &self.seats[room];
            let counts = match self.dialect {
                Dialect::Fanfare => seat.is_member,
                _ => !seat.next.is_empty() && !seat.is_mixed,
            };
            if counts {
                self.check_gap(room, (None, reference.len(room)), None, reference, network)?;
            }
        }
        if !self.asked.is_empty() {
            return Err(format!("not answered: {:?}", self.asked));
        }
        Ok(())
    }

    /// `ACK`, with the message's place where it is stored.
    ///
    /// # Errors
    /// If nobody asked, or it is not so.
    pub fn acked(&mut self, id: u64, place: Option<Position>, reference: &mut Reference) -> Result<(), String> {
        match self.answered(id).map(|asked| asked.ask) {
            Some(Ask::Send(key)) => {
                reference.check_published(key, place)?;
                reference.told(key, Told::Acked)
            }
            other => Err(format!("ACK to {other:?}")),
        }
    }

    /// `PONG`.
    ///
    /// # Errors
    /// If nobody asked.
    pub fn ponged(&mut self, id: Option<u64>) -> Result<(), String> {
        self.take(id, |ask| *ask == Ask::Ping).map(drop).ok_or_else(|| "PONG, and nobody asked".to_owned())
    }

    /// `ERROR`.
    ///
    /// # Errors
    /// If there is no reason for it.
    pub fn refused(
        &mut self,
        code: &str,
        id: Option<u64>,
        room: Option<usize>,
        reference: &mut Reference,
    ) -> Result<(), String> {
        let is_malformed =
            matches!(code, "bad_json" | "unknown_type" | "missing_field" | "bad_field" | "binary_not_supported");
        if id.is_none() && is_malformed && self.nonsense > 0 {
            self.nonsense -= 1;
            return Ok(());
        }
        let asked = match (id, room) {
            (Some(id), _) => self.answered(id),
            (None, Some(_)) if code == "too_fast" && self.limits_deliveries => return Ok(()),
            // Told although it cannot say which.
            (None, Some(_)) if code == "broker_busy" && self.is_tight => return Ok(()),
            (None, Some(room))
                if matches!(code, "refused" | "hook_unavailable") && reference.has_refused(self.session, room) =>
            {
                return Ok(());
            }
            (None, Some(room)) if self.is_guarded => {
                let asked = self.take(None, |ask| matches!(ask, Ask::Subscribe(of, ..) if *of == room));
                // For rooms that come with its credential nobody has asked.
                let is_put = code == "broker_refused" && self.refuses_subscribe || code == "history_unavailable";
                if asked.is_none() && is_put {
                    (self.seats[room].is_member, self.seats[room].next) = (false, BTreeMap::new());
                    return Ok(());
                }
                // Whether that is so is judged before.
                if asked.is_none() && code == "forbidden" {
                    return Ok(());
                }
                asked
            }
            // One that has to wait for an earlier one, where it is that.
            (None, Some(room)) => self.take(None, |ask| match ask {
                Ask::Subscribe(of, waits, _) => *of == room && (*waits || code != "pending"),
                _ => false,
            }),
            (None, None) => None,
        };
        let Some(Asked { ask, number, .. }) = asked else { return Err(format!("ERROR {code}, and nobody asked")) };
        match (ask, code) {
            (Ask::Subscribe(_, true, _), "pending") => Ok(()),
            // It waits for its user's own room already, or has been put there.
            (Ask::Subscribe(..), "pending") if self.is_guarded => Ok(()),
            // Whether that is so is judged before.
            (Ask::Auth(_), _) => Ok(()),
            (Ask::Subscribe(..) | Ask::History(..) | Ask::Who(..), code) if self.is_guarded && is_denied(code) => {
                Ok(())
            }
            (Ask::Who(room, _), "presence_unavailable") if !self.present.get(room).is_some_and(|is_kept| *is_kept) => {
                Ok(())
            }
            (Ask::Who(..), "broker_unavailable" | "broker_busy") if !self.is_quiet => Ok(()),
            (Ask::Who(..), "too_fast") if self.limits_bytes => Ok(()),
            (Ask::Send(key), code) if self.is_guarded && is_denied(code) => reference.told(key, Told::Refused),
            (Ask::Subscribe(room, ..), "cancelled") if self.seats[room].left.is_some_and(|left| left > number) => {
                Ok(())
            }
            (Ask::Subscribe(room, ..), code @ ("broker_refused" | "history_unavailable"))
                if code == "broker_refused" && self.refuses_subscribe
                    || code == "history_unavailable" && !self.is_quiet && reference.lives.keeps(room) =>
            {
                // Who had been a member before an outage is none any more.
                let seat = &mut self.seats[room];
                (seat.is_member, seat.next, seat.joining_since) = (false, BTreeMap::new(), None);
                Ok(())
            }
            (Ask::Send(key), "broker_unavailable" | "broker_busy" | "broker_refused") if !self.is_quiet => {
                reference.told(key, Told::Refused)
            }
            (Ask::Send(key), "history_unavailable") if !self.is_quiet && reference.place_of(key).is_none() => {
                reference.told(key, Told::Refused)
            }
            (Ask::Send(key), "refused" | "hook_unavailable")
                if reference.sent(key).is_some_and(|sent| sent.is_refused) =>
            {
                reference.told(key, Told::Refused)
            }
            (Ask::History(..), "broker_unavailable" | "history_unavailable") if !self.is_quiet => Ok(()),
            (Ask::History(..), "too_fast") if self.limits_bytes => Ok(()),
            (Ask::History(room, ask), "epoch_unknown") if View::is_of_another_epoch(room, &ask, reference) => Ok(()),
            (Ask::Send(key), "too_fast") if self.limits_deliveries => reference.told(key, Told::Refused),
            (Ask::Send(key), "unconfirmed") if !self.is_quiet => reference.told(key, Told::Unconfirmed),
            (ask, code) => Err(format!("client {}: ERROR {code} to {ask:?}", self.client)),
        }
    }
}

/// Whether somebody may not do what was asked.
fn is_denied(code: &str) -> bool {
    matches!(code, "forbidden" | "unauthorised")
}

#[cfg(test)]
mod tests;
