//! What the hub asks of the broker in one turn, and who waits for the outcome of a publish.

use crate::broker::{Ask, FenceId, PresenceId, PublishId, ReadId, Store};
use crate::history::{IdempotencyKey, Query, Remove, Retention};
use crate::id::ConnId;
use crate::protocol::CommandId;
use crate::time::Time;
use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

/// How many idempotency keys a room remembers at least.
pub(super) const KEYS_MAX: u32 = 10_000;

/// A burst may grow the buffer; past this many bytes it is given back.
const KEPT_BYTES_MAX: usize = 1024 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Subscribe,
    Unsubscribe,
    /// With how many replicas must have what is stored in its room.
    Publish(Option<PublishId>, u16),
    /// A publish that is stored, by its place among these.
    Store(Option<PublishId>, u32),
    /// A read, by its place among these.
    Read(ReadId, u32),
    /// How many connections of a user are there; how long the user's name is, behind which its info stands.
    Present(PresenceId, u32, usize),
    /// A part of those who are there, which begins here.
    Roster(PresenceId, u64),
    /// A sign behind all that was published before.
    Fence(FenceId),
}

/// How a message is stored.
#[derive(Debug)]
struct Storing {
    retention: Retention,
    /// Where its idempotency key stands, with the message's digest, and for how long it is remembered.
    key: Option<(Range<usize>, u64, Duration)>,
    replicas_min: u16,
    removes: Option<Remove>,
}

#[derive(Debug)]
struct Kept {
    kind: Kind,
    room: Range<usize>,
    payload: Range<usize>,
}

/// The turn's asks in order, their texts in one buffer that is reused.
#[derive(Debug, Default)]
pub(crate) struct Asks {
    list: Vec<Kept>,
    storing: Vec<Storing>,
    reading: Vec<(Query, Retention)>,
    bytes: Vec<u8>,
}

impl Asks {
    /// Queues an ask; `write` appends the payload.
    pub fn push(&mut self, kind: Kind, room: &str, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(room.as_bytes());
        let payload = self.bytes.len();
        write(&mut self.bytes);
        self.list.push(Kept { kind, room: start..payload, payload: payload..self.bytes.len() });
    }

    /// Queues a publish that is stored; `write` appends the payload.
    pub fn push_store(
        &mut self,
        id: Option<PublishId>,
        room: &str,
        (store, replicas_min): (Store<'_>, u16),
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        let key = store.key.map(|key| {
            let start = self.bytes.len();
            self.bytes.extend_from_slice(key.text.as_bytes());
            (start..self.bytes.len(), key.digest, key.age_max)
        });
        self.push(Kind::Store(id, self.storing.len() as u32), room, write);
        self.storing.push(Storing { retention: *store.retention, key, replicas_min, removes: store.removes.copied() });
    }

    /// Queues a read.
    pub fn push_read(&mut self, id: ReadId, room: &str, query: Query, retention: Retention) {
        self.push(Kind::Read(id, self.reading.len() as u32), room, |_| {});
        self.reading.push((query, retention));
    }

    /// Queues how many connections a user has.
    pub fn push_present(&mut self, id: PresenceId, room: &str, (user, info): (&str, &str), connections: u32) {
        self.push(Kind::Present(id, connections, user.len()), room, |out| {
            out.extend_from_slice(user.as_bytes());
            out.extend_from_slice(info.as_bytes());
        });
    }

    /// Queues a question who is there.
    pub fn push_roster(&mut self, id: PresenceId, room: &str, from: u64) {
        self.push(Kind::Roster(id, from), room, |_| {});
    }

    pub fn get(&self, index: usize) -> Option<Ask<'_>> {
        let kept = self.list.get(index)?;
        let text = |range: &Range<usize>| std::str::from_utf8(&self.bytes[range.clone()]).expect("made from a str");
        let (room, payload) = (text(&kept.room), &self.bytes[kept.payload.clone()]);
        Some(match kept.kind {
            Kind::Subscribe => Ask::Subscribe { room },
            Kind::Unsubscribe => Ask::Unsubscribe { room },
            Kind::Publish(id, replicas_min) => Ask::Publish { room, payload, store: None, replicas_min, id },
            Kind::Store(id, index) => {
                let Storing { retention, key, replicas_min, removes } = &self.storing[index as usize];
                let key = key.as_ref().map(|(key, digest, age_max)| IdempotencyKey {
                    text: text(key),
                    digest: *digest,
                    age_max: *age_max,
                    keys_max: KEYS_MAX,
                });
                let store = Some(Store { retention, key, removes: removes.as_ref() });
                Ask::Publish { room, payload, store, replicas_min: *replicas_min, id }
            }
            Kind::Read(id, index) => {
                let (query, retention) = self.reading[index as usize];
                Ask::Read { room, query, retention, id }
            }
            Kind::Present(id, connections, user_bytes) => {
                let (user, info) = text(&kept.payload).split_at(user_bytes);
                Ask::Present { room, user, info, connections, id }
            }
            Kind::Roster(id, from) => Ask::Roster { room, from, id },
            Kind::Fence(id) => Ask::Fence { id },
        })
    }

    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Forgets subscriptions to these rooms: an outage has voided them before anyone heard of them.
    pub fn void_subscriptions(&mut self, is_void: impl Fn(&str) -> bool) {
        let Asks { list, bytes, .. } = self;
        let is_void =
            |room: &Range<usize>| is_void(std::str::from_utf8(&bytes[room.clone()]).expect("made from a str"));
        list.retain(|kept| !matches!(kept.kind, Kind::Subscribe | Kind::Unsubscribe) || !is_void(&kept.room));
    }

    /// Forgets reads: they will be asked for again.
    pub fn void_reads(&mut self) {
        self.list.retain(|kept| !matches!(kept.kind, Kind::Read(..)));
    }

    /// Forgets what is asked and told of presence: that will be done again.
    pub fn void_presence(&mut self) {
        self.list.retain(|kept| !matches!(kept.kind, Kind::Present(..) | Kind::Roster(..)));
    }

    /// Forgets the first `done`.
    pub fn clear(&mut self, done: usize) {
        self.list.drain(..done);
        if self.list.is_empty() {
            self.storing.clear();
            self.reading.clear();
            self.bytes.clear();
            self.bytes.shrink_to(KEPT_BYTES_MAX);
        }
    }
}

/// Set in the ids of publishes to rooms that wait for replicas.
const WAITS_FOR_REPLICAS: u64 = 1 << 63;

/// Senders that wait for the outcome of a publish. Those to rooms that wait for replicas go another way to the broker, and may be answered
/// long after others, so they stand by themselves.
#[derive(Debug, Default)]
pub(crate) struct Senders {
    at_once: InOrder,
    replicated: InOrder,
}

/// Senders that are answered nearly in order, so this is a queue with holes.
#[derive(Debug, Default)]
struct InOrder {
    queue: VecDeque<Option<Sender>>,
    /// The number of the queue's first entry.
    first: u64,
}

#[derive(Debug)]
pub(crate) struct Sender {
    pub conn: ConnId,
    pub id: CommandId,
    /// When it asked.
    pub at: Time,
}

impl Senders {
    /// The sender of a publish to a room that waits for so many replicas.
    pub fn push(&mut self, sender: Sender, replicas_min: u16) -> PublishId {
        match replicas_min {
            0 => PublishId::new(self.at_once.push(sender)),
            _ => PublishId::new(self.replicated.push(sender) | WAITS_FOR_REPLICAS),
        }
    }

    /// Who waits for an outcome, once for each.
    pub fn waiting(&self) -> impl Iterator<Item = ConnId> + '_ {
        [&self.at_once, &self.replicated]
            .into_iter()
            .flat_map(|senders| &senders.queue)
            .flatten()
            .map(|sender| sender.conn)
    }

    /// Whether nobody waits for an outcome.
    pub fn is_empty(&self) -> bool {
        self.at_once.queue.is_empty() && self.replicated.queue.is_empty()
    }

    /// The client that waits for this publish; `None` if none does, or if the answer came before.
    pub fn take(&mut self, id: PublishId) -> Option<Sender> {
        let number = id.number();
        match number & WAITS_FOR_REPLICAS {
            0 => self.at_once.take(number),
            _ => self.replicated.take(number & !WAITS_FOR_REPLICAS),
        }
    }
}

impl InOrder {
    fn push(&mut self, sender: Sender) -> u64 {
        self.queue.push_back(Some(sender));
        self.first + self.queue.len() as u64 - 1
    }

    fn take(&mut self, number: u64) -> Option<Sender> {
        let index = usize::try_from(number.checked_sub(self.first)?).ok()?;
        let sender = self.queue.get_mut(index)?.take();
        while let Some(None) = self.queue.front() {
            self.queue.pop_front();
            self.first += 1;
        }
        sender
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_for_replicas_keeps_nothing_of_others() {
        let mut senders = Senders::default();
        let push = |senders: &mut Senders, replicas_min| {
            let sender = Sender { conn: ConnId::new(1, 1), id: CommandId::new("7"), at: Time::ZERO };
            senders.push(sender, replicas_min)
        };
        let late = push(&mut senders, 1);
        for _ in 0..1_000 {
            let id = push(&mut senders, 0);
            assert!(senders.take(id).is_some() && senders.take(id).is_none());
        }
        assert_eq!((senders.at_once.queue.len(), senders.waiting().count()), (0, 1));
        assert!(senders.take(late).is_some() && senders.is_empty());
    }
}
