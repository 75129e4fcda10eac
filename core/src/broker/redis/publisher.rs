//! What was asked on a publishing connection and not answered yet, in order, and what becomes of it. The connection itself is a
//! `Link`; what the scripts of histories reply, `stores` knows, and what waits for replicas, `replication`.
//!
//! Commands of scripts are kept until they are answered. Once Redis answers one with `NOSCRIPT`, nothing more is written: what comes is
//! put aside until all that was written is answered, and then written behind what has to be repeated. What is to be published while there is
//! no connection, and what was not written when it was lost, may wait for the next.

mod detour;
mod presence;
mod replies;

use std::collections::VecDeque;
use std::hash::BuildHasher;

use super::RedisConfig;
use super::backlog::Backlog;
use super::buffers::{ByteQueue, Outbox};
use super::canary::Canary;
use super::command;
use super::complaints::Complaints;
use super::history::{self, Room};
use super::link_id::Role;
use super::lua::Lua;
use super::presence::{Heard, Outcome, PresenceAsked};
use super::queue::EventQueue;
use super::replication::{Replication, Wait};
use super::stores;
use crate::broker::{PublishError, PublishId, ReadId, Store};
use crate::hash::Seeded;
use crate::history::{Position, Query, Retention};
use crate::time::Time;
use detour::Detours;
pub(super) use detour::{Detour, Why};

/// Places kept for good in the list of unanswered publishes: 48 KB.
const KEPT_UNANSWERED: usize = 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Publish(PublishAsked),
    Store(StoreAsked),
    Read(ReadAsked),
    Presence(PresenceAsked),
    /// Until replicas have what was stored.
    Wait(Wait),
    Load(Lua),
    /// What comes next, although another node has the slot still. In a Cluster.
    Asking,
    /// That a message was stored, to the subscribers at the node that has the slot still. In a Cluster.
    Announce,
    /// What the instances of a Cluster have to agree on.
    Layout,
    /// The same, which is written where nothing is yet.
    SetLayout,
    /// This number.
    Canary(u64),
    /// `again`: what it answers decides whether trouble is over.
    Probe {
        probe: Probe,
        again: bool,
    },
}

impl Asked {
    /// Whether it is kept until it is answered, to be repeated.
    fn is_kept(self, is_of_cluster: bool) -> bool {
        matches!(self, Asked::Store(_) | Asked::Read(_) | Asked::Presence(_))
            || is_of_cluster && matches!(self, Asked::Publish(_))
    }

    /// Whose answer is waited for.
    pub(super) fn waits_for(self) -> WaitsFor {
        match self {
            Asked::Publish(PublishAsked { id, .. }) | Asked::Store(StoreAsked { id, .. }) => WaitsFor::Publish(id),
            Asked::Read(ReadAsked { id, .. }) => WaitsFor::Read(id),
            Asked::Presence(asked) => WaitsFor::Presence(asked),
            _ => WaitsFor::Publish(None),
        }
    }

    fn is_publish(self) -> bool {
        matches!(self, Asked::Publish(_) | Asked::Store(_))
    }

    /// The partition of the room that it is about. In a Cluster.
    pub(super) fn partition(self) -> Option<u16> {
        match self {
            Asked::Publish(PublishAsked { partition, .. })
            | Asked::Store(StoreAsked { partition, .. })
            | Asked::Read(ReadAsked { partition, .. })
            | Asked::Presence(PresenceAsked { partition, .. }) => Some(partition),
            _ => None,
        }
    }
}

/// Whose answer is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WaitsFor {
    /// The sender's, if anybody's.
    Publish(Option<PublishId>),
    Read(ReadId),
    /// The keeper's.
    Presence(PresenceAsked),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PublishAsked {
    id: Option<PublishId>,
    partition: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ReadAsked {
    id: ReadId,
    partition: u16,
}

impl PublishAsked {
    pub(super) fn new(room: &str, id: Option<PublishId>, config: &RedisConfig) -> PublishAsked {
        PublishAsked { id, partition: partition_of(room, config) }
    }
}

impl ReadAsked {
    pub(super) fn new(room: &str, id: ReadId, config: &RedisConfig) -> ReadAsked {
        ReadAsked { id, partition: partition_of(room, config) }
    }
}

impl StoreAsked {
    pub(super) fn new(room: &str, id: Option<PublishId>, replicas_min: u16, config: &RedisConfig) -> StoreAsked {
        let hash = Seeded::new(config.seed).hash_one(room);
        StoreAsked { id, room: hash, replicas_min, partition: partition_of(room, config), is_asking: false }
    }
}

/// Off a Cluster it is none.
fn partition_of(room: &str, config: &RedisConfig) -> u16 {
    config.names().partition(room).unwrap_or(0)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StoreAsked {
    id: Option<PublishId>,
    /// A hash of its name.
    room: u64,
    replicas_min: u16,
    partition: u16,
    /// It goes to a node that does not have the slot yet, and no subscribers of the room.
    is_asking: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Probe {
    Ping,
    Role,
    /// Of a replica: it may be one of a cluster.
    Cluster,
}

#[derive(Clone, Copy, Debug)]
struct Unanswered {
    asked: Asked,
    /// When it was asked first.
    since: Time,
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
    refused: Backlog<(Asked, Time)>,
    /// What was asked meanwhile.
    held: Backlog<(Asked, Time)>,
    /// What has to go another way, in a Cluster.
    detours: Detours,
    /// How often the scripts have been loaded since one of them ran.
    loads_in_a_row: u32,
    /// Those that are run here.
    scripts: Vec<Lua>,
    /// What the keeper of presence has to hear.
    heard: Vec<Heard>,
    /// Scripts cannot be loaded, so that there are no histories here, and no presence.
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
    pub(super) fn new(role: Role, seed: u64, config: &RedisConfig) -> Publisher {
        Publisher { seed, scripts: Lua::of(role, config), detours: Detours::new(config), ..Publisher::default() }
    }

    /// The connection is up; what was said on it until here is not counted. `unloaded` says why there are no histories on it.
    pub(super) fn up(&mut self, unloaded: Option<String>, outbox: &mut Outbox, events: &mut EventQueue) {
        (self.is_up, self.answered_to) = (true, outbox.end());
        (self.is_unloaded, self.loads_in_a_row) = (unloaded.is_some(), 0);
        if let Some(reason) = unloaded {
            self.complaints.refused(|| reason);
        }
        std::mem::take(&mut self.waiting).drain(|(asked, since), bytes| match asked {
            Asked::Store(_) if self.is_unloaded => self.give_up(asked, PublishError::NotStored, events),
            asked => self.append((asked, since), outbox, |out| out.extend_from_slice(bytes)),
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
        if !self.has_room(command::publish_bytes_max(&config.names(), room, payload), outbox, config) {
            return self.fail(id, PublishError::Busy, events);
        }
        self.publishes += 1;
        self.append_or_wait(Asked::Publish(PublishAsked::new(room, id, config)), outbox, now, |out| {
            command::publish(out, &config.names(), room, payload);
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
        let asked = StoreAsked::new(room, id, replicas_min, config);
        self.append_or_wait(Asked::Store(asked), outbox, now, |out| {
            history::store_or_remove(out, &of, drawn, store, payload);
        });
    }

    fn append_or_wait(&mut self, asked: Asked, outbox: &mut Outbox, now: Time, write: impl FnOnce(&mut Vec<u8>)) {
        match self.is_up {
            true => self.append((asked, now), outbox, write),
            false => self.waiting.push((asked, now), write),
        }
    }

    /// Answers what has waited for a connection as long as it may.
    pub(super) fn expire(&mut self, now: Time, config: &RedisConfig, events: &mut EventQueue) {
        while let Some((asked, _)) = self.waiting.first().filter(|(_, since)| *since + config.publish_wait <= now) {
            self.waiting.pop();
            self.give_up(asked, PublishError::Unavailable, events);
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
        self.append((Asked::Read(ReadAsked::new(room, id, config)), Time::ZERO), outbox, |out| {
            history::read(out, &Room::new(room, retention, config), drawn, &query);
        });
    }

    /// Whether one more publish of so many bytes may wait.
    fn has_room(&self, bytes_more: usize, outbox: &Outbox, config: &RedisConfig) -> bool {
        self.publishes < config.publishes_in_flight_max
            && self.unanswered_bytes(outbox) + bytes_more as u64 <= config.buffer_bytes_max as u64
    }

    /// `since`, it was asked first, if it is a publish.
    fn append(&mut self, (asked, since): (Asked, Time), outbox: &mut Outbox, write: impl FnOnce(&mut Vec<u8>)) {
        if self.forgotten_to.is_some() {
            return self.held.push((asked, since), write);
        }
        if let Asked::Store(StoreAsked { replicas_min, .. }) = asked {
            self.replication.wrote(replicas_min);
        }
        let out = outbox.tail();
        let start = out.len();
        write(out);
        let kept = if asked.is_kept(self.detours.is_of_cluster) { &out[start..] } else { &[] };
        self.kept.tail().extend_from_slice(kept);
        let kept = kept.len();
        self.unanswered.push_back(Unanswered { asked, since, end: outbox.end(), kept });
    }

    /// Appends what stands behind all that is written in one turn.
    pub(super) fn flush(&mut self, outbox: &mut Outbox, config: &RedisConfig) {
        if self.forgotten_to.is_none()
            && let Some(wait) = self.replication.next_wait(config.replicas_timeout)
        {
            self.append((Asked::Wait(wait), Time::ZERO), outbox, |out| command::wait(out, wait));
        }
    }

    /// For an epoch that may begin: nothing that anybody else draws.
    fn draw(&mut self, room: &str) -> u64 {
        self.drawn += 1;
        history::draw(self.seed, self.drawn, room)
    }

    /// Bytes of the connection that have no answer, written or put aside.
    pub(super) fn unanswered_bytes(&self, outbox: &Outbox) -> u64 {
        let aside =
            self.refused.len_bytes() + self.held.len_bytes() + self.waiting.len_bytes() + self.detours.len_bytes();
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

    /// Publishes a number to the canary's channel.
    pub(super) fn publish_canary(&mut self, name: &str, number: u64, outbox: &mut Outbox, config: &RedisConfig) {
        self.append((Asked::Canary(number), Time::ZERO), outbox, |out| {
            command::publish(out, &config.names(), name, Canary::payload(number).as_bytes());
        });
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
        self.unanswered.push_back(Unanswered {
            asked: Asked::Probe { probe, again },
            since: Time::ZERO,
            end: outbox.end(),
            kept: 0,
        });
    }

    fn load(&mut self, outbox: &mut Outbox) {
        for script in &self.scripts {
            script.load(outbox.tail());
            self.unanswered.push_back(Unanswered {
                asked: Asked::Load(*script),
                since: Time::ZERO,
                end: outbox.end(),
                kept: 0,
            });
        }
    }

    /// The connection is lost: says what is known of every publish on it, and keeps those that are surely not made, if they may wait.
    pub(super) fn lose(&mut self, outbox: &Outbox, config: &RedisConfig, events: &mut EventQueue) {
        if !std::mem::take(&mut self.is_up) {
            return;
        }
        for (id, _) in self.replication.lose() {
            self.publishes -= 1;
            self.fail(id, PublishError::Unconfirmed, events);
        }
        let [mut refused, mut held] = [std::mem::take(&mut self.refused), std::mem::take(&mut self.held)];
        // They do not wait: what their senders said later may have been made, because another instance has loaded the scripts in between.
        refused.drain(|(asked, _), _| self.give_up(asked, PublishError::Unavailable, events));
        for Detour { asked, .. } in self.detours.take() {
            self.give_up(asked, PublishError::Unavailable, events);
        }
        let mut unanswered = std::mem::take(&mut self.unanswered);
        let (sent_total, mut start) = (outbox.sent_total(), self.answered_to);
        for Unanswered { asked, since, end, .. } in unanswered.drain(..) {
            if start >= sent_total {
                let bytes = &outbox.unsent()[(start - sent_total) as usize..(end - sent_total) as usize];
                self.was_not_written(asked, bytes, since, config, events);
            } else {
                // Of the one that was written in part, Redis has not read the end, and nobody has the beginning any more.
                let is_whole = end <= sent_total;
                let error = if is_whole { PublishError::Unconfirmed } else { PublishError::Unavailable };
                self.give_up(asked, error, events);
            }
            start = end;
        }
        held.drain(|(asked, since), bytes| self.was_not_written(asked, bytes, since, config, events));
        unanswered.shrink_to(KEPT_UNANSWERED);
        self.unanswered = unanswered;
        self.kept = ByteQueue::default();
        (self.answered_to, self.forgotten_to) = (0, None);
    }

    /// The connection was lost before Redis was told this.
    fn was_not_written(
        &mut self,
        asked: Asked,
        bytes: &[u8],
        since: Time,
        config: &RedisConfig,
        events: &mut EventQueue,
    ) {
        match asked {
            Asked::Publish(_) | Asked::Store(_) if !config.publish_wait.is_zero() => {
                self.waiting.push((asked, since), |out| out.extend_from_slice(bytes));
            }
            asked => self.give_up(asked, PublishError::Unavailable, events),
        }
    }

    /// Answers a publish that has no answer and will get none.
    fn give_up(&mut self, asked: Asked, error: PublishError, events: &mut EventQueue) {
        match asked {
            Asked::Publish(PublishAsked { id, .. }) | Asked::Store(StoreAsked { id, .. }) => {
                self.publishes -= 1;
                self.fail(id, error, events);
            }
            // Where this is the only publisher, the hub asks again by itself.
            Asked::Read(ReadAsked { id, .. }) if self.detours.is_of_cluster => events.read_failed(id, true),
            Asked::Presence(asked) => self.heard.push(Heard::Answer(asked, Outcome::Lost)),
            Asked::Read(_)
            | Asked::Wait(_)
            | Asked::Load(_)
            | Asked::Asking
            | Asked::Announce
            | Asked::Layout
            | Asked::SetLayout
            | Asked::Canary(_)
            | Asked::Probe { .. } => {}
        }
    }

    /// Whether there is anything to take.
    pub(super) fn has_detours(&self) -> bool {
        let is_ready = self.detours.is_of_cluster && self.forgotten_to.is_none();
        is_ready && (self.detours.has_any() || self.waiting.first().is_some())
    }

    /// Whether something that was published to this partition has no answer here, and may yet have to go another way.
    pub(super) fn is_asked_of(&self, partition: u16) -> bool {
        let is_it = |asked: Asked| match asked {
            Asked::Publish(asked) => asked.partition == partition,
            Asked::Store(asked) => asked.partition == partition,
            _ => false,
        };
        let is_waiting = self.held.any(|(asked, _)| is_it(asked)) || self.waiting.any(|(asked, _)| is_it(asked));
        is_waiting || self.detours.any(is_it) || self.unanswered.iter().any(|unanswered| is_it(unanswered.asked))
    }

    /// What has to go another way: not before all that was sent with it is answered.
    pub(super) fn take_detours(&mut self) -> Vec<Detour> {
        if !self.detours.is_of_cluster || self.forgotten_to.is_some() {
            return Vec::new();
        }
        let Publisher { waiting, detours, .. } = self;
        std::mem::take(waiting).drain(|asked, bytes| detours.push(asked, bytes, Why::Behind));
        let taken = self.detours.take();
        self.publishes -= taken.iter().filter(|detour| detour.asked.is_publish()).count();
        taken
    }

    pub(super) fn take_announcements(&mut self) -> Vec<(u16, Vec<u8>)> {
        self.detours.take_announcements()
    }

    /// Appends what another one did not do. `is_asking`: the node here has yet to get its slot.
    pub(super) fn resume(&mut self, (asked, since): (Asked, Time), bytes: &[u8], is_asking: bool, outbox: &mut Outbox) {
        let asked = match asked {
            Asked::Store(store) => Asked::Store(StoreAsked { is_asking, ..store }),
            asked => asked,
        };
        if is_asking {
            self.append((Asked::Asking, Time::ZERO), outbox, |out| command::command(out, &[b"ASKING"]));
        }
        self.publishes += usize::from(asked.is_publish());
        self.append((asked, since), outbox, |out| out.extend_from_slice(bytes));
    }

    /// Appends the command that announces what was stored elsewhere.
    pub(super) fn announce(&mut self, command: &[u8], outbox: &mut Outbox) {
        self.append((Asked::Announce, Time::ZERO), outbox, |out| out.extend_from_slice(command));
    }

    /// Appends the question what the instances of a Cluster have agreed on, and has them agree on this if there is nothing yet.
    pub(super) fn ask_layout(&mut self, layout: &str, outbox: &mut Outbox, config: &RedisConfig) {
        let key = config.names().layout_key();
        for (asked, words) in [
            (Asked::SetLayout, &[b"SETNX", key.as_bytes(), layout.as_bytes()] as &[&[u8]]),
            (Asked::Layout, &[b"GET", key.as_bytes()]),
        ] {
            self.append((asked, Time::ZERO), outbox, |out| command::command(out, words));
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
