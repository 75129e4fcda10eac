//! Rooms with history, as one connection sees them: each message comes in its place, or the client is told exactly which do not come.

use super::{Ask, Dialect, View};
use crate::lives::Lives;
use crate::network::Network;
use crate::reference::{Key, Origin, Owed, Reference};
use fanfare_core::history::{Epoch, Position, Removal};
use serde_json::Value;
use std::collections::BTreeMap;

/// Where a SUBSCRIBE wants to begin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// With what comes.
    #[default]
    Live,
    /// Behind this place.
    Since(Position),
    /// With the last so many messages.
    Newest(u64),
}

/// What a `HISTORY` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryAsk {
    /// Which part.
    pub part: Part,
    /// The epoch that it names.
    pub epoch: Option<Epoch>,
    /// Messages at most.
    pub limit: usize,
    /// The room's last message when it was asked.
    pub last: Option<Position>,
}

/// Which part of a history is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Behind this offset.
    After(u64),
    /// Before this offset.
    Before(u64),
    /// The end.
    Newest,
}

/// What a `HISTORY` tells.
#[derive(Debug)]
pub struct Page {
    /// The room's epoch.
    pub epoch: Epoch,
    /// The messages.
    pub messages: Vec<Message>,
    /// Whether there is more of that.
    pub more: bool,
}

/// One of them.
#[derive(Debug)]
pub struct Message {
    /// Its offset.
    pub offset: u64,
    /// When it was stored.
    pub time_ms: u64,
    /// Who has said it.
    pub from: Option<String>,
    /// What was sent.
    pub json: Value,
    /// What is removed, if it is no message.
    pub removes: Option<Removal>,
}

/// What is missing, as the client is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gap {
    /// Messages that are kept no more.
    Trimmed {
        /// Of this epoch.
        epoch: Epoch,
        /// The first.
        from: u64,
        /// The last.
        to: u64,
    },
    /// Another epoch has begun.
    Epoch {
        /// This one.
        epoch: Epoch,
        /// The one before.
        previous: Epoch,
        /// Where the client goes on.
        fence: u64,
        /// Whether it has seen more.
        lost: bool,
    },
}

/// How far a client has come in a room.
#[derive(Clone, Debug, Default)]
pub(super) struct Course {
    /// What it has seen or been told of.
    pub at: Option<Position>,
    /// It was told that it does not go on where it was, and was told of what it has missed up to here.
    explained: Option<Position>,
    /// What it has sent itself and did not want back may come: what is caught up with comes whole.
    may_repeat: bool,
    /// One behind the last message of each origin that came and is not stored.
    unstored: BTreeMap<Origin, usize>,
    /// The same in this membership, once there was one.
    next_unstored: BTreeMap<Origin, usize>,
}

impl View {
    /// Where the client would go on in each room.
    pub fn places(&self) -> Vec<Option<Position>> {
        self.seats.iter().map(|seat| seat.course.at).collect()
    }

    /// Where the client would go on in a room.
    pub fn place(&self, room: usize) -> Option<Position> {
        self.seats[room].course.at
    }

    /// Takes up what connections before this one have seen.
    pub fn take_up(&mut self, places: &[Option<Position>]) {
        for (seat, place) in self.seats.iter_mut().zip(places) {
            seat.course.at = *place;
        }
    }

    /// Whether this message of a room with history, which is not stored, has come, or one behind it. Nothing else tells of one that is missing.
    pub fn has_unstored_come(&self, room: usize, index: usize, reference: &Reference) -> bool {
        let unstored = &self.seats[room].course.unstored;
        unstored.get(&reference.origin(room, index)).is_some_and(|behind| *behind > index)
    }

    /// Whether the message at this place need not come, because the client has sent it here and did not want it back.
    fn is_spared(&self, room: usize, place: Position, reference: &Reference) -> bool {
        let sent = reference.lives.entry(room, place).and_then(|entry| reference.sent(entry.key?));
        sent.is_some_and(|sent| sent.session == self.session && !sent.echo)
    }

    /// The last place up to which nothing has to come behind this one.
    fn reach(&self, room: usize, mut place: Position, reference: &Reference) -> Position {
        loop {
            let next = Position { offset: place.offset + 1, ..place };
            if !self.is_spared(room, next, reference) && !self.is_passed_over(room, next, reference) {
                return place;
            }
            place = next;
        }
    }

    /// Whether nothing need come of what stands there: it is removed, or a removal of which the client's dialect cannot tell.
    fn is_passed_over(&self, room: usize, place: Position, reference: &Reference) -> bool {
        let lives = &reference.lives;
        let is_removal = || lives.entry(room, place).is_some_and(|entry| entry.removes.is_some());
        lives.is_removed(room, place, u64::MAX) || self.dialect != Dialect::Fanfare && is_removal()
    }

    /// `REMOVED`.
    ///
    /// # Errors
    /// If it is not what comes next.
    pub fn removed(
        &mut self,
        room: usize,
        removal: Removal,
        place: Position,
        reference: &mut Reference,
    ) -> Result<(), String> {
        self.check_explained(room)?;
        let lives = &reference.lives;
        let at = self.seats[room].course.at.filter(|_| self.is_member(room) && lives.keeps(room));
        let at = at.ok_or("REMOVED to somebody who is no member of a room with history")?;
        let is_next = place.epoch == at.epoch
            && place.offset > at.offset
            && place.offset <= self.reach(room, at, reference).offset + 1;
        if !is_next || lives.entry(room, place).and_then(|entry| entry.removes) != Some(removal) {
            return Err(format!("it is at {at:?}, and {removal:?} stands at {place:?}"));
        }
        reference.removal_told(self.incarnation, room, place);
        self.seats[room].course.at = Some(place);
        Ok(())
    }

    /// Whatever it was passed over has been told.
    fn check_explained(&mut self, room: usize) -> Result<(), String> {
        let course = &mut self.seats[room].course;
        match course.explained.take() {
            Some(explained) if Some(explained) != course.at => {
                Err(format!("it is at {:?}, and was told of what it has missed up to {explained:?}", course.at))
            }
            _ => Ok(()),
        }
    }

    /// It leaves a room with history, and was told before what it has missed.
    pub(super) fn check_told(&mut self, room: usize, reference: &Reference) -> Result<(), String> {
        if reference.lives.keeps(room) { self.check_explained(room) } else { Ok(()) }
    }

    /// Whether it has come with a wish for what was said before, of which it may have to be given the rest.
    pub fn has_asked_back(&self, room: usize) -> bool {
        self.seats[room].course.may_repeat
    }

    /// `SUBSCRIBED` tells where it begins, and whether that is all that it has missed.
    pub(super) fn begins(
        &mut self,
        room: usize,
        start: Start,
        (place, recovered): (Option<Position>, Option<bool>),
        reference: &Reference,
    ) -> Result<(), String> {
        let lives = &reference.lives;
        if !lives.keeps(room) {
            return if (place, recovered) == (None, None) { Ok(()) } else { Err("a room without history".to_owned()) };
        }
        let at = self.seats[room].course.at;
        if self.seats[room].is_member {
            self.check_explained(room)?;
            let Some(place) = place else { return Ok(()) };
            let at = at.ok_or("a member without a place")?;
            let is_there = at.epoch == place.epoch
                && at.offset <= place.offset
                && place.offset <= self.reach(room, at, reference).offset;
            self.seats[room].course.at = Some(place);
            return if is_there { Ok(()) } else { Err(format!("it is at {at:?}, and was told {place:?}")) };
        }
        let place = place.ok_or("SUBSCRIBED without a place")?;
        let last = lives.last_of(room, place.epoch).ok_or("nobody has begun this epoch")?;
        if place.offset > last {
            return Err(format!("it begins behind message {}, and there are {last}", place.offset));
        }
        let (mut explained, first) = (None, lives.first(room, place.epoch));
        let is_fair = match (start, recovered) {
            (Start::Live, None) => true,
            (Start::Newest(messages), None) => place.offset < first.max((last + 1).saturating_sub(messages)),
            (Start::Since(since), Some(recovered)) => {
                let is_known = lives.fence(room, since.epoch, place.epoch).is_some_and(|fence| fence >= since.offset);
                let seen = if is_known { Position { epoch: place.epoch, ..since } } else { since };
                explained = (!recovered).then_some(seen);
                match recovered {
                    true => is_known && place.offset == since.offset,
                    false => !is_known || since.offset + 1 < first,
                }
            }
            _ => false,
        };
        let unstored = std::mem::take(&mut self.seats[room].course.unstored);
        let (at, may_repeat, next_unstored) = (Some(place), start != Start::Live, BTreeMap::new());
        self.seats[room].course = Course { at, explained, may_repeat, unstored, next_unstored };
        if is_fair {
            Ok(())
        } else {
            Err(format!("it wanted to begin with {start:?}; the first is {first}, the last {last}"))
        }
    }

    /// `GAP` without a place: its instance had no connection to Redis for a while.
    pub fn interrupted(&self, room: usize, reference: &Reference) -> Result<(), String> {
        match self.is_member(room) && !reference.lives.keeps(room) {
            true => Ok(()),
            false => Err("an interruption, to somebody who is no member of a room without history".to_owned()),
        }
    }

    /// `GAP`.
    ///
    /// # Errors
    /// If nothing is missing, or something else.
    pub fn gap(&mut self, room: usize, gap: Gap, reference: &Reference) -> Result<(), String> {
        let lives = &reference.lives;
        let at = self.seats[room].course.at.filter(|_| self.is_member(room) && lives.keeps(room));
        let at = at.ok_or("GAP to somebody who is no member of a room with history")?;
        let is_trimmed = |epoch, offset| lives.is_trimmed(room, Position { epoch, offset });
        if let Some(seen) = self.seats[room].course.explained.filter(|seen| *seen != at) {
            let (is_fair, seen) = match gap {
                Gap::Epoch { epoch, previous, fence, lost } => {
                    let known = lives.fence(room, seen.epoch, at.epoch);
                    let is_lost = lost && known.is_none_or(|known| known < seen.offset);
                    let is_next = epoch == at.epoch && previous == seen.epoch && previous != epoch;
                    (is_next && is_lost && fence == known.unwrap_or(0), Position { epoch, offset: fence })
                }
                Gap::Trimmed { epoch, from, to } => {
                    let is_next = epoch == at.epoch && epoch == seen.epoch && from == seen.offset + 1;
                    (is_next && to == at.offset && from <= to && is_trimmed(epoch, to), at)
                }
            };
            self.seats[room].course.explained = Some(seen).filter(|seen| *seen != at);
            return if is_fair { Ok(()) } else { Err(format!("it begins at {at:?} and has seen {seen:?}")) };
        }
        self.seats[room].course.explained = None;
        let reach = self.reach(room, at, reference);
        let (is_fair, next) = match gap {
            Gap::Trimmed { epoch, from, to } => {
                let is_next = epoch == at.epoch && from > at.offset && from <= reach.offset + 1;
                (is_next && from <= to && is_trimmed(epoch, to), Position { epoch, offset: to })
            }
            Gap::Epoch { epoch, previous, fence, lost } => {
                let is_next = previous == at.epoch && epoch != at.epoch && lives.last_of(room, epoch).is_some();
                let is_fair = match lives.fence(room, previous, epoch) {
                    None => fence == 0 && (lost || at.offset == 0),
                    // What it has sent itself and did not want back may be lost as well.
                    Some(known) if lost => fence == known.min(reach.offset) && known < reach.offset,
                    Some(known) => (at.offset..=reach.offset.min(known)).contains(&fence),
                };
                (is_next && is_fair, Position { epoch, offset: fence })
            }
        };
        self.seats[room].course.at = Some(next);
        if is_fair {
            Ok(())
        } else {
            Err(format!("it is at {at:?}, or {reach:?}; the first is {}", lives.first(room, at.epoch)))
        }
    }

    /// A message of a room with history.
    ///
    /// # Errors
    /// If it is not the next.
    pub(super) fn kept_message(
        &mut self,
        (room, key, index): (usize, Key, usize),
        offset: Option<u64>,
        reference: &Reference,
        network: &Network,
    ) -> Result<(), String> {
        self.check_explained(room)?;
        let sent = reference.sent(key).expect("the caller has found it");
        let is_own = sent.session == self.session && !sent.echo;
        let stored = reference.lives.place(room, key);
        let has_offsets = self.dialect == Dialect::Fanfare;
        if offset.is_some() != (stored.is_some() && has_offsets) {
            return Err(format!("{key:?} is stored at {stored:?}"));
        }
        let Some(stored) = stored else {
            if is_own {
                return Err(format!("{key:?} comes back to its sender, who did not want it"));
            }
            let origin = reference.origin(room, index);
            let behind = self.seats[room].course.unstored.get(&origin).copied().unwrap_or(0);
            let is_late = |of| reference.may_come_late(room, (index, behind - 1), of, network);
            if index < behind && self.incarnation.is_some_and(is_late) {
                return Ok(());
            }
            self.check_unstored(room, (Some(origin), index), reference, network)?;
            let course = &mut self.seats[room].course;
            course.next_unstored.insert(origin, index + 1);
            let last = course.unstored.insert(origin, index + 1).unwrap_or(0);
            return if index < last { Err(format!("{key:?} comes behind number {}", last - 1)) } else { Ok(()) };
        };
        // Who cannot be told of an epoch may be in another one than it knows.
        let place = self.seats[room].course.at.map_or(stored, |at| Position { epoch: at.epoch, ..stored });
        let is_there = reference.lives.entry(room, place).is_some_and(|entry| entry.key == Some(key));
        let place = if is_there { place } else { stored };
        if reference.knew_removed(self.removals_told, self.incarnation, room, place) {
            return Err(format!("{key:?} comes from {stored:?}, and its instance knew before that it is removed"));
        }
        let course = &self.seats[room].course;
        if is_own && !course.may_repeat {
            return Err(format!("{key:?} comes back to its sender, who did not want it"));
        }
        let place = match offset {
            Some(offset) => {
                let at = course.at.ok_or("a member without a place")?;
                let place = Position { offset, ..at };
                if self.reach(room, at, reference).offset + 1 < offset || offset <= at.offset {
                    return Err(format!("it is at {at:?}"));
                }
                if reference.lives.entry(room, place).and_then(|entry| entry.key) != Some(key) {
                    return Err(format!("{key:?} is stored at {stored:?}, and it is at {at:?}"));
                }
                place
            }
            None => {
                if let Some(at) = course.at.filter(|_| !self.seats[room].is_mixed) {
                    self.check_bare(room, at, stored, reference)?;
                }
                stored
            }
        };
        // Whoever is not sure which of two memberships it is does not know where it is.
        let is_sure = has_offsets || !self.seats[room].is_mixed;
        self.seats[room].course.at = is_sure.then_some(place);
        Ok(())
    }

    /// Whether everything that is not stored has come, from the first that came in this membership, before this one. Nobody is given that later,
    /// so nothing is owed to who may have been behind, or where memory is too small for what waits.
    pub(super) fn check_unstored(
        &self,
        room: usize,
        (origin, until): (Option<Origin>, usize),
        reference: &Reference,
        network: &Network,
    ) -> Result<(), String> {
        let course = &self.seats[room].course;
        let is_sure = self.dialect == Dialect::Fanfare && self.is_member(room) && self.holds_all && !course.may_repeat;
        let first = course.next_unstored.values().copied().min().filter(|_| is_sure);
        let (Some(incarnation), Some(first)) = (self.incarnation, first) else { return Ok(()) };
        for index in first..until {
            let of = reference.origin(room, index);
            if course.next_unstored.get(&of).is_none_or(|next| index < *next) || origin.is_some_and(|one| one != of) {
                continue;
            }
            let key = reference.key(room, index);
            let sent = reference.sent(key).expect("what is published was sent");
            let is_due = reference.place_of(key).is_none() && (sent.session != self.session || sent.echo);
            if is_due && reference.owed((room, index), incarnation, (None, None), network) == Owed::Yes {
                return Err(format!("{key:?}, number {index} of room {room}, is not stored and has not come"));
            }
        }
        Ok(())
    }

    /// A message of which its dialect does not tell the place: it is the next, or all was lost before.
    fn check_bare(&self, room: usize, at: Position, stored: Position, reference: &Reference) -> Result<(), String> {
        let lives = &reference.lives;
        if stored.offset == 1 && lives.last(room).is_some_and(|last| last.epoch != at.epoch) {
            return Ok(());
        }
        let before = self.seen_in(room, at, stored.epoch, lives);
        let reach = self.reach(room, Position { offset: before, ..stored }, reference);
        if stored.offset > before && stored.offset <= reach.offset + 1 {
            return Ok(());
        }
        Err(format!("what is stored at {stored:?} comes, and it is at {at:?}"))
    }

    /// The offset in this epoch up to which somebody at another place has seen everything, who is not told of epochs. Its instance may have
    /// followed one after the other, so that more have passed than are known at once.
    fn seen_in(&self, room: usize, at: Position, epoch: Epoch, lives: &Lives) -> u64 {
        lives.common(room, (at.epoch, epoch), usize::MAX).map_or(0, |fence| fence.min(at.offset))
    }

    /// Whether it has seen everything of a room with history, or been told of it.
    pub(super) fn check_caught_up(&mut self, room: usize, reference: &Reference) -> Result<(), String> {
        self.check_explained(room)?;
        let (course, lives) = (&self.seats[room].course, &reference.lives);
        let is_counted = match self.dialect {
            Dialect::Fanfare => self.seats[room].is_member,
            _ => course.at.is_some() && self.seats[room].may_be_member && !self.seats[room].is_mixed,
        };
        let Some(last) = lives.last(room).filter(|_| is_counted) else { return Ok(()) };
        let at = course.at.ok_or("a member without a place")?;
        let seen = match self.dialect {
            Dialect::Fanfare => at,
            _ => Position { epoch: last.epoch, offset: self.seen_in(room, at, last.epoch, lives) },
        };
        if self.reach(room, seen, reference) == last {
            return Ok(());
        }
        Err(format!("it is at {at:?} of room {room}, whose last message is {last:?}"))
    }

    /// `HISTORY`.
    ///
    /// # Errors
    /// If nobody asked, or it is not what is stored.
    pub fn history(&mut self, room: usize, id: Option<u64>, page: &Page, reference: &Reference) -> Result<(), String> {
        let asked = self.take(id, |ask| matches!(ask, Ask::History(of, _) if *of == room));
        let Some(Ask::History(_, ask)) = asked.map(|asked| asked.ask) else {
            return Err("HISTORY, and nobody asked".to_owned());
        };
        let (lives, &Page { epoch, ref messages, more }) = (&reference.lives, page);
        // What it has been told of, or what was there when it asked.
        let seen = self.seats[room].course.at.filter(|_| self.is_member(room));
        let places = [ask.last, seen].into_iter().flatten().filter(|place| place.epoch == epoch);
        let had = places.map(|place| place.offset).max().unwrap_or(0);
        let mut expected = messages.first().map_or(0, |first| first.offset);
        for message in messages {
            let place = Position { epoch, offset: message.offset };
            if lives.is_removed(room, place, had) {
                return Err(format!("message {} of it was known to be removed", message.offset));
            }
            while expected < message.offset && lives.is_removed(room, Position { epoch, offset: expected }, u64::MAX) {
                expected += 1;
            }
            let entry = lives.entry(room, place).filter(|entry| entry.time_ms == message.time_ms);
            let sent = entry.and_then(|of| reference.sent(of.key?));
            let is_removal = message.removes.is_some() && entry.and_then(|entry| entry.removes) == message.removes;
            let is_right = is_removal
                || sent.is_some_and(|sent| {
                    let json = serde_json::from_str(&sent.json).ok();
                    json == Some(message.json.clone()) && sent.from == message.from.as_deref()
                });
            if !is_right || message.offset != expected {
                return Err(format!("message {} of it is {entry:?}", message.offset));
            }
            expected += 1;
        }
        let is_trimmed = |offset| lives.is_trimmed(room, Position { epoch, offset });
        let unremoved = |offset| lives.unremoved(room, epoch, offset);
        // Whether nothing comes between: it is kept no more, or removed.
        let is_gone = |to: u64, down_to: u64| {
            let last = unremoved(to);
            last <= down_to || is_trimmed(last)
        };
        // What had been stored when it was asked, if that is kept, is there.
        let last = ask.last.filter(|last| last.epoch == epoch && last.offset > 0 && !is_trimmed(last.offset));
        let last = last.map_or(0, |last| last.offset);
        let bounds = messages.first().zip(messages.last()).map(|(first, last)| (first.offset, last.offset));
        let is_fair = match (ask.part, bounds) {
            (Part::After(after), None) => last <= after,
            (Part::After(after), Some((from, to))) => from > after && is_gone(from - 1, after) && (more || to >= last),
            (Part::Before(before), None) => last == 0 || is_gone(before.min(last + 1) - 1, 0),
            (Part::Before(before), Some((_, to))) => to < before && (unremoved(before - 1) <= to || to >= last),
            (Part::Newest, None) => last == 0,
            (Part::Newest, Some((_, to))) => to >= last,
        };
        let is_from_the_end = !matches!(ask.part, Part::After(_));
        let is_told_more = match bounds.filter(|_| is_from_the_end) {
            Some((from, _)) if more => from > 1,
            Some((from, _)) => is_gone(from - 1, 0),
            None => true,
        };
        let is_of_the_epoch = !is_from_the_end || ask.epoch.is_none_or(|asked| asked == epoch);
        if messages.len() > ask.limit || !is_fair || !is_told_more || !is_of_the_epoch {
            return Err(format!("asked was for {ask:?}"));
        }
        Ok(())
    }

    /// Whether a `HISTORY` may be told that the room's epoch is another.
    pub(super) fn is_of_another_epoch(room: usize, ask: &HistoryAsk, reference: &Reference) -> bool {
        match ask.epoch {
            Some(epoch) => reference.lives.is_elsewhere(room, epoch),
            None => reference.lives.epochs(room) > 1 && matches!(ask.part, Part::After(_)),
        }
    }
}

#[cfg(test)]
mod tests;
