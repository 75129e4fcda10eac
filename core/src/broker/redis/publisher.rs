//! What was asked on a publishing connection and not answered yet, in order, and what becomes of it. The connection itself is a
//! `Link`; what the scripts of histories reply, `stores` knows, and what waits for replicas, `replication`.
//!
//! Commands of scripts are kept until they are answered. Once Redis answers one with `NOSCRIPT`, nothing more is written: what comes is
//! put aside until all that was written is answered, and then written behind what has to be repeated. What is to be published while there is
//! no connection, and what was not written when it was lost, may wait for the next.

use std::collections::VecDeque;
use std::hash::BuildHasher;

use super::RedisConfig;
use super::backlog::Backlog;
use super::buffers::{ByteQueue, Outbox};
use super::command;
use super::complaints::Complaints;
use super::history::{self, HistoryError, ReadReply, Room, Script, StoreReply};
use super::queue::EventQueue;
use super::refusal::Refusal;
use super::replication::Replication;
use super::resp::Reply;
use super::setup::{standing, tells_cluster};
use super::standing::Standing;
use super::stores::{self, LOADS_IN_A_ROW_MAX, Refused};
use super::verdict::{Loss, Verdict};
use crate::broker::{BrokerEvent, PublishError, PublishId, ReadId, Store};
use crate::hash::Seeded;
use crate::history::{Position, Query, Retention};
use crate::time::Time;

/// Places kept for good in the list of unanswered publishes: 48 KB.
const KEPT_UNANSWERED: usize = 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Publish(Option<PublishId>),
    Store(StoreAsked),
    Read(ReadId),
    /// Until so many replicas have what was stored.
    Wait(u16),
    Load(Script),
    /// `again`: what it answers decides whether trouble is over.
    Probe {
        probe: Probe,
        again: bool,
    },
}

impl Asked {
    fn runs_script(self) -> bool {
        matches!(self, Asked::Store(_) | Asked::Read(_))
    }

    fn publishes(self) -> bool {
        matches!(self, Asked::Publish(_) | Asked::Store(_))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct StoreAsked {
    id: Option<PublishId>,
    /// A hash of its name.
    room: u64,
    replicas_min: u16,
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
    /// How many bytes of it are kept to be repeated.
    kept: usize,
}

/// The publishes, stores and reads of one connection after another.
#[derive(Debug, Default)]
pub(super) struct Publisher {
    unanswered: VecDeque<Unanswered>,
    is_up: bool,
    /// What waits for a connection, and since when.
    waiting: Backlog<(Asked, Time)>,
    /// How many publishes and stores have no answer, put aside or not, or wait for replicas.
    publishes: usize,
    /// The place in the stream behind the last command answered.
    answered_to: u64,
    /// Commands of scripts that are not answered.
    kept: ByteQueue,
    /// Redis has forgotten the scripts: what stands before this place of the stream has to be answered before more is written.
    forgotten_to: Option<u64>,
    /// What has to be repeated then.
    refused: Backlog<Asked>,
    /// What was asked meanwhile.
    held: Backlog<Asked>,
    /// How often the scripts have been loaded since one of them ran.
    loads_in_a_row: u32,
    /// Scripts cannot be loaded, so that there are no histories here.
    is_unloaded: bool,
    /// For the random parts of epochs, which are drawn as often as `drawn` says.
    seed: u64,
    drawn: u64,
    dropped: u64,
    unannounced: u64,
    /// What is stored, by whom and where, and waits for replicas.
    replication: Replication<(Option<PublishId>, Position)>,
    unreplicated: u64,
    pub(super) complaints: Complaints,
}

impl Publisher {
    /// `seed` is of this one alone: no other, of whatever instance, draws the same epochs.
    pub(super) fn new(seed: u64) -> Publisher {
        Publisher { seed, ..Publisher::default() }
    }

    /// The connection is up; what was said on it until here is not counted. `unloaded` says why there are no histories on it.
    pub(super) fn up(&mut self, unloaded: Option<String>, outbox: &mut Outbox, events: &mut EventQueue) {
        (self.is_up, self.answered_to) = (true, outbox.end());
        (self.is_unloaded, self.loads_in_a_row) = (unloaded.is_some(), 0);
        if let Some(reason) = unloaded {
            self.complaints.refused(|| reason);
        }
        std::mem::take(&mut self.waiting).drain(|(asked, _), bytes| match asked {
            Asked::Store(StoreAsked { id, .. }) if self.is_unloaded => {
                self.publishes -= 1;
                self.fail(id, PublishError::NotStored, events);
            }
            asked => self.append(asked, outbox, |out| out.extend_from_slice(bytes)),
        });
    }

    /// Appends a publish, has it wait for a connection, or answers it at once.
    pub(super) fn publish(
        &mut self,
        (room, payload): (&str, &[u8]),
        id: Option<PublishId>,
        outbox: &mut Outbox,
        (config, now): (&RedisConfig, Time),
        events: &mut EventQueue,
    ) {
        if !self.is_up && config.publish_wait.is_zero() {
            return self.fail(id, PublishError::Unavailable, events);
        }
        if !self.has_room(command::publish_bytes_max(&config.prefix, room, payload), outbox, config) {
            return self.fail(id, PublishError::Busy, events);
        }
        self.publishes += 1;
        self.append_or_wait(Asked::Publish(id), outbox, now, |out| {
            command::publish(out, &config.prefix, room, payload);
        });
    }

    /// The same of a publish that is stored.
    pub(super) fn store(
        &mut self,
        (room, payload): (&str, &[u8]),
        (store, replicas_min): (&Store<'_>, u16),
        id: Option<PublishId>,
        outbox: &mut Outbox,
        (config, now): (&RedisConfig, Time),
        events: &mut EventQueue,
    ) {
        if !config.keeps_history || self.is_up && self.is_unloaded {
            return self.fail(id, PublishError::NotStored, events);
        }
        if !self.is_up && config.publish_wait.is_zero() {
            return self.fail(id, PublishError::Unavailable, events);
        }
        let of = Room::new(room, *store.retention, config);
        if !self.has_room(history::store_bytes_max(&of, store.key.as_ref(), payload), outbox, config) {
            return self.fail(id, PublishError::Busy, events);
        }
        self.publishes += 1;
        let drawn = self.draw(room);
        let asked = StoreAsked { id, room: Seeded::new(config.seed).hash_one(room), replicas_min };
        self.append_or_wait(Asked::Store(asked), outbox, now, |out| {
            history::store(out, &of, drawn, store.key.as_ref(), payload);
        });
    }

    fn append_or_wait(&mut self, asked: Asked, outbox: &mut Outbox, now: Time, write: impl FnOnce(&mut Vec<u8>)) {
        match self.is_up {
            true => self.append(asked, outbox, write),
            false => self.waiting.push((asked, now), write),
        }
    }

    /// Answers what has waited for a connection as long as it may.
    pub(super) fn expire(&mut self, now: Time, config: &RedisConfig, events: &mut EventQueue) {
        while let Some((asked, _)) = self.waiting.first().filter(|(_, since)| *since + config.publish_wait <= now) {
            self.waiting.pop();
            self.publishes -= 1;
            self.fail_asked(asked, PublishError::Unavailable, events);
        }
    }

    /// When that is due.
    pub(super) fn next_expiry(&self, config: &RedisConfig) -> Option<Time> {
        self.waiting.first().map(|(_, since)| since + config.publish_wait)
    }

    /// Appends a read, or answers it at once. The hub bounds how many there are.
    pub(super) fn read(
        &mut self,
        room: &str,
        (query, retention): (Query, Retention),
        id: ReadId,
        outbox: &mut Outbox,
        config: &RedisConfig,
        events: &mut EventQueue,
    ) {
        if !config.keeps_history || self.is_unloaded {
            return events.read_failed(id, false);
        }
        let drawn = self.draw(room);
        let query = stores::bounded(query);
        self.append(Asked::Read(id), outbox, |out| {
            history::read(out, &Room::new(room, retention, config), drawn, &query);
        });
    }

    /// Whether one more publish of so many bytes may wait.
    fn has_room(&self, bytes_more: usize, outbox: &Outbox, config: &RedisConfig) -> bool {
        self.publishes < config.publishes_in_flight_max
            && self.unanswered_bytes(outbox) + bytes_more as u64 <= config.buffer_bytes_max as u64
    }

    fn append(&mut self, asked: Asked, outbox: &mut Outbox, write: impl FnOnce(&mut Vec<u8>)) {
        if self.forgotten_to.is_some() {
            return self.held.push(asked, write);
        }
        if let Asked::Store(StoreAsked { replicas_min, .. }) = asked {
            self.replication.wrote(replicas_min);
        }
        let out = outbox.tail();
        let start = out.len();
        write(out);
        let kept = if asked.runs_script() { &out[start..] } else { &[] };
        self.kept.tail().extend_from_slice(kept);
        let kept = kept.len();
        self.unanswered.push_back(Unanswered { asked, end: outbox.end(), kept });
    }

    /// Appends what stands behind all that is written in one turn.
    pub(super) fn flush(&mut self, outbox: &mut Outbox, config: &RedisConfig) {
        if self.forgotten_to.is_none()
            && let Some(wanted) = self.replication.next_wait()
        {
            self.append(Asked::Wait(wanted), outbox, |out| command::wait(out, wanted, config.replicas_timeout));
        }
    }

    /// For an epoch that may begin: nothing that anybody else draws.
    fn draw(&mut self, room: &str) -> u64 {
        self.drawn += 1;
        history::draw(self.seed, self.drawn, room)
    }

    /// Bytes of the connection that have no answer, written or put aside.
    pub(super) fn unanswered_bytes(&self, outbox: &Outbox) -> u64 {
        let aside = self.refused.len_bytes() + self.held.len_bytes() + self.waiting.len_bytes();
        // Before it is up, what stands in the outbox is its set-up.
        let unanswered = if self.is_up { outbox.end().saturating_sub(self.answered_to) } else { 0 };
        unanswered + aside as u64
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

    /// Asks for a sign of life, and where that is worth it for the server's role. Scripts that could not be loaded are tried again.
    pub(super) fn probe(&mut self, asks_role: bool, again: bool, outbox: &mut Outbox) {
        self.complaints.probed();
        self.replication.probe();
        if self.is_unloaded && self.forgotten_to.is_none() {
            self.loads_in_a_row = 0;
            self.load(outbox);
        }
        self.ask(if asks_role { Probe::Role } else { Probe::Ping }, again, outbox);
        self.unanswered.shrink_to(KEPT_UNANSWERED);
        self.kept.settle();
    }

    fn ask(&mut self, probe: Probe, again: bool, outbox: &mut Outbox) {
        let words: &[&[u8]] = match probe {
            Probe::Ping => &[b"PING"],
            Probe::Role => &[b"ROLE"],
            Probe::Cluster => &[b"INFO", b"cluster"],
        };
        command::command(outbox.tail(), words);
        self.unanswered.push_back(Unanswered { asked: Asked::Probe { probe, again }, end: outbox.end(), kept: 0 });
    }

    fn load(&mut self, outbox: &mut Outbox) {
        for script in Script::ALL {
            history::load(outbox.tail(), script);
            self.unanswered.push_back(Unanswered { asked: Asked::Load(script), end: outbox.end(), kept: 0 });
        }
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
            Asked::Publish(id) => self.published(reply, id, config, sink),
            Asked::Store(asked) => self.stored(reply, asked, next.kept, outbox, config, sink),
            Asked::Wait(wanted) => self.waited(reply, wanted, config, sink),
            Asked::Read(id) => self.have_read(reply, id, next.kept, outbox, config, sink),
        };
        let Some(verdict) = verdict else {
            // Answered with the others that this loses.
            self.answered_to = before;
            self.unanswered.push_front(next);
            let reply = match next.asked {
                Asked::Publish(_) => "PUBLISH was answered with something else than a number",
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

    /// A publish is answered. `None`: not by any answer.
    fn published(
        &mut self,
        reply: &Reply<'_>,
        id: Option<PublishId>,
        config: &RedisConfig,
        sink: &mut impl FnMut(BrokerEvent<'_>),
    ) -> Option<Result<Verdict, Loss>> {
        match (reply, id) {
            (Reply::Integer(_), Some(id)) => sink(BrokerEvent::Published { id, position: None }),
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
        asked: StoreAsked,
        kept: usize,
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
                let StoreAsked { id, replicas_min, .. } = asked;
                if replicas_min == 0 {
                    self.acknowledge((id, at.position), true, sink);
                } else if let Some(stored) = self.replication.keep((id, at.position), replicas_min) {
                    self.acknowledge(stored, false, sink);
                }
                return Some(Ok(Verdict::Fine));
            }
            Err(HistoryError::NoScript) if self.repeats(Asked::Store(asked), kept, outbox) => {
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
            Some(id) if has_enough => sink(BrokerEvent::Published { id, position: Some(position) }),
            None if has_enough => {}
            id => self.not_published(id, PublishError::Unreplicated, sink),
        }
    }

    /// A `WAIT` is answered. `None`: not by any answer.
    fn waited(
        &mut self,
        reply: &Reply<'_>,
        wanted: u16,
        config: &RedisConfig,
        sink: &mut impl FnMut(BrokerEvent<'_>),
    ) -> Option<Result<Verdict, Loss>> {
        let (replicas, refused) = match reply {
            Reply::Integer(replicas) => (u16::try_from(*replicas).unwrap_or(u16::MAX), None),
            Reply::Error(error) => (0, Some(config.explained_error(error))),
            _ => return None,
        };
        for (stored, has_enough) in self.replication.waited(wanted, replicas) {
            self.acknowledge(stored, has_enough, sink);
        }
        if replicas < wanted {
            self.complaints.unreplicated(|| stores::unreplicated(wanted, replicas, refused.as_deref(), config));
        }
        Some(Ok(Verdict::Fine))
    }

    /// The same of a read.
    fn have_read(
        &mut self,
        reply: &Reply<'_>,
        id: ReadId,
        kept: usize,
        outbox: &Outbox,
        config: &RedisConfig,
        sink: &mut impl FnMut(BrokerEvent<'_>),
    ) -> Option<Result<Verdict, Loss>> {
        let error = match history::parse_page(reply) {
            Ok(ReadReply { page, .. }) => {
                self.loads_in_a_row = 0;
                sink(BrokerEvent::Read { id, page: &page });
                return Some(Ok(Verdict::Fine));
            }
            Err(HistoryError::NoScript) if self.repeats(Asked::Read(id), kept, outbox) => {
                return Some(Ok(Verdict::Fine));
            }
            Err(error) => error,
        };
        let Refused { passes, refusal, reason, .. } = stores::refused(error, config)?;
        sink(BrokerEvent::ReadFailed { id, passes });
        Some(self.script_refused(refusal, reason))
    }

    /// Of what the connection does not suffer from, the log is told.
    fn script_refused(&mut self, refusal: Refusal, reason: Option<String>) -> Result<Verdict, Loss> {
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
    fn repeats(&mut self, asked: Asked, kept: usize, outbox: &Outbox) -> bool {
        if !self.is_unloaded && self.forgotten_to.is_none() && self.loads_in_a_row >= LOADS_IN_A_ROW_MAX {
            self.is_unloaded = true;
            self.complaints.refused(|| stores::FORGETFUL.to_owned());
        }
        if self.is_unloaded {
            return false;
        }
        self.forgotten_to.get_or_insert(outbox.end());
        let bytes = &self.kept.waiting()[..kept];
        self.refused.push(asked, |out| out.extend_from_slice(bytes));
        true
    }

    /// A store of this room was made, and earlier ones were not, because somebody else has given Redis the script in between. Made now, they
    /// would come after what their sender said later.
    fn overtaken(&mut self, room: u64, sink: &mut impl FnMut(BrokerEvent<'_>)) {
        let Publisher { refused, publishes, dropped, .. } = self;
        refused.retain(
            |asked| !matches!(asked, Asked::Store(asked) if asked.room == room),
            |asked| {
                *publishes -= 1;
                match asked {
                    Asked::Store(StoreAsked { id: Some(id), .. }) => {
                        sink(BrokerEvent::PublishFailed { id, error: PublishError::Unavailable });
                    }
                    _ => *dropped += 1,
                }
            },
        );
    }

    /// All that was written is answered: the scripts, what was refused without them, and what was asked meanwhile.
    fn repeat(&mut self, outbox: &mut Outbox) {
        self.forgotten_to = None;
        self.loads_in_a_row += 1;
        self.load(outbox);
        for mut backlog in [std::mem::take(&mut self.refused), std::mem::take(&mut self.held)] {
            backlog.drain(|asked, bytes| self.append(asked, outbox, |out| out.extend_from_slice(bytes)));
        }
    }

    /// Whether Redis has taken a script.
    fn loaded(&mut self, script: Script, reply: &Reply<'_>, config: &RedisConfig) -> Option<Result<Verdict, Loss>> {
        if let Reply::Error(error) = reply {
            let refusal = Refusal::of_probe(error);
            if refusal != Refusal::Lasting {
                return Some(Verdict::of(refusal, || config.explained_error(error)));
            }
        }
        match history::loaded(script, reply, config) {
            // With the first of them it is tried anew, and each that fails decides.
            Ok(()) => self.is_unloaded &= script != Script::ALL[0],
            Err(reason) => {
                self.is_unloaded = true;
                self.complaints.refused(|| reason);
            }
        }
        Some(Ok(Verdict::Fine))
    }

    /// The connection is lost: says what is known of every publish on it, and keeps those that are surely not made, if they may wait.
    pub(super) fn lose(&mut self, outbox: &Outbox, (config, now): (&RedisConfig, Time), events: &mut EventQueue) {
        if !std::mem::take(&mut self.is_up) {
            return;
        }
        for (id, _) in self.replication.lose() {
            self.publishes -= 1;
            self.fail(id, PublishError::Unconfirmed, events);
        }
        let [mut refused, mut held] = [std::mem::take(&mut self.refused), std::mem::take(&mut self.held)];
        refused.drain(|asked, bytes| self.was_not_made(asked, bytes, (config, now), events));
        let mut unanswered = std::mem::take(&mut self.unanswered);
        let (sent_total, mut start) = (outbox.sent_total(), self.answered_to);
        for Unanswered { asked, end, .. } in unanswered.drain(..) {
            if start >= sent_total {
                let bytes = &outbox.unsent()[(start - sent_total) as usize..(end - sent_total) as usize];
                self.was_not_made(asked, bytes, (config, now), events);
            } else {
                // Of the one that was written in part, Redis has not read the end, and nobody has the beginning any more.
                let is_whole = end <= sent_total;
                self.publishes -= usize::from(asked.publishes());
                self.fail_asked(
                    asked,
                    if is_whole { PublishError::Unconfirmed } else { PublishError::Unavailable },
                    events,
                );
            }
            start = end;
        }
        held.drain(|asked, bytes| self.was_not_made(asked, bytes, (config, now), events));
        unanswered.shrink_to(KEPT_UNANSWERED);
        self.unanswered = unanswered;
        self.kept = ByteQueue::default();
        (self.answered_to, self.forgotten_to) = (0, None);
    }

    /// The connection was lost before Redis did this.
    fn was_not_made(
        &mut self,
        asked: Asked,
        bytes: &[u8],
        (config, now): (&RedisConfig, Time),
        events: &mut EventQueue,
    ) {
        match asked.publishes() {
            true if !config.publish_wait.is_zero() => {
                self.waiting.push((asked, now), |out| out.extend_from_slice(bytes))
            }
            is_publish => {
                self.publishes -= usize::from(is_publish);
                self.fail_asked(asked, PublishError::Unavailable, events);
            }
        }
    }

    fn fail_asked(&mut self, asked: Asked, error: PublishError, events: &mut EventQueue) {
        match asked {
            Asked::Publish(id) | Asked::Store(StoreAsked { id, .. }) => self.fail(id, error, events),
            // The hub asks again.
            Asked::Read(_) | Asked::Wait(_) | Asked::Load(_) | Asked::Probe { .. } => {}
        }
    }

    /// Publishes that have no answer yet.
    pub(super) fn in_flight(&self) -> usize {
        self.publishes
    }

    /// Publishes without an id that were not confirmed.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Messages that were stored, and that too few replicas had in time.
    pub(super) fn unreplicated(&self) -> u64 {
        self.unreplicated
    }

    /// Messages that were stored and not announced.
    pub(super) fn unannounced(&self) -> u64 {
        self.unannounced
    }
}
