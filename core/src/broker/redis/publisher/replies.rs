//! What becomes of what was asked on a publishing connection, by Redis's replies. They come in the order of asking.

use super::super::RedisConfig;
use super::super::buffers::Outbox;
use super::super::canary::{Canary, CanaryNews};
use super::super::history::{self, HistoryError, ReadReply, StoreReply};
use super::super::lua::Lua;
use super::super::redirect::Redirect;
use super::super::refusal::Refusal;
use super::super::replication::Wait;
use super::super::resp::Reply;
use super::super::setup::{standing, tells_cluster};
use super::super::standing::Standing;
use super::super::stores::{self, LOADS_IN_A_ROW_MAX, Refused};
use super::super::verdict::{Loss, Verdict};
use super::detour::Why;
use super::{Asked, Probe, PublishAsked, Publisher, ReadAsked, StoreAsked, Unanswered};
use crate::broker::{BrokerEvent, PublishError, PublishId};
use crate::history::Position;
use crate::time::Time;

const NO_NUMBER: &str = "PUBLISH was answered with something else than a number";

impl Publisher {
    /// Takes the next reply; the error is the reason, for people, why replies and commands no longer match.
    pub(in super::super) fn reply(
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
        let Some(next) = self.unanswered.pop_front() else {
            return Err(unasked("a reply came that nothing was asked for"));
        };
        if next.end > outbox.sent_total() {
            // Whoever answers ahead, and reads nothing, would let the buffer grow without end. Answered with the others.
            self.unanswered.push_front(next);
            return Err(unasked("a reply came to a command that was not sent yet"));
        }
        let before = std::mem::replace(&mut self.answered_to, next.end);
        let verdict = match next.asked {
            Asked::Probe { probe, again } => Some(self.probed((probe, again), reply, outbox, config)),
            Asked::Load(script) => self.loaded(script, reply, config),
            Asked::Publish(_) | Asked::Store(_) | Asked::Read(_) | Asked::Presence(_)
                if self.is_redirected(reply, &next, outbox, config) =>
            {
                Some(Ok(Verdict::Fine))
            }
            Asked::Publish(PublishAsked { id, .. }) => self.published(reply, id, config, sink),
            // Whoever subscribes meanwhile reads what it says; and what is wrong with the server, the next command tells.
            Asked::Asking | Asked::Announce => Some(Ok(Verdict::Fine)),
            Asked::SetLayout => Some(Ok(set_layout(reply, config))),
            Asked::Layout => Some(Ok(layout(reply, config))),
            Asked::Canary(number) => Some(canary(reply, number, config)),
            Asked::Store(asked) => self.stored(reply, (asked, next), outbox, config, sink),
            Asked::Wait(wait) => self.waited(reply, wait, config, sink),
            Asked::Read(asked) => self.have_read(reply, (asked, next.kept), outbox, config, sink),
            Asked::Presence(asked) => self.have_kept(reply, (asked, next.kept), outbox, config),
        };
        let Some(verdict) = verdict else {
            // Answered with the others that this loses.
            self.answered_to = before;
            self.unanswered.push_front(next);
            let reply = match next.asked {
                Asked::Publish(_) => NO_NUMBER,
                Asked::Wait(_) => "WAIT was answered with something else than a number",
                _ => "a script was answered with something else than a list",
            };
            return Err(Loss::Broken(reply.to_owned()));
        };
        if next.kept > 0 {
            self.kept.take(next.kept);
        }
        if self.forgotten_to.is_some_and(|place| place <= self.answered_to) {
            self.repeat(outbox);
        }
        verdict
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

    /// A publish is answered. `None`: not by any answer.
    fn published(
        &mut self,
        reply: &Reply<'_>,
        id: Option<PublishId>,
        config: &RedisConfig,
        sink: &mut impl FnMut(BrokerEvent<'_>),
    ) -> Option<Result<Verdict, Loss>> {
        match (reply, id) {
            (Reply::Integer(receivers), Some(id)) => {
                let receivers = u32::try_from(*receivers).ok().filter(|_| config.names().counts_receivers());
                sink(BrokerEvent::Published { id, position: None, receivers });
            }
            (Reply::Integer(_), None) => {}
            (Reply::Error(error), id) => {
                self.publishes -= 1;
                return Some(self.refused(error, id, config, sink));
            }
            _ => return None,
        }
        self.publishes -= 1;
        Some(Ok(Verdict::Fine))
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
        let outcome = match refusal {
            Refusal::Lasting => PublishError::Refused,
            _ => PublishError::Unavailable,
        };
        self.not_published(id, outcome, sink);
        Verdict::of(refusal, || config.explained_error(error))
    }

    fn not_published(&mut self, id: Option<PublishId>, error: PublishError, sink: &mut impl FnMut(BrokerEvent<'_>)) {
        match id {
            Some(id) => sink(BrokerEvent::PublishFailed { id, error }),
            None => self.dropped += 1,
        }
    }

    /// A store is answered, or has to be repeated. `None`: not by any answer.
    fn stored(
        &mut self,
        reply: &Reply<'_>,
        (asked, next): (StoreAsked, Unanswered),
        outbox: &Outbox,
        config: &RedisConfig,
        sink: &mut impl FnMut(BrokerEvent<'_>),
    ) -> Option<Result<Verdict, Loss>> {
        let error = match history::parse_stored(reply) {
            Ok(StoreReply { at, is_announced, trouble, .. }) => {
                self.loads_in_a_row = 0;
                self.unannounced += u64::from(!is_announced);
                if !trouble.is_empty() {
                    self.complaints.incomplete(|| stores::incomplete(is_announced, trouble, config));
                }
                if at.is_new && self.forgotten_to.is_some() {
                    self.overtaken(asked.room, sink);
                }
                if at.is_new && asked.is_asking {
                    self.detours.announce(asked.partition, &self.kept.waiting()[..next.kept], at.position);
                }
                let StoreAsked { id, replicas_min, .. } = asked;
                if replicas_min == 0 {
                    self.acknowledge((id, at.position), true, sink);
                } else if let Some(stored) = self.replication.keep((id, at.position), replicas_min) {
                    self.acknowledge(stored, false, sink);
                }
                return Some(Ok(Verdict::Fine));
            }
            Err(HistoryError::NoScript) if self.repeats((next.asked, next.since), next.kept, outbox) => {
                return Some(Ok(Verdict::Fine));
            }
            Err(error) => error,
        };
        let Refused { error, refusal, reason, .. } = stores::refused(error, config)?;
        self.publishes -= 1;
        self.not_published(asked.id, error, sink);
        Some(self.script_refused(refusal, reason))
    }

    /// It is known of a stored message whether enough replicas have it.
    fn acknowledge(
        &mut self,
        (id, position): (Option<PublishId>, Position),
        has_enough: bool,
        sink: &mut impl FnMut(BrokerEvent<'_>),
    ) {
        self.publishes -= 1;
        self.unreplicated += u64::from(!has_enough);
        match id {
            Some(id) if has_enough => sink(BrokerEvent::Published { id, position: Some(position), receivers: None }),
            None if has_enough => {}
            id => self.not_published(id, PublishError::Unreplicated, sink),
        }
    }

    /// A `WAIT` is answered. `None`: not by any answer.
    fn waited(
        &mut self,
        reply: &Reply<'_>,
        wait: Wait,
        config: &RedisConfig,
        sink: &mut impl FnMut(BrokerEvent<'_>),
    ) -> Option<Result<Verdict, Loss>> {
        let (replicas, refused) = match reply {
            Reply::Integer(replicas) => ((*replicas).clamp(0, u16::MAX.into()) as u16, None),
            Reply::Error(error) => (0, Some(config.explained_error(error))),
            _ => return None,
        };
        for (stored, has_enough) in self.replication.waited(wait, replicas) {
            self.acknowledge(stored, has_enough, sink);
        }
        if replicas < wait.replicas {
            self.complaints.unreplicated(|| stores::unreplicated(wait, replicas, refused.as_deref(), config));
        }
        Some(Ok(Verdict::Fine))
    }

    /// The same of a read.
    fn have_read(
        &mut self,
        reply: &Reply<'_>,
        (asked, kept): (ReadAsked, usize),
        outbox: &Outbox,
        config: &RedisConfig,
        sink: &mut impl FnMut(BrokerEvent<'_>),
    ) -> Option<Result<Verdict, Loss>> {
        let error = match history::parse_page(reply) {
            Ok(ReadReply { page, .. }) => {
                self.loads_in_a_row = 0;
                sink(BrokerEvent::Read { id: asked.id, page: &page });
                return Some(Ok(Verdict::Fine));
            }
            Err(HistoryError::NoScript) if self.repeats((Asked::Read(asked), Time::ZERO), kept, outbox) => {
                return Some(Ok(Verdict::Fine));
            }
            Err(error) => error,
        };
        let Refused { passes, refusal, reason, .. } = stores::refused(error, config)?;
        sink(BrokerEvent::ReadFailed { id: asked.id, passes });
        Some(self.script_refused(refusal, reason))
    }

    /// Of what the connection does not suffer from, the log is told.
    pub(super) fn script_refused(&mut self, refusal: Refusal, reason: Option<String>) -> Result<Verdict, Loss> {
        let Some(reason) = reason else { return Ok(Verdict::Fine) };
        match refusal {
            Refusal::Lasting => {
                self.complaints.refused(|| reason);
                Ok(Verdict::Fine)
            }
            refusal => Verdict::of(refusal, || reason),
        }
    }

    /// Redis does not know the script of this command, so it was not done. Says whether it will be repeated.
    pub(super) fn repeats(&mut self, asked: (Asked, Time), kept: usize, outbox: &Outbox) -> bool {
        if !self.is_unloaded && self.forgotten_to.is_none() && self.loads_in_a_row >= LOADS_IN_A_ROW_MAX {
            self.is_unloaded = true;
            self.complaints.refused(|| stores::FORGETFUL.to_owned());
        }
        if self.is_unloaded {
            return false;
        }
        self.forgotten_to.get_or_insert(outbox.end());
        let bytes = &self.kept.waiting()[..kept];
        match self.detours.is_of_cluster {
            true => self.detours.push(asked, bytes, Why::NoScript),
            false => self.refused.push(asked, |out| out.extend_from_slice(bytes)),
        }
        true
    }

    /// Whether another node of the Cluster has the room, or will have it. Then it goes there, once all that was written here is answered.
    fn is_redirected(&mut self, reply: &Reply<'_>, next: &Unanswered, outbox: &Outbox, config: &RedisConfig) -> bool {
        let Reply::Error(error) = reply else { return false };
        let redirect = if self.detours.is_of_cluster { Redirect::of(error) } else { None };
        let Some(redirect) = redirect else { return false };
        if redirect == Redirect::Down && (config.publish_wait.is_zero() || !next.asked.is_publish()) {
            return false;
        }
        // The keeper tries again by itself, and does something else meanwhile.
        if redirect == Redirect::TryAgain
            && matches!(next.asked, Asked::Presence(asked) if asked.kind.is_in_background())
        {
            return false;
        }
        self.forgotten_to.get_or_insert(outbox.end());
        self.detours.push((next.asked, next.since), &self.kept.waiting()[..next.kept], Why::Redirected(redirect));
        true
    }

    /// A store of this room was made, and earlier ones were not, because somebody else has given Redis the script in between. Made now, they
    /// would come after what their sender said later.
    fn overtaken(&mut self, room: u64, sink: &mut impl FnMut(BrokerEvent<'_>)) {
        let Publisher { refused, detours, publishes, dropped, .. } = self;
        let is_overtaken = |asked: Asked| matches!(asked, Asked::Store(asked) if asked.room == room);
        let overtaken: Vec<Asked> = detours.extract(is_overtaken);
        let mut fail = |asked: Asked| {
            *publishes -= 1;
            match asked {
                Asked::Store(StoreAsked { id: Some(id), .. }) => {
                    sink(BrokerEvent::PublishFailed { id, error: PublishError::Unavailable });
                }
                _ => *dropped += 1,
            }
        };
        overtaken.into_iter().for_each(&mut fail);
        refused.retain(|(asked, _)| !is_overtaken(asked), |(asked, _)| fail(asked));
    }

    /// All that was written is answered: the scripts, what was refused without them, and what was asked meanwhile.
    fn repeat(&mut self, outbox: &mut Outbox) {
        self.forgotten_to = None;
        if self.detours.is_of_cluster {
            if self.detours.lacks_scripts() {
                self.loads_in_a_row += 1;
                self.load(outbox);
            }
            let Publisher { held, detours, .. } = self;
            std::mem::take(held).drain(|asked, bytes| detours.push(asked, bytes, Why::Behind));
            return;
        }
        self.loads_in_a_row += 1;
        self.load(outbox);
        for mut backlog in [std::mem::take(&mut self.refused), std::mem::take(&mut self.held)] {
            backlog.drain(|asked, bytes| self.append(asked, outbox, |out| out.extend_from_slice(bytes)));
        }
    }

    /// Whether Redis has taken a script.
    fn loaded(&mut self, script: Lua, reply: &Reply<'_>, config: &RedisConfig) -> Option<Result<Verdict, Loss>> {
        if let Reply::Error(error) = reply {
            let refusal = Refusal::of_probe(error);
            if refusal != Refusal::Lasting {
                return Some(Verdict::of(refusal, || config.explained_error(error)));
            }
        }
        match script.loaded(reply, config) {
            // With the first of them it is tried anew, and each that fails decides.
            Ok(()) => self.is_unloaded &= self.scripts.first() != Some(&script),
            Err(reason) => {
                self.is_unloaded = true;
                self.complaints.refused(|| reason);
            }
        }
        Some(Ok(Verdict::Fine))
    }
}

/// What the instances of a Cluster have to agree on was to be written. Where that may pass, the question behind it tells.
fn set_layout(reply: &Reply<'_>, config: &RedisConfig) -> Verdict {
    match reply {
        Reply::Error(error) if Redirect::of(error).is_none() && Refusal::of(error) == Refusal::Lasting => {
            Verdict::Layout(Err(config.explained_error(error)))
        }
        _ => Verdict::Fine,
    }
}

/// What the instances of a Cluster have to agree on is answered.
fn layout(reply: &Reply<'_>, config: &RedisConfig) -> Verdict {
    match reply {
        Reply::Bulk(text) | Reply::Simple(text) => Verdict::Layout(Ok(String::from_utf8_lossy(text).into_owned())),
        Reply::Error(error) => match Redirect::of(error) {
            Some(Redirect::Moved { slot, to }) => Verdict::Moved { slot, to },
            // It is there once the slot has settled.
            Some(_) => Verdict::LayoutPutOff,
            None if Refusal::of_probe(error) == Refusal::Passing => Verdict::LayoutPutOff,
            None => Verdict::Layout(Err(config.explained_error(error))),
        },
        // It could not be written.
        Reply::Null => Verdict::LayoutPutOff,
        _ => Verdict::Layout(Err("GET was answered with no text".to_owned())),
    }
}

/// A number of the canary's is answered.
fn canary(reply: &Reply<'_>, number: u64, config: &RedisConfig) -> Result<Verdict, Loss> {
    let error = match reply {
        Reply::Integer(_) => return Ok(CanaryNews::Published(number).into()),
        Reply::Error(error) => error,
        _ => return Ok(CanaryNews::NotPublished(NO_NUMBER.to_owned()).into()),
    };
    if config.names().is_sharded()
        && let Some(Redirect::Moved { slot, to }) = Redirect::of(error)
    {
        return Ok(Verdict::Moved { slot, to });
    }
    let refusal = Refusal::of_probe(error);
    let Some(news) = Canary::refused(error, config) else {
        return Verdict::of(refusal, || config.explained_error(error));
    };
    let trouble = (refusal == Refusal::Passing).then(|| config.explained_error(error));
    Ok(Verdict::Canary { news, trouble })
}
