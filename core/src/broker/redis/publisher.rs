//! What was published and not answered yet, in order, and what becomes of it. The connection itself is a `Link`.

use std::collections::VecDeque;

use super::RedisConfig;
use super::buffers::Outbox;
use super::command;
use super::queue::EventQueue;
use super::resp::Reply;
use super::setup::shown;
use crate::broker::{BrokerEvent, PublishError, PublishId};

/// Places kept for good in the list of unanswered publishes: 24 KB.
const KEPT_UNANSWERED: usize = 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Publish(Option<PublishId>),
    Ping,
}

#[derive(Clone, Copy, Debug)]
struct Unanswered {
    asked: Asked,
    /// The place in the connection's stream behind its last byte.
    end: u64,
}

/// The publishes of one connection after another.
#[derive(Debug, Default)]
pub(super) struct Publisher {
    unanswered: VecDeque<Unanswered>,
    /// How many of them are publishes.
    publishes: usize,
    /// The place in the stream behind the last command answered.
    answered_to: u64,
    dropped: u64,
}

impl Publisher {
    /// The connection is up; what was said on it until here is not counted.
    pub(super) fn up(&mut self, outbox: &Outbox) {
        self.answered_to = outbox.end();
    }

    /// Appends a publish, or answers it at once.
    pub(super) fn publish(
        &mut self,
        room: &str,
        payload: &[u8],
        id: Option<PublishId>,
        outbox: &mut Outbox,
        config: &RedisConfig,
        events: &mut EventQueue,
    ) {
        let bytes_waiting = self.unanswered_bytes(outbox);
        let bytes_more = command::publish_bytes_max(&config.prefix, room, payload);
        if self.publishes >= config.publishes_in_flight_max
            || bytes_waiting + bytes_more as u64 > config.buffer_bytes_max as u64
        {
            return self.fail(id, PublishError::Busy, events);
        }
        command::publish(outbox.tail(), &config.prefix, room, payload);
        self.unanswered.push_back(Unanswered { asked: Asked::Publish(id), end: outbox.end() });
        self.publishes += 1;
    }

    /// Bytes written to the connection that have no answer.
    pub(super) fn unanswered_bytes(&self, outbox: &Outbox) -> u64 {
        outbox.end().saturating_sub(self.answered_to)
    }

    /// A publish that was not confirmed.
    pub(super) fn fail(&mut self, id: Option<PublishId>, error: PublishError, events: &mut EventQueue) {
        match id {
            Some(id) => events.publish_failed(id, error),
            None => self.dropped += 1,
        }
    }

    /// Whether a `PING` has no answer yet.
    pub(super) fn is_probed(&self) -> bool {
        self.unanswered.iter().any(|unanswered| unanswered.asked == Asked::Ping)
    }

    /// A `PING` was appended.
    pub(super) fn probed(&mut self, outbox: &Outbox) {
        self.unanswered.push_back(Unanswered { asked: Asked::Ping, end: outbox.end() });
        self.unanswered.shrink_to(KEPT_UNANSWERED);
    }

    /// Takes the next reply; the error is the reason, for people, why replies and commands no longer match.
    pub(super) fn reply(
        &mut self,
        reply: &Reply<'_>,
        sent_total: u64,
        config: &RedisConfig,
        sink: &mut impl FnMut(BrokerEvent<'_>),
    ) -> Result<(), String> {
        if matches!(reply, Reply::Push(_)) {
            return Ok(());
        }
        let unasked = |why: &str| match reply {
            Reply::Error(error) => shown(error, config),
            _ => why.to_owned(),
        };
        let Some(Unanswered { asked, end }) = self.unanswered.pop_front() else {
            return Err(unasked("a reply came that nothing was asked for"));
        };
        if end > sent_total {
            // Whoever answers ahead, and reads nothing, would let the buffer grow without end. Answered with the others.
            self.unanswered.push_front(Unanswered { asked, end });
            return Err(unasked("a reply came to a command that was not sent yet"));
        }
        self.answered_to = end;
        let Asked::Publish(id) = asked else {
            // Any answer to a PING is one: a user without the right to it is told so.
            return Ok(());
        };
        self.publishes -= 1;
        match (reply, id) {
            (Reply::Integer(_), Some(id)) => sink(BrokerEvent::Published { id }),
            (Reply::Integer(_), None) => {}
            (Reply::Error(_), Some(id)) => sink(BrokerEvent::PublishFailed { id, error: PublishError::Refused }),
            (Reply::Error(_), None) => self.dropped += 1,
            _ => {
                // Answered with the others that this loses.
                self.unanswered.push_front(Unanswered { asked, end });
                self.publishes += 1;
                return Err("PUBLISH was answered with something else than a number".to_owned());
            }
        }
        Ok(())
    }

    /// The connection is lost: says what is known of every publish on it.
    pub(super) fn lose(&mut self, sent_total: u64, events: &mut EventQueue) {
        let mut unanswered = std::mem::take(&mut self.unanswered);
        for Unanswered { asked, end } in unanswered.drain(..) {
            if let Asked::Publish(id) = asked {
                let error = if end > sent_total { PublishError::Unavailable } else { PublishError::Unconfirmed };
                self.fail(id, error, events);
            }
        }
        unanswered.shrink_to(KEPT_UNANSWERED);
        self.unanswered = unanswered;
        self.publishes = 0;
        self.answered_to = 0;
    }

    /// Publishes that have no answer yet.
    pub(super) fn in_flight(&self) -> usize {
        self.publishes
    }

    /// Publishes without an id that were not confirmed.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }
}
