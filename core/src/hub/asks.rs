//! What the hub asks of the broker in one turn, and who waits for the outcome of a publish.

use crate::broker::{Ask, PublishId};
use crate::id::ConnId;
use crate::protocol::CommandId;
use crate::time::Time;
use std::collections::VecDeque;
use std::ops::Range;

/// A burst may grow the buffer; past this many bytes it is given back.
const KEPT_BYTES_MAX: usize = 1024 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Subscribe,
    Unsubscribe,
    Publish(Option<PublishId>),
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

    pub fn get(&self, index: usize) -> Option<Ask<'_>> {
        let kept = self.list.get(index)?;
        let room = std::str::from_utf8(&self.bytes[kept.room.clone()]).expect("made from a str");
        Some(match kept.kind {
            Kind::Subscribe => Ask::Subscribe { room },
            Kind::Unsubscribe => Ask::Unsubscribe { room },
            Kind::Publish(id) => Ask::Publish { room, payload: &self.bytes[kept.payload.clone()], id },
        })
    }

    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Forgets all but the publishes: an outage has voided them before anyone heard of them.
    pub fn void_subscriptions(&mut self) {
        self.list.retain(|kept| matches!(kept.kind, Kind::Publish(_)));
    }

    /// Forgets the first `done`.
    pub fn clear(&mut self, done: usize) {
        self.list.drain(..done);
        if self.list.is_empty() {
            self.bytes.clear();
            self.bytes.shrink_to(KEPT_BYTES_MAX);
        }
    }
}

/// Senders that wait for the outcome of a publish. Brokers answer nearly in order, so this is a queue with holes.
#[derive(Debug, Default)]
pub(crate) struct Senders {
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
    pub fn push(&mut self, conn: ConnId, id: CommandId, at: Time) -> PublishId {
        self.queue.push_back(Some(Sender { conn, id, at }));
        PublishId::new(self.first + self.queue.len() as u64 - 1)
    }

    /// Who waits for an outcome, once for each.
    pub fn waiting(&self) -> impl Iterator<Item = ConnId> + '_ {
        self.queue.iter().flatten().map(|sender| sender.conn)
    }

    /// Whether nobody waits for an outcome.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Whoever waits for this publish; `None` if nobody does, or the answer came before.
    pub fn take(&mut self, id: PublishId) -> Option<Sender> {
        let index = usize::try_from(id.number().checked_sub(self.first)?).ok()?;
        let sender = self.queue.get_mut(index)?.take();
        while let Some(None) = self.queue.front() {
            self.queue.pop_front();
            self.first += 1;
        }
        sender
    }
}
