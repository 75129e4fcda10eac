//! The embedded broker: no network. [`MemoryBroker`] serves one instance alone: it confirms at once and hands every message
//! straight back. [`Inbox`] is what it is made of: adapters use it to let several cores share one broker.

mod logs;
mod rosters;

pub use logs::Logs;
pub use rosters::Rosters;

use super::{Ask, BrokerEvent, FenceId, PresenceId, PublishError, PublishId, ReadId, Store, envelope};
use crate::config::Config;
use crate::history::{Page, Position};
use crate::presence::{RosterPage, name_of};
use std::ops::Range;

/// A burst may grow the buffers; past this many bytes they are given back.
const KEPT_BYTES_MAX: usize = 1024 * 1024;
/// The same bound for the list of events.
const KEPT_EVENTS_MAX: usize = KEPT_BYTES_MAX / size_of::<Kept>();

/// Events that wait to be reported, their texts in one buffer. Both are reused: in the steady state nothing is allocated.
#[derive(Debug, Default)]
pub struct Inbox {
    events: Vec<Kept>,
    bytes: Vec<u8>,
    /// How many of the events have been reported.
    reported: usize,
}

#[derive(Debug)]
enum Kept {
    Subscribed(Range<usize>),
    Unsubscribed(Range<usize>),
    Message { room: Range<usize>, payload: Range<usize> },
    Published(PublishId, Option<Position>),
    PublishFailed(PublishId, PublishError),
    Read(ReadId, Box<Page>),
    Present(PresenceId, u32),
    Roster(PresenceId, Box<RosterPage>),
    PresenceFailed(PresenceId, bool),
    Fenced(FenceId),
}

impl Inbox {
    /// Adds an event to the end. That the broker came or went cannot be said here: an embedded one does neither.
    ///
    /// # Panics
    /// At `Up`, `Down`, `PublisherUp`, `PublisherDown` and `SubscribeFailed`.
    pub fn push(&mut self, event: BrokerEvent<'_>) {
        let kept = match event {
            BrokerEvent::Subscribed { room } => Kept::Subscribed(self.keep(room.as_bytes())),
            BrokerEvent::Unsubscribed { room } => Kept::Unsubscribed(self.keep(room.as_bytes())),
            BrokerEvent::Message { room, payload } => {
                Kept::Message { room: self.keep(room.as_bytes()), payload: self.keep(payload) }
            }
            BrokerEvent::Published { id, position, .. } => Kept::Published(id, position),
            BrokerEvent::Read { id, page } => Kept::Read(id, Box::new(page.clone())),
            BrokerEvent::PublishFailed { id, error } => Kept::PublishFailed(id, error),
            BrokerEvent::PresenceKept { id, connections } => Kept::Present(id, connections),
            BrokerEvent::Roster { id, page } => Kept::Roster(id, Box::new(page.clone())),
            BrokerEvent::PresenceFailed { id, passes } => Kept::PresenceFailed(id, passes),
            BrokerEvent::Fenced { id } => Kept::Fenced(id),
            other => panic!("no event of an embedded broker: {other:?}"),
        };
        self.events.push(kept);
    }

    fn keep(&mut self, bytes: &[u8]) -> Range<usize> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        start..self.bytes.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.reported == self.events.len()
    }

    /// The memory that is in use, until everything has been reported.
    pub fn size_bytes(&self) -> usize {
        self.bytes.len() + self.events.len() * size_of::<Kept>()
    }

    /// Reports what was added, in that order, until nothing is left or messages of `bytes_max` have been reported.
    pub fn poll_events(&mut self, bytes_max: usize, mut report: impl FnMut(BrokerEvent<'_>)) {
        // Ranges of names were cut from strings, so they are strings.
        let text = |range: &Range<usize>| std::str::from_utf8(&self.bytes[range.clone()]).expect("kept from a str");
        let mut bytes = 0;
        while let Some(event) = self.events.get(self.reported).filter(|_| bytes < bytes_max) {
            self.reported += 1;
            match event {
                Kept::Subscribed(room) => report(BrokerEvent::Subscribed { room: text(room) }),
                Kept::Unsubscribed(room) => report(BrokerEvent::Unsubscribed { room: text(room) }),
                Kept::Message { room, payload } => {
                    bytes += payload.len();
                    report(BrokerEvent::Message { room: text(room), payload: &self.bytes[payload.clone()] });
                }
                Kept::Published(id, position) => {
                    report(BrokerEvent::Published { id: *id, position: *position, receivers: None })
                }
                Kept::Read(id, page) => {
                    bytes += page.entries.iter().map(|entry| entry.payload.len()).sum::<usize>();
                    report(BrokerEvent::Read { id: *id, page });
                }
                Kept::PublishFailed(id, error) => report(BrokerEvent::PublishFailed { id: *id, error: *error }),
                Kept::Present(id, connections) => {
                    report(BrokerEvent::PresenceKept { id: *id, connections: *connections });
                }
                Kept::Roster(id, page) => {
                    bytes += page.users.iter().map(|present| present.user.len() + present.info.len()).sum::<usize>();
                    report(BrokerEvent::Roster { id: *id, page });
                }
                Kept::PresenceFailed(id, passes) => report(BrokerEvent::PresenceFailed { id: *id, passes: *passes }),
                Kept::Fenced(id) => report(BrokerEvent::Fenced { id: *id }),
            }
        }
        if self.is_empty() {
            self.events.clear();
            self.events.shrink_to(KEPT_EVENTS_MAX);
            self.bytes.clear();
            self.bytes.shrink_to(KEPT_BYTES_MAX);
            self.reported = 0;
        }
    }
}

/// Keeps what was asked in one turn until the next one reads it, and the histories of rooms until the process ends.
#[derive(Debug)]
pub struct MemoryBroker {
    inbox: Inbox,
    logs: Logs,
    rosters: Rosters,
    now_ms: u64,
    /// For one payload that is made here.
    payload: Vec<u8>,
    started: bool,
}

impl Default for MemoryBroker {
    /// One for a core with [`Config::default`].
    fn default() -> MemoryBroker {
        MemoryBroker::new(&Config::default())
    }
}

impl MemoryBroker {
    /// One for a core with this configuration.
    pub fn new(config: &Config) -> MemoryBroker {
        MemoryBroker {
            inbox: Inbox::default(),
            logs: Logs::new(config.history.memory_bytes_max, config.seed),
            rosters: Rosters::new(config.presence.users_max, config.seed),
            now_ms: 0,
            payload: Vec::new(),
            started: false,
        }
    }

    /// It is this Unix time in milliseconds: messages are stored with it, and forgotten by it. Without a word of it no message grows old.
    pub fn set_time(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
    }

    /// Takes an [`Action::Ask`](crate::Action::Ask).
    pub fn ask(&mut self, ask: Ask<'_>) {
        match ask {
            Ask::Subscribe { room } => self.subscribe(room),
            Ask::Unsubscribe { room } => self.unsubscribe(room),
            Ask::Publish { room, payload, store: None, id, .. } => self.publish(room, payload, id),
            Ask::Publish { room, payload, store: Some(store), id, .. } => self.store(room, payload, &store, id),
            Ask::Read { room, query, retention, id } => {
                let page = self.logs.read(self.now_ms, room, &retention, &query);
                self.inbox.push(BrokerEvent::Read { id, page: &page });
            }
            Ask::Present { room, user, info, connections, id } => {
                self.payload.clear();
                let connections = self.rosters.set(0, room, (user, info), connections, &mut self.payload);
                if !self.payload.is_empty() {
                    self.inbox.push(BrokerEvent::Message { room: &name_of(room), payload: &self.payload });
                }
                self.inbox.push(BrokerEvent::PresenceKept { id, connections });
            }
            Ask::Roster { room, id, .. } => {
                self.inbox.push(BrokerEvent::Roster { id, page: &self.rosters.read(room) });
            }
            Ask::Fence { id } => self.inbox.push(BrokerEvent::Fenced { id }),
        }
    }

    /// Takes an [`Ask::Subscribe`].
    pub fn subscribe(&mut self, room: &str) {
        self.inbox.push(BrokerEvent::Subscribed { room });
    }

    /// Takes an [`Ask::Unsubscribe`].
    pub fn unsubscribe(&mut self, room: &str) {
        self.inbox.push(BrokerEvent::Unsubscribed { room });
    }

    /// Takes an [`Ask::Publish`].
    pub fn publish(&mut self, room: &str, payload: &[u8], id: Option<PublishId>) {
        self.inbox.push(BrokerEvent::Message { room, payload });
        if let Some(id) = id {
            self.inbox.push(BrokerEvent::Published { id, position: None, receivers: None });
        }
    }

    fn store(&mut self, room: &str, payload: &[u8], store: &Store<'_>, id: Option<PublishId>) {
        let outcome = self.logs.store(self.now_ms, room, payload, store);
        if let Ok(stored) = outcome
            && stored.is_new
        {
            self.payload.clear();
            envelope::write_stored_header(&mut self.payload, stored.position);
            self.payload.extend_from_slice(payload);
            self.inbox.push(BrokerEvent::Message { room, payload: &self.payload });
        }
        let Some(id) = id else { return };
        self.inbox.push(match outcome {
            Ok(stored) => BrokerEvent::Published { id, position: Some(stored.position), receivers: None },
            Err(why) => BrokerEvent::PublishFailed { id, error: why.into() },
        });
    }

    /// Whether [`MemoryBroker::poll_events`] has something to report.
    pub fn has_events(&self) -> bool {
        !self.started || !self.inbox.is_empty()
    }

    /// The memory that is in use, until everything has been reported.
    pub fn size_bytes(&self) -> usize {
        self.inbox.size_bytes()
    }

    /// Reports everything asked since the last call, in order.
    pub fn poll_events(&mut self, report: impl FnMut(BrokerEvent<'_>)) {
        self.poll_some(usize::MAX, report);
    }

    /// Reports what was asked, in order, until nothing is left or messages of `bytes_max` have been reported: for drivers that bound
    /// their turns.
    pub fn poll_some(&mut self, bytes_max: usize, mut report: impl FnMut(BrokerEvent<'_>)) {
        if !self.started {
            self.started = true;
            report(BrokerEvent::Up);
            report(BrokerEvent::PublisherUp);
        }
        self.inbox.poll_events(bytes_max, report);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_in_the_order_of_asking() {
        let mut broker = MemoryBroker::default();
        broker.subscribe("a");
        broker.publish("a", b"x", Some(PublishId::new(4)));
        broker.unsubscribe("a");
        let mut seen = Vec::new();
        broker.poll_events(|event| seen.push(format!("{event:?}")));
        assert_eq!(
            seen,
            [
                "Up",
                "PublisherUp",
                "Subscribed { room: \"a\" }",
                "Message { room: \"a\", payload: [120] }",
                "Published { id: PublishId(4), position: None, receivers: None }",
                "Unsubscribed { room: \"a\" }",
            ]
        );
        assert!(!broker.has_events());
    }

    #[test]
    fn a_part_of_exactly_the_limit_ends_with_the_message_that_reaches_it() {
        let mut inbox = Inbox::default();
        for payload in [&b"ab"[..], b"cd", b"ef"] {
            inbox.push(BrokerEvent::Message { room: "a", payload });
        }
        let mut reported = 0;
        for (bytes_max, expected) in [(0, 0), (4, 2), (1, 3)] {
            inbox.poll_events(bytes_max, |_| reported += 1);
            assert_eq!(reported, expected);
        }
    }

    #[test]
    fn outcomes_take_memory_and_messages_what_they_are_long() {
        let mut inbox = Inbox::default();
        inbox.push(BrokerEvent::Published { id: PublishId::new(0), position: None, receivers: None });
        let outcome = inbox.size_bytes();
        assert!(outcome > 0);
        for payload in [&[b'x'; 100][..], &[b'x'; 10_000]] {
            let before = inbox.size_bytes();
            inbox.push(BrokerEvent::Message { room: "a", payload });
            assert_eq!(inbox.size_bytes() - before, outcome + 1 + payload.len());
        }
    }

    #[test]
    fn an_inbox_is_read_in_parts_and_gives_back_what_a_burst_took() {
        let mut inbox = Inbox::default();
        let payload = vec![b'x'; KEPT_BYTES_MAX];
        for _ in 0..4 {
            inbox.push(BrokerEvent::Message { room: "a", payload: &payload });
        }
        assert!(inbox.size_bytes() > 4 * KEPT_BYTES_MAX);
        let mut reported = 0;
        for expected in [2, 4] {
            inbox.poll_events(KEPT_BYTES_MAX + 1, |_| reported += 1);
            assert_eq!((reported, inbox.is_empty()), (expected, expected == 4));
        }
        assert_eq!(inbox.size_bytes(), 0);
        assert!(inbox.bytes.capacity() <= KEPT_BYTES_MAX, "{}", inbox.bytes.capacity());
    }
}
