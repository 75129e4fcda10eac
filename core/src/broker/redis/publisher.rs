//! What was published and not answered yet, in order, and what becomes of it. The connection itself is a `Link`.

use std::collections::VecDeque;

use super::RedisConfig;
use super::buffers::Outbox;
use super::command;
use super::queue::EventQueue;
use super::refusal::Refusal;
use super::resp::Reply;
use super::setup::{standing, tells_cluster};
use super::standing::Standing;
use super::verdict::{Loss, Verdict};
use crate::broker::{BrokerEvent, PublishError, PublishId};

/// Places kept for good in the list of unanswered publishes: 24 KB.
const KEPT_UNANSWERED: usize = 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Publish(Option<PublishId>),
    /// `again`: what it answers decides whether trouble is over.
    Probe {
        probe: Probe,
        again: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Probe {
    Ping,
    Role,
    /// Of a replica: it may be one of a cluster.
    Cluster,
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

    /// Whether a probe has no answer yet.
    pub(super) fn is_probed(&self) -> bool {
        self.unanswered.iter().any(|unanswered| matches!(unanswered.asked, Asked::Probe { .. }))
    }

    /// Asks for a sign of life, and where that is worth it for the server's role.
    pub(super) fn probe(&mut self, asks_role: bool, again: bool, outbox: &mut Outbox) {
        self.ask(if asks_role { Probe::Role } else { Probe::Ping }, again, outbox);
        self.unanswered.shrink_to(KEPT_UNANSWERED);
    }

    fn ask(&mut self, probe: Probe, again: bool, outbox: &mut Outbox) {
        let words: &[&[u8]] = match probe {
            Probe::Ping => &[b"PING"],
            Probe::Role => &[b"ROLE"],
            Probe::Cluster => &[b"INFO", b"cluster"],
        };
        command::command(outbox.tail(), words);
        self.unanswered.push_back(Unanswered { asked: Asked::Probe { probe, again }, end: outbox.end() });
    }

    /// What a probe was answered; a replica is asked whether it is one of a cluster.
    fn probed(
        &mut self,
        (probe, again): (Probe, bool),
        reply: &Reply<'_>,
        outbox: &mut Outbox,
        config: &RedisConfig,
    ) -> Result<Verdict, Loss> {
        if let Reply::Error(error) = reply {
            let reason = || config.explained_error(error);
            match Refusal::of_probe(error) {
                Refusal::Passing => return Ok(Verdict::Probed { again, trouble: Some(reason()) }),
                Refusal::Replica => return Err(Loss::Replica),
                Refusal::SignIn => return Err(Loss::Broken(reason())),
                // Any other answer is one: a user without the right to ask is told so.
                Refusal::Lasting => {}
            }
        }
        match (probe, reply) {
            (Probe::Role, Reply::Array(items)) if standing(*items) == Standing::Replica => {
                self.ask(Probe::Cluster, again, outbox);
                Ok(Verdict::Fine)
            }
            (Probe::Role, Reply::Array(_)) | (Probe::Ping, _) => Ok(Verdict::Probed { again, trouble: None }),
            (Probe::Role, _) => Ok(Verdict::RoleUnknown { again }),
            (Probe::Cluster, reply) if tells_cluster(reply) => Ok(Verdict::RoleUnknown { again }),
            (Probe::Cluster, _) => Err(Loss::Replica),
        }
    }

    /// Takes the next reply; the error is the reason, for people, why replies and commands no longer match.
    pub(super) fn reply(
        &mut self,
        reply: &Reply<'_>,
        outbox: &mut Outbox,
        config: &RedisConfig,
        sink: &mut impl FnMut(BrokerEvent<'_>),
    ) -> Result<Verdict, Loss> {
        if matches!(reply, Reply::Push(_)) {
            return Ok(Verdict::Fine);
        }
        let unasked = |why: &str| {
            Loss::Broken(match reply {
                Reply::Error(error) => config.explained_error(error),
                _ => why.to_owned(),
            })
        };
        let Some(Unanswered { asked, end }) = self.unanswered.pop_front() else {
            return Err(unasked("a reply came that nothing was asked for"));
        };
        if end > outbox.sent_total() {
            // Whoever answers ahead, and reads nothing, would let the buffer grow without end. Answered with the others.
            self.unanswered.push_front(Unanswered { asked, end });
            return Err(unasked("a reply came to a command that was not sent yet"));
        }
        self.answered_to = end;
        let id = match asked {
            Asked::Publish(id) => id,
            Asked::Probe { probe, again } => return self.probed((probe, again), reply, outbox, config),
        };
        self.publishes -= 1;
        match (reply, id) {
            (Reply::Integer(_), Some(id)) => sink(BrokerEvent::Published { id }),
            (Reply::Integer(_), None) => {}
            (Reply::Error(error), id) => return self.refused(error, id, config, sink),
            _ => {
                // Answered with the others that this loses.
                self.unanswered.push_front(Unanswered { asked, end });
                return Err(Loss::Broken("PUBLISH was answered with something else than a number".to_owned()));
            }
        }
        Ok(Verdict::Fine)
    }

    /// A publish that is refused is not made again: what its sender says next would overtake it.
    fn refused(
        &mut self,
        error: &[u8],
        id: Option<PublishId>,
        config: &RedisConfig,
        sink: &mut impl FnMut(BrokerEvent<'_>),
    ) -> Result<Verdict, Loss> {
        let refusal = Refusal::of(error);
        match id {
            Some(id) if refusal == Refusal::Lasting => {
                sink(BrokerEvent::PublishFailed { id, error: PublishError::Refused });
            }
            Some(id) => sink(BrokerEvent::PublishFailed { id, error: PublishError::Unavailable }),
            None => self.dropped += 1,
        }
        match refusal {
            Refusal::Lasting => Ok(Verdict::Fine),
            Refusal::Passing => Ok(Verdict::Refused(config.explained_error(error))),
            Refusal::Replica => Err(Loss::Replica),
            Refusal::SignIn => Err(Loss::Broken(config.explained_error(error))),
        }
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
