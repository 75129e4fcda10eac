//! The history of one room, kept in memory: what is stored, what is forgotten, what is read. The scripts of `broker/redis/scripts` do
//! the same in Redis, and a test compares the two.

use std::collections::VecDeque;
use std::fmt;
use std::mem::size_of;

use super::keys::Keys;
use super::{
    Continuity, Epoch, IdempotencyKey, Page, Part, Position, Query, Removal, Remove, Retention, Stored, millis,
};

/// How many ended epochs are known. Somebody who comes back from an earlier one begins anew.
const ENDED_MAX: usize = 16;

/// How many messages a store forgets for their age; what is left to later ones is hidden from readers. What is too much by count or bytes
/// is always forgotten, and in the long run that is one for each that is stored.
const AGED_MAX: usize = 64;

/// The circumstances of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment<'a> {
    /// Unix milliseconds.
    pub now_ms: u64,
    /// Names the broker's data: where it changes, messages that others have seen may be missing.
    pub incarnation: &'a str,
    /// At random, for an epoch that begins.
    pub drawn: u64,
}

/// Where a message is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredAt {
    /// Its place.
    pub position: Position,
    /// Whether it was stored just now; otherwise it had been before, under the same idempotency key.
    pub is_new: bool,
}

/// Why nothing was stored, nor removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotStored {
    /// The idempotency key belongs to another message.
    KeyReused,
    /// What is to be removed is not kept: it never was, or is trimmed, or removed already.
    NoMessage,
    /// What is to be removed is of another epoch.
    EpochUnknown,
}

impl fmt::Display for NotStored {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            NotStored::KeyReused => "the idempotency key belongs to another message",
            NotStored::NoMessage => "there is no such message",
            NotStored::EpochUnknown => "the room's history has another epoch now",
        })
    }
}

impl std::error::Error for NotStored {}

/// The history of one room.
///
/// Every call may begin an epoch: if there is none, or if another incarnation has written before. The new one goes on from the last
/// offset, which is the fence of the one that ended.
#[derive(Clone, Debug)]
pub struct RoomLog {
    life: Option<Life>,
    /// Of the last message; 0 where there has been none.
    offset: u64,
    /// With which offset what is kept begins.
    first: u64,
    /// The newest messages, without those that are removed. The last is always there.
    entries: VecDeque<Stored>,
    /// Of all payloads.
    payload_bytes: u64,
    keys: Keys,
}

/// The epoch that lasts, and those before it.
#[derive(Clone, Debug)]
struct Life {
    epoch: Epoch,
    incarnation: Box<str>,
    /// Epochs with their fences, the oldest first.
    ended: VecDeque<(Epoch, u64)>,
}

impl Default for RoomLog {
    fn default() -> RoomLog {
        RoomLog { life: None, offset: 0, first: 1, entries: VecDeque::new(), payload_bytes: 0, keys: Keys::default() }
    }
}

impl RoomLog {
    /// Stores a message, unless its key is known, and forgets what is beyond the retention.
    ///
    /// # Errors
    /// The key is known with another digest.
    pub fn store(
        &mut self,
        moment: &Moment<'_>,
        retention: &Retention,
        key: Option<&IdempotencyKey<'_>>,
        payload: &[u8],
    ) -> Result<StoredAt, NotStored> {
        let epoch = self.lasting_epoch(moment);
        if let Some(key) = key
            && let Some(known) = self.keys.find(moment.now_ms, key)
        {
            let same = known.digest == key.digest;
            return if same {
                Ok(StoredAt { position: known.position, is_new: false })
            } else {
                Err(NotStored::KeyReused)
            };
        }
        let position = Position { epoch, offset: self.append(moment.now_ms, retention, payload) };
        if let Some(key) = key {
            self.keys.remember(moment.now_ms, key, position);
        }
        Ok(StoredAt { position, is_new: true })
    }

    /// Removes what is kept, and stores that it is removed.
    ///
    /// # Errors
    /// There is no such message, or it is of another epoch.
    pub fn remove(
        &mut self,
        moment: &Moment<'_>,
        retention: &Retention,
        remove: &Remove,
    ) -> Result<StoredAt, NotStored> {
        let epoch = self.lasting_epoch(moment);
        if remove.epoch.is_some_and(|of| of != epoch) {
            return Err(NotStored::EpochUnknown);
        }
        match remove.what {
            Removal::All => {
                self.entries.clear();
                self.payload_bytes = 0;
            }
            Removal::One(offset) => {
                let index = self.entries.binary_search_by_key(&offset, |entry| entry.offset);
                let index = index.map_err(|_| NotStored::NoMessage)?;
                let entry = &self.entries[index];
                if is_expired(entry, moment.now_ms, retention) || Removal::of_payload(&entry.payload).is_some() {
                    return Err(NotStored::NoMessage);
                }
                self.payload_bytes -= self.entries.remove(index).map_or(0, |entry| entry.payload.len() as u64);
            }
        }
        let offset = self.append(moment.now_ms, retention, remove.what.payload().as_bytes());
        Ok(StoredAt { position: Position { epoch, offset }, is_new: true })
    }

    /// Adds an entry, and forgets what is beyond the retention. Returns its offset.
    fn append(&mut self, now_ms: u64, retention: &Retention, payload: &[u8]) -> u64 {
        self.offset += 1;
        self.payload_bytes += payload.len() as u64;
        self.entries.push_back(Stored { offset: self.offset, time_ms: now_ms, payload: payload.into() });
        self.trim(now_ms, retention);
        self.offset
    }

    /// What is found in a part of the history.
    pub fn read(&mut self, moment: &Moment<'_>, retention: &Retention, query: &Query) -> Page {
        let last = Position { epoch: self.lasting_epoch(moment), offset: self.offset };
        let hidden = self.hidden(moment.now_ms, retention);
        let first = match hidden {
            0 => self.first,
            // What was removed is as old as what follows.
            _ => self.entries[hidden - 1].offset + 1,
        };
        let (continuity, entries) = match query.part {
            Part::After(place) => {
                let (continuity, from) = self.continuity(last, first, place);
                (continuity, within(query, self.entries.range(self.index(from)..)))
            }
            Part::Before(_) | Part::Newest => {
                let end = if let Part::Before(offset) = query.part { self.index(offset) } else { self.entries.len() };
                let mut entries = within(query, self.entries.range(hidden..end.max(hidden)).rev());
                entries.reverse();
                (Continuity::Exact, entries)
            }
        };
        Page { last, first, continuity, entries: entries.into_iter().cloned().collect() }
    }

    /// The last message's position as of the last call; `None` before the first.
    pub fn position(&self) -> Option<Position> {
        Some(Position { epoch: self.life.as_ref()?.epoch, offset: self.offset })
    }

    /// How many are removed of those that would be kept.
    pub fn removed(&self) -> u64 {
        self.offset + 1 - self.first - self.entries.len() as u64
    }

    /// Forgets the messages and no position: who comes back is told that they are trimmed.
    pub fn forget_messages(&mut self) {
        self.entries = VecDeque::new();
        (self.first, self.payload_bytes) = (self.offset + 1, 0);
    }

    /// How much memory this takes, about.
    pub fn bytes(&self) -> u64 {
        let entries = self.entries.capacity() * size_of::<Stored>();
        let life = self
            .life
            .as_ref()
            .map_or(0, |life| life.incarnation.len() + life.ended.capacity() * size_of::<(Epoch, u64)>());
        (size_of::<RoomLog>() + entries + life) as u64 + self.payload_bytes + self.keys.bytes()
    }

    /// The epoch that lasts, which may begin with this call.
    fn lasting_epoch(&mut self, moment: &Moment<'_>) -> Epoch {
        let begun = |ordinal| Epoch { ordinal, random: moment.drawn };
        let Some(life) = &mut self.life else {
            let life = Life { epoch: begun(1), incarnation: moment.incarnation.into(), ended: VecDeque::new() };
            return self.life.insert(life).epoch;
        };
        if *life.incarnation != *moment.incarnation {
            if life.ended.len() == ENDED_MAX {
                life.ended.pop_front();
            }
            life.ended.push_back((life.epoch, self.offset));
            life.epoch = begun(life.epoch.ordinal.saturating_add(1));
            life.incarnation = moment.incarnation.into();
        }
        life.epoch
    }

    /// Forgets what is beyond the retention. The newest message stays.
    fn trim(&mut self, now_ms: u64, retention: &Retention) {
        let mut aged = 0;
        while self.first < self.offset {
            let is_within = self.offset - self.first < u64::from(retention.messages_max)
                && self.payload_bytes <= retention.bytes_max;
            if is_within {
                if aged == AGED_MAX || !is_expired(&self.entries[0], now_ms, retention) {
                    break;
                }
                aged += 1;
            }
            if self.entries[0].offset == self.first {
                self.payload_bytes -= self.entries.pop_front().map_or(0, |entry| entry.payload.len() as u64);
            }
            self.first += 1;
        }
        // After a retention that was lowered, or a burst; four times, so that a room does not shrink and grow at every message.
        if self.entries.capacity() > 4 * self.entries.len().max(4) {
            self.entries.shrink_to(2 * self.entries.len());
        }
    }

    /// How many messages are kept before this offset.
    fn index(&self, offset: u64) -> usize {
        self.entries.partition_point(|entry| entry.offset < offset)
    }

    /// How many of the oldest messages are too old.
    fn hidden(&self, now_ms: u64, retention: &Retention) -> usize {
        self.entries.partition_point(|entry| is_expired(entry, now_ms, retention))
    }

    /// How what is kept continues what was seen up to a place, and with which offset it does.
    fn continuity(&self, last: Position, first: u64, place: Position) -> (Continuity, u64) {
        let ended = self.life.iter().flat_map(|life| &life.ended);
        let fence = ended.rev().find(|(epoch, _)| *epoch == place.epoch).map(|(_, fence)| *fence);
        match fence {
            _ if place.epoch == last.epoch && place.offset > last.offset => (Continuity::Unknown, first),
            None if place.epoch != last.epoch => (Continuity::Unknown, first),
            Some(fence) if place.epoch != last.epoch && place.offset > fence => {
                (Continuity::Fenced(fence), first.max(fence + 1))
            }
            _ if place.offset + 1 < first => (Continuity::Trimmed, first),
            _ => (Continuity::Exact, place.offset + 1),
        }
    }
}

fn is_expired(entry: &Stored, now_ms: u64, retention: &Retention) -> bool {
    entry.time_ms.saturating_add(millis(retention.age_max)) <= now_ms
}

/// As many of these as the query allows.
fn within<'a>(query: &Query, entries: impl Iterator<Item = &'a Stored>) -> Vec<&'a Stored> {
    let mut bytes = 0;
    let mut taken = Vec::new();
    for entry in entries.take(query.messages_max as usize) {
        bytes += entry.payload.len() as u64;
        if bytes > query.bytes_max && !taken.is_empty() {
            break;
        }
        taken.push(entry);
    }
    taken
}

#[cfg(test)]
mod tests;
