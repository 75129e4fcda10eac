//! The embedded broker: one instance, no network. It confirms at once and hands every message straight back.

use super::{BrokerEvent, PublishId};
use std::ops::Range;

/// Keeps what was asked in one turn until the next one reads it. Both buffers are reused.
#[derive(Debug, Default)]
pub struct MemoryBroker {
    events: Vec<Kept>,
    bytes: Vec<u8>,
    started: bool,
}

#[derive(Debug)]
enum Kept {
    Subscribed(Range<usize>),
    Unsubscribed(Range<usize>),
    Message { room: Range<usize>, payload: Range<usize>, id: Option<PublishId> },
}

/// A burst may grow the buffer; past this many bytes it is given back.
const KEPT_BYTES_MAX: usize = 1024 * 1024;

impl MemoryBroker {
    /// Takes an `Action::Subscribe`.
    pub fn subscribe(&mut self, room: &str) {
        let room = self.keep(room.as_bytes());
        self.events.push(Kept::Subscribed(room));
    }

    /// Takes an `Action::Unsubscribe`.
    pub fn unsubscribe(&mut self, room: &str) {
        let room = self.keep(room.as_bytes());
        self.events.push(Kept::Unsubscribed(room));
    }

    /// Takes an `Action::Publish`.
    pub fn publish(&mut self, room: &str, payload: &[u8], id: Option<PublishId>) {
        let (room, payload) = (self.keep(room.as_bytes()), self.keep(payload));
        self.events.push(Kept::Message { room, payload, id });
    }

    fn keep(&mut self, bytes: &[u8]) -> Range<usize> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        start..self.bytes.len()
    }

    /// Whether [`MemoryBroker::poll_events`] has something to report.
    pub fn has_events(&self) -> bool {
        !self.started || !self.events.is_empty()
    }

    /// Reports everything asked since the last call, in order.
    pub fn poll_events(&mut self, mut report: impl FnMut(BrokerEvent<'_>)) {
        if !self.started {
            self.started = true;
            report(BrokerEvent::Up);
            report(BrokerEvent::PublisherUp);
        }
        // Ranges of names were cut from strings, so they are strings.
        let text = |range: &Range<usize>| std::str::from_utf8(&self.bytes[range.clone()]).expect("kept from a str");
        for event in self.events.drain(..) {
            match event {
                Kept::Subscribed(room) => report(BrokerEvent::Subscribed { room: text(&room) }),
                Kept::Unsubscribed(room) => report(BrokerEvent::Unsubscribed { room: text(&room) }),
                Kept::Message { room, payload, id } => {
                    report(BrokerEvent::Message { room: text(&room), payload: &self.bytes[payload] });
                    if let Some(id) = id {
                        report(BrokerEvent::Published { id });
                    }
                }
            }
        }
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_BYTES_MAX);
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
                "Published { id: PublishId(4) }",
                "Unsubscribed { room: \"a\" }",
            ]
        );
        assert!(!broker.has_events());
    }
}
