//! Who is in a room, kept in Redis: what an instance tells of its users, its lease, and clearing up after instances whose lease has run out.
//! What is sent where, whoever has the connections decides.
//!
//! What an instance tells belongs to its *incarnation*. Others take that for dead once its lease has run out, and take its users out of all
//! rooms. The instance takes a new one then, and tells of all users anew: so it does, too, where Redis may have lost some of it, or may do some
//! of it later than what is told next.

mod clearing;
pub mod commands;
mod looks;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::RedisConfig;
use super::history::draw;
use super::queue::EventQueue;
use crate::broker::PresenceId;
use crate::history::millis;
use crate::time::Time;
use clearing::{Clearing, Job};
use commands::{Done, Kind, Renewal, Replid};
pub use commands::{Incarnation, Instance};
use looks::Looks;

/// Commands of clearing up and of checks that wait for their answer at most, so that they hold up nobody who comes or goes.
const BACKGROUND_MAX: usize = 64;
/// Dead incarnations that one instance clears up after at a time: others do the rest. Those do not count that are held up.
const CLEARINGS_MAX: usize = 4;
/// Those that are held up as well. More are forgotten, and Redis names them again.
const CLEARINGS_KEPT_MAX: usize = 64;
/// What the hub asks and cannot be sent at once. The hub asks for fewer.
const WAITING_MAX: usize = 4_096;
/// Replication ids that are remembered, so that a partition may move between the masters of a Cluster. There are hardly more masters.
const REPLIDS_MAX: usize = 1_024;
/// More than these run out by themselves.
const RETIRED_MAX: usize = 16;
/// What is drawn is an incarnation, and no epoch of a room: no room has this name.
const OF_INCARNATION: &str = "\u{1}incarnation";

/// A command of the keeper's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PresenceAsked {
    number: u64,
    pub(super) kind: Kind,
    pub(super) partition: u16,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Done(Done),
    /// The incarnation is dead, by somebody else's word.
    Dead,
    /// It is not done. `passes`: it is worth asking again.
    Failed {
        passes: bool,
    },
    /// The connection was lost, so that nobody knows.
    Lost,
}

/// What is heard of a connection that publishes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    Up,
    /// The hub is told of that, if there is one connection: nothing that it asked before is answered.
    Down,
    Answer(PresenceAsked, Outcome),
}

/// What waits for an answer.
#[derive(Debug)]
enum Sent {
    Present { id: PresenceId, generation: u64 },
    Roster { id: PresenceId },
    Renew,
    GiveBack,
    Check { generation: u64 },
    Gone { incarnation: Incarnation },
    Leave { incarnation: Incarnation, room: Box<str> },
}

/// What the hub asks, which waits to be sent.
#[derive(Debug)]
enum Wanted {
    Present { room: Box<str>, user: Box<str>, info: Box<str>, connections: u32, id: PresenceId },
    Roster { room: Box<str>, from: u64, id: PresenceId },
}

/// A renewal that waits for its answer.
#[derive(Debug)]
struct Renewing {
    generation: u64,
    since: Time,
    cleared: Vec<Incarnation>,
    retired: Vec<Incarnation>,
    suspects: Vec<Incarnation>,
}

/// Whether the lease is given back, because the instance is about to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum GivesBack {
    No,
    /// As soon as all has been told that is to be. Others clear up after so many milliseconds.
    Due(u64),
    Sent,
    Done,
}

/// What is known of a partition.
#[derive(Debug, Default)]
struct Known {
    /// Users were told of there, since the incarnation began.
    is_told: bool,
    /// In how many rooms there is anybody of this incarnation.
    rooms: u64,
    /// Which Redis said so, and when, counted in answers.
    replid: Option<(Replid, u64)>,
}

/// What an instance keeps of presence in Redis.
#[derive(Debug)]
pub(super) struct Keeper {
    config: RedisConfig,
    drawn: u64,
    incarnation: Incarnation,
    /// How many incarnations there were before.
    generation: u64,
    /// The lease has been asked for; it is extended from then on.
    is_listed: bool,
    /// Until when it lasts at least, if it does.
    held_until: Option<Time>,
    renewing: Option<Renewing>,
    gives_back: GivesBack,
    /// When to renew it next.
    next_at: Time,
    /// Incarnations that were given up or cleared up after, of which Redis has to hear.
    retired: Vec<Incarnation>,
    cleared: Vec<Incarnation>,
    clearings: Vec<Clearing>,
    /// Which Redis handed out all of these: what was done for them may be lost in another.
    handed_out_by: Option<Replid>,
    /// Commands of those and of checks that are not answered.
    background: usize,
    looks: Looks,
    /// Leases may have been lost since partitions were looked at.
    is_forgetful: bool,
    partitions: BTreeMap<u16, Known>,
    /// When each Redis was first heard of.
    replids: BTreeMap<Replid, u64>,
    heard: u64,
    /// What the hub has told and what it has asked, which waits to be sent.
    presents: VecDeque<Wanted>,
    rosters: VecDeque<Wanted>,
    has_told: bool,
    sent: BTreeMap<u64, Sent>,
    numbered: u64,
    instances: Vec<Instance>,
    /// Nobody has taken them.
    is_news: bool,
}

impl Keeper {
    /// One that has told of nobody; none where no presence is kept.
    pub(super) fn new(config: &RedisConfig) -> Option<Keeper> {
        let mut keeper = Keeper {
            config: config.clone(),
            drawn: 0,
            incarnation: Incarnation(0),
            generation: 0,
            is_listed: false,
            held_until: None,
            renewing: None,
            gives_back: GivesBack::No,
            next_at: Time::ZERO,
            retired: Vec::new(),
            cleared: Vec::new(),
            clearings: Vec::new(),
            handed_out_by: None,
            background: 0,
            looks: Looks::new(config.names().partitions()),
            is_forgetful: true,
            partitions: BTreeMap::new(),
            replids: BTreeMap::new(),
            heard: 0,
            presents: VecDeque::new(),
            rosters: VecDeque::new(),
            has_told: false,
            sent: BTreeMap::new(),
            numbered: 0,
            instances: Vec::new(),
            is_news: false,
        };
        keeper.incarnation = Incarnation(keeper.draw(OF_INCARNATION));
        config.keeps_presence.then_some(keeper)
    }

    /// All instances, once after each renewal.
    pub(super) fn take_instances(&mut self) -> Option<&[Instance]> {
        std::mem::take(&mut self.is_news).then_some(&self.instances)
    }

    /// How many incarnations there were, and how many commands.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.generation + 1, self.numbered)
    }

    /// The instance is about to end, and tells of nobody any more: its lease is given back. Others take its users out after this time, if
    /// they have not come back by then elsewhere; never later than if the lease had run out.
    pub(super) fn give_back(&mut self, after: Duration) {
        if self.gives_back == GivesBack::No {
            self.gives_back = if self.held_until.is_some() {
                GivesBack::Due(millis(after.min(self.lease())))
            } else {
                GivesBack::Done
            };
        }
    }

    /// Whether that has begun, and is not answered.
    pub(super) fn is_giving_back(&self) -> bool {
        matches!(self.gives_back, GivesBack::Due(_) | GivesBack::Sent)
    }

    /// Takes [`Ask::Present`](crate::broker::Ask::Present).
    pub(super) fn present(
        &mut self,
        (room, user, info): (&str, &str, &str),
        connections: u32,
        id: PresenceId,
        events: &mut EventQueue,
    ) {
        if self.presents.len() >= WAITING_MAX {
            return events.presence_failed(id, true);
        }
        self.has_told = true;
        let [room, user, info] = [room, user, info].map(Box::from);
        self.presents.push_back(Wanted::Present { room, user, info, connections, id });
    }

    /// Takes [`Ask::Roster`](crate::broker::Ask::Roster).
    pub(super) fn roster(&mut self, room: &str, from: u64, id: PresenceId, events: &mut EventQueue) {
        if self.rosters.len() >= WAITING_MAX {
            return events.presence_failed(id, true);
        }
        self.rosters.push_back(Wanted::Roster { room: room.into(), from, id });
    }

    /// These partitions are at a connection that has come up, or at another server than before.
    pub(super) fn came_up(&mut self, partitions: impl Iterator<Item = u16>, now: Time) {
        for partition in partitions {
            if partition == 0 {
                self.hurry(now);
            }
            self.looks.look(partition);
            self.clearings.iter_mut().for_each(|clearing| clearing.begin_anew(partition));
        }
    }

    /// What could not be renewed may go now.
    pub(super) fn hurry(&mut self, now: Time) {
        self.next_at = self.next_at.min(now);
    }

    /// When to call [`Keeper::poll`], if nothing else happens.
    pub(super) fn next_timeout(&self) -> Option<Time> {
        if self.gives_back != GivesBack::No {
            return None;
        }
        let next_at = self.renewing.is_none().then_some(self.next_at);
        let has_place = self.background < BACKGROUND_MAX;
        let again = self.clearings.iter().filter(|_| has_place).filter_map(Clearing::next_at).min();
        next_at.into_iter().chain(self.held_until).chain(again).min()
    }

    /// The next command that is to be sent. What becomes of it has to be told by [`Keeper::hear`], also if it cannot be sent.
    pub(super) fn poll(&mut self, now: Time, events: &mut EventQueue) -> Option<(PresenceAsked, Vec<u8>)> {
        if self.gives_back != GivesBack::No {
            return self.poll_to_the_end(events);
        }
        if self.held_until.is_some_and(|until| until <= now) {
            self.lose(now, events);
        }
        if self.renewing.is_none() && self.next_at <= now {
            return Some(self.renew(now));
        }
        if self.held_until.is_some() {
            if let Some(wanted) = self.presents.pop_front() {
                return Some(self.want(wanted));
            }
        } else if self.renewing.is_none() {
            self.fail_waiting(true, false, events);
        }
        if let Some(wanted) = self.rosters.pop_front() {
            return Some(self.want(wanted));
        }
        self.poll_background(now)
    }

    /// The same when the lease is given back: behind what has been told.
    fn poll_to_the_end(&mut self, events: &mut EventQueue) -> Option<(PresenceAsked, Vec<u8>)> {
        if self.held_until.is_none() {
            // Nobody would clear up after whom it tells of.
            self.fail_waiting(true, false, events);
        }
        if let Some(wanted) = self.presents.pop_front() {
            return Some(self.want(wanted));
        }
        let GivesBack::Due(lease_ms) = self.gives_back else { return None };
        if self.renewing.is_some() {
            return None;
        }
        // It is given up as one that has begun anew gives up the one before, and left alone for the lease that is named.
        let renewal = Renewal {
            incarnation: self.incarnation,
            is_new: false,
            lease_ms,
            about: &self.config.about,
            takes_max: 0,
            cleared: &[],
            handed_out_by: None,
            retired: &[self.incarnation],
            suspects: &[],
        };
        let mut out = Vec::new();
        commands::renew(&mut out, &self.config.names(), &renewal);
        self.gives_back = GivesBack::Sent;
        Some((self.send(Kind::Renew, 0, Sent::GiveBack), out))
    }

    fn want(&mut self, wanted: Wanted) -> (PresenceAsked, Vec<u8>) {
        let mut out = Vec::new();
        match wanted {
            Wanted::Present { room, user, info, connections, id } => {
                let (drawn, incarnation, generation) = (self.draw(&room), self.incarnation, self.generation);
                let names = self.config.names();
                let partition = names.partition(&room).unwrap_or(0);
                commands::present(&mut out, &names, (incarnation, drawn), (&room, &user, &info), connections);
                (self.send(Kind::Present, partition, Sent::Present { id, generation }), out)
            }
            Wanted::Roster { room, from, id } => {
                let drawn = self.draw(&room);
                let names = self.config.names();
                let partition = names.partition(&room).unwrap_or(0);
                commands::roster(&mut out, &names, drawn, &room, from);
                (self.send(Kind::Roster, partition, Sent::Roster { id }), out)
            }
        }
    }

    fn renew(&mut self, now: Time) -> (PresenceAsked, Vec<u8>) {
        let suspects = self.looks.renewing(now);
        let (cleared, retired) = (std::mem::take(&mut self.cleared), std::mem::take(&mut self.retired));
        let renewal = Renewal {
            incarnation: self.incarnation,
            is_new: !self.is_listed || self.held_until.is_none(),
            lease_ms: millis(self.lease()),
            about: &self.config.about,
            takes_max: CLEARINGS_MAX.saturating_sub(self.clearings.iter().filter(|one| !one.is_held_up()).count()),
            cleared: &cleared,
            handed_out_by: self.handed_out_by,
            retired: &retired,
            suspects: &suspects,
        };
        let mut out = Vec::new();
        commands::renew(&mut out, &self.config.names(), &renewal);
        self.is_listed = true;
        self.renewing = Some(Renewing { generation: self.generation, since: now, cleared, retired, suspects });
        (self.send(Kind::Renew, 0, Sent::Renew), out)
    }

    fn poll_background(&mut self, now: Time) -> Option<(PresenceAsked, Vec<u8>)> {
        if self.background >= BACKGROUND_MAX {
            return None;
        }
        let mut out = Vec::new();
        // Who has a lease is known with the own one.
        if self.held_until.is_some()
            && let Some(partition) = self.looks.pop()
        {
            self.background += 1;
            commands::check(&mut out, &self.config.names(), self.incarnation, partition);
            let generation = self.generation;
            return Some((self.send(Kind::Check, partition, Sent::Check { generation }), out));
        }
        let (incarnation, job) =
            self.clearings.iter_mut().find_map(|clearing| Some((clearing.incarnation, clearing.next(now)?)))?;
        self.background += 1;
        Some(match job {
            Job::Gone(partition) => {
                commands::gone(&mut out, &self.config.names(), incarnation, partition);
                (self.send(Kind::Gone, partition, Sent::Gone { incarnation }), out)
            }
            Job::Leave(partition, room) => {
                let drawn = self.draw(&room);
                commands::leave(&mut out, &self.config.names(), (incarnation, drawn), &room);
                (self.send(Kind::Leave, partition, Sent::Leave { incarnation, room }), out)
            }
        })
    }

    fn send(&mut self, kind: Kind, partition: u16, sent: Sent) -> PresenceAsked {
        self.numbered += 1;
        self.sent.insert(self.numbered, sent);
        PresenceAsked { number: self.numbered, kind, partition }
    }

    /// What became of a command. `is_void`: the hub has heard meanwhile that nothing that it asked is answered.
    pub(super) fn hear(
        &mut self,
        (asked, outcome): (PresenceAsked, Outcome),
        is_void: bool,
        now: Time,
        events: &mut EventQueue,
    ) {
        let partition = asked.partition;
        match self.sent.remove(&asked.number) {
            None => {}
            Some(Sent::Present { generation, .. }) if generation != self.generation => {
                if matches!(outcome, Outcome::Done(_)) {
                    // Whoever has cleared up after that incarnation may have been there before.
                    self.looks.has_failed(partition);
                }
            }
            Some(Sent::Present { id, .. }) => match outcome {
                Outcome::Done(Done::Present { connections, rooms, replid }) => {
                    let is_lost = self.is_lost_at(partition, replid);
                    let known = self.partitions.entry(partition).or_default();
                    (known.is_told, known.rooms) = (true, rooms);
                    if is_lost {
                        self.lose(now, events);
                    } else if !is_void {
                        events.presence_kept(id, connections);
                    }
                }
                // What was on its way on a lost connection may be done later than what is told over the next one.
                Outcome::Dead | Outcome::Lost => self.lose(now, events),
                outcome => self.fail(id, &outcome, is_void, events),
            },
            Some(Sent::Roster { id }) => match outcome {
                Outcome::Done(Done::Roster { page, replid }) => {
                    if !is_void {
                        events.roster(id, page);
                    }
                    if self.is_lost_at(partition, replid) {
                        self.lose(now, events);
                    }
                }
                outcome => self.fail(id, &outcome, is_void, events),
            },
            Some(Sent::Renew) => self.renewed(outcome, is_void, now, events),
            // If it is not done, the lease runs out.
            Some(Sent::GiveBack) => self.gives_back = GivesBack::Done,
            Some(Sent::Check { generation }) => {
                self.background -= 1;
                self.checked(partition, generation == self.generation, &outcome, now, events);
            }
            Some(Sent::Gone { incarnation }) => {
                self.background -= 1;
                self.clear(incarnation, Job::Gone(partition), outcome, now);
            }
            Some(Sent::Leave { incarnation, room }) => {
                self.background -= 1;
                self.clear(incarnation, Job::Leave(partition, room), outcome, now);
            }
        }
    }

    fn fail(&self, id: PresenceId, outcome: &Outcome, is_void: bool, events: &mut EventQueue) {
        let is_of_cluster = self.config.names().is_of_cluster();
        match outcome {
            // Where this is the only connection, the hub asks again by itself.
            Outcome::Lost if !is_of_cluster => {}
            _ if is_void => {}
            Outcome::Failed { passes } => events.presence_failed(id, *passes),
            _ => events.presence_failed(id, true),
        }
    }

    fn renewed(&mut self, outcome: Outcome, is_void: bool, now: Time, events: &mut EventQueue) {
        let Some(Renewing { generation, since, mut cleared, mut retired, suspects }) = self.renewing.take() else {
            return;
        };
        let is_current = generation == self.generation;
        match outcome {
            Outcome::Done(Done::Renew { is_kept, replid, taken, instances }) => {
                (self.instances, self.is_news) = (instances, true);
                if self.handed_out_by.replace(replid).is_some_and(|before| before != replid) {
                    self.clearings.clear();
                    self.cleared.clear();
                    self.is_forgetful = true;
                }
                self.begin_clearing(taken);
                if !is_current {
                    self.next_at = now;
                } else if is_kept {
                    self.held_until = Some(since + self.lease());
                    self.next_at = if self.looks.has_suspects() { now } else { since + self.lease() / 3 };
                    if std::mem::take(&mut self.is_forgetful) {
                        self.looks.look_at_all(now, self.lease());
                    }
                    if self.is_lost_at(0, replid) {
                        self.lose(now, events);
                    }
                } else {
                    self.is_forgetful = true;
                    self.lose(now, events);
                }
            }
            outcome => {
                self.looks.not_renewed(suspects);
                self.cleared.append(&mut cleared);
                self.retired.append(&mut retired);
                self.next_at = if is_current { now + self.lease() / 10 } else { now };
                if self.held_until.is_none() && is_current {
                    let is_void = is_void || outcome == Outcome::Lost && !self.config.names().is_of_cluster();
                    self.fail_waiting(!matches!(outcome, Outcome::Failed { passes: false }), is_void, events);
                }
            }
        }
    }

    /// What was to be told cannot be, because there is no lease.
    fn fail_waiting(&mut self, passes: bool, is_void: bool, events: &mut EventQueue) {
        for wanted in self.presents.drain(..) {
            if let (Wanted::Present { id, .. }, false) = (wanted, is_void) {
                events.presence_failed(id, passes);
            }
        }
    }

    fn checked(&mut self, partition: u16, is_current: bool, outcome: &Outcome, now: Time, events: &mut EventQueue) {
        let lease = self.lease();
        let Outcome::Done(Done::Check { is_there, replid, tellers }) = outcome else {
            return self.looks.has_failed(partition);
        };
        if self.held_until.is_none() {
            // Who has a lease now is not known.
            self.looks.has_failed(partition);
        } else {
            let is_listed = |incarnation: Incarnation| {
                self.incarnation == incarnation || self.instances.iter().any(|one| one.incarnation == incarnation)
            };
            let strangers = tellers.iter().copied().filter(|incarnation| !is_listed(*incarnation));
            if self.looks.found(partition, strangers, now, lease) {
                self.hurry(now);
            }
        }
        let is_missing = !is_there && self.partitions.get(&partition).is_some_and(|known| known.rooms > 0);
        if is_current && (self.is_lost_at(partition, *replid) || is_missing) {
            self.lose(now, events);
        }
    }

    /// A step of clearing up is done, or has failed. If it cannot be done, Redis names the incarnation again once nobody clears up.
    fn clear(&mut self, incarnation: Incarnation, job: Job, outcome: Outcome, now: Time) {
        let pause_max = self.lease() / 10;
        let place = self.clearings.iter().position(|clearing| clearing.incarnation == incarnation);
        let Some(place) = place else { return };
        let clearing = &mut self.clearings[place];
        match (job, outcome) {
            (Job::Gone(partition), Outcome::Done(Done::Gone { rooms })) => clearing.is_gone(partition, rooms),
            (Job::Leave(partition, room), Outcome::Done(Done::Leave { is_more })) => {
                clearing.has_left(partition, room, is_more);
            }
            (job, Outcome::Failed { passes: true } | Outcome::Lost) => clearing.has_failed(job, now, pause_max),
            (job, _) => clearing.is_refused(&job),
        }
        if !clearing.is_done() {
            return;
        }
        if !self.clearings.remove(place).is_incomplete() {
            self.cleared.push(incarnation);
        }
        if self.clearings.iter().all(Clearing::is_held_up) {
            // There may be more of the dead than are taken on at a time.
            self.hurry(Time::ZERO);
        }
    }

    fn begin_clearing(&mut self, taken: Vec<Incarnation>) {
        for incarnation in taken {
            let is_begun = self.clearings.iter().any(|clearing| clearing.incarnation == incarnation)
                || self.sent.values().any(|sent| {
                    matches!(sent, Sent::Gone { incarnation: other } | Sent::Leave { incarnation: other, .. } if *other == incarnation)
                });
            if !is_begun && incarnation != self.incarnation {
                if self.clearings.len() >= CLEARINGS_KEPT_MAX
                    && let Some(place) = self.clearings.iter().position(Clearing::is_held_up)
                {
                    self.clearings.remove(place);
                }
                self.clearings.push(Clearing::new(incarnation, self.config.names().partitions()));
            }
        }
    }

    /// Which Redis has a partition. Says whether it may have lost what it was told: it is none that had been heard of when another one had
    /// the partition, so that this is no partition that has only moved.
    fn is_lost_at(&mut self, partition: u16, replid: Replid) -> bool {
        self.heard += 1;
        let heard = self.heard;
        let first = *self.replids.entry(replid).or_insert(heard);
        if self.replids.len() > REPLIDS_MAX
            && let Some((oldest, _)) =
                self.replids.iter().min_by_key(|(_, first)| **first).map(|(id, first)| (*id, *first))
        {
            self.replids.remove(&oldest);
        }
        let known = self.partitions.entry(partition).or_default();
        let before = known.replid.replace((replid, heard));
        known.is_told && before.is_some_and(|(before, last)| before != replid && first > last)
    }

    /// Nothing of what was told counts any more: a new incarnation begins.
    fn lose(&mut self, now: Time, events: &mut EventQueue) {
        if self.is_listed {
            self.retired.push(self.incarnation);
            let too_many = self.retired.len().saturating_sub(RETIRED_MAX);
            self.retired.drain(..too_many);
        }
        self.generation += 1;
        self.incarnation = Incarnation(self.draw(OF_INCARNATION));
        (self.is_listed, self.held_until, self.next_at) = (false, None, now);
        self.partitions.clear();
        self.presents.clear();
        if std::mem::take(&mut self.has_told) {
            events.presence_lost();
        }
    }

    fn lease(&self) -> Duration {
        self.config.presence_lease.max(Duration::from_secs(1))
    }

    /// What nobody else draws: publishers draw by the same seed, and of other numbers.
    fn draw(&mut self, of: &str) -> u64 {
        self.drawn += 1;
        draw(self.config.seed ^ u64::from_be_bytes(*b"presence"), self.drawn, of)
    }
}
