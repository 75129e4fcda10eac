//! Who is in rooms whose rule has presence.
//!
//! Each instance tells the broker how many connections of which user it has in a room ([`members`], [`telling`]). The broker adds up, and
//! publishes what changes. Whoever wants to know who is there *observes* the room: it is a member of a room beside it, which has its name
//! from [`name_of`](crate::presence::name_of), and whose messages are these changes. So nobody pays for presence that nobody observes. Of a
//! room that is observed the instance knows who is there ([`view`]), and answers questions out of that ([`observing`]).

mod crowds;
mod members;
mod observing;
mod telling;
mod view;

use crate::broker::PresenceId;
use crate::config::Config;
use crate::context::Context;
use crate::hash::{BySlot, Seeded};
use crate::id::ConnId;
use crate::metrics::Metrics;
use crate::presence::crowd_of;
use crate::protocol::CommandId;
use crate::time::Time;
use crowds::Crowds;
use hashbrown::HashMap;
use members::{Key, Members};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use view::{Course, View};

/// What is told of and has not been answered, at most, and what is read. More wait in their order.
const TELLS_IN_FLIGHT_MAX: usize = 512;
const READS_IN_FLIGHT_MAX: usize = 64;

/// How long a client's question may wait. A broker that says nothing for so long is as good as away.
const ANSWERED_WITHIN: Duration = Duration::from_secs(10);

/// What has been asked of the broker.
#[derive(Debug)]
enum Outstanding {
    /// That it knows of so many connections, and which edition of the user's info.
    Told(Key, (u32, u32)),
    /// A part of those who are in a room, for this view.
    Read(u32, Course),
}

/// A client's `PRESENCE` that waits until it is known who is there.
#[derive(Debug)]
struct Question {
    conn: ConnId,
    id: Option<CommandId>,
    /// When it was asked.
    at: Time,
    limit: u32,
    after: Option<Box<str>>,
}

/// All that is known of presence. Exists only where a rule has it.
#[derive(Debug)]
pub(in crate::hub) struct Presence {
    members: Members,
    crowds: Crowds,
    /// By the key of the room beside the one that is observed.
    views: HashMap<u32, View, Seeded>,
    /// How many rooms each connection observes.
    observing: BySlot<u32>,
    /// Those that wait, by the same key.
    questions: BTreeMap<u32, Vec<Question>>,
    outstanding: BTreeMap<PresenceId, Outstanding>,
    /// How many of these are reads.
    reads: usize,
    /// Parts that are to be read, for which view.
    to_read: VecDeque<(u32, Course, u64)>,
    /// Views that could not be read, and when to begin anew.
    unread: VecDeque<(Time, u32, Course)>,
    /// Views that have to be looked at again, and when.
    unsettled: VecDeque<(Time, u32, Course)>,
    /// What the broker did not take, and when to tell it again.
    untold: VecDeque<(Time, Key)>,
    /// Rooms of which somebody has asked who is there, and when.
    asked: VecDeque<(Time, u32)>,
    next_id: u64,
    next_serial: u64,
    users_max: u32,
    linger: Duration,
}

impl Presence {
    /// Whether anything is to be kept of who is where.
    pub fn is_wanted(config: &Config) -> bool {
        config.rules.have_presence() || config.presence.connections_per_user_max > 0
    }

    pub fn new(config: &Config) -> Presence {
        Presence {
            members: Members::new(config.seed),
            crowds: Crowds::new(config.presence.connections_per_user_max, config.seed),
            views: HashMap::with_hasher(Seeded::new(config.seed)),
            observing: BySlot::with_hasher(Seeded::new(config.seed)),
            questions: BTreeMap::new(),
            outstanding: BTreeMap::new(),
            reads: 0,
            to_read: VecDeque::new(),
            unread: VecDeque::new(),
            unsettled: VecDeque::new(),
            untold: VecDeque::new(),
            asked: VecDeque::new(),
            next_id: 0,
            next_serial: 0,
            users_max: config.presence.users_max,
            linger: config.presence.linger,
        }
    }

    /// The room beside one that was observed is no more.
    pub fn forget(&mut self, room: u32) {
        self.views.remove(&room);
    }

    /// The connection has gone from all rooms.
    pub fn forget_connection(&mut self, slot: u32, now: Time) {
        if self.crowds.are_limited()
            && let Some(user) = self.members.name_of(slot).map(Box::<str>::from)
            && let Some(key) = self.members.leave(slot, &crowd_of(&user), now, Duration::ZERO)
        {
            self.crowds.go(key, slot);
        }
        self.members.forget(slot);
    }

    /// Whether users have too many connections.
    pub fn has_excess(&self) -> bool {
        self.crowds.has_excess()
    }

    /// Takes those that are too many.
    pub fn take_excess(&mut self) -> Vec<u32> {
        self.crowds.take_excess()
    }

    /// Whether somebody waits to be told who is there.
    pub fn is_asked(&self, room: u32) -> bool {
        self.questions.contains_key(&room)
    }

    /// How many rooms the connection observes.
    pub fn observed_by(&self, slot: u32) -> usize {
        if self.observing.is_empty() { 0 } else { self.observing.get(&slot).map_or(0, |rooms| *rooms as usize) }
    }

    /// Who waits to be told who is there, each as often as it does.
    pub fn askers(&self) -> impl Iterator<Item = ConnId> + '_ {
        self.questions.values().flatten().map(|question| question.conn)
    }

    /// When it has something to do at the latest. While the publishing connection `is_down` nothing can be told.
    pub fn next_timeout(&self, is_down: bool) -> Option<Time> {
        let tells = self.members.has_news() && !is_down && self.tells() < TELLS_IN_FLIGHT_MAX;
        let telling = tells.then_some(Time::ZERO);
        let views = [&self.unread, &self.unsettled].map(|queue| queue.front().map(|(at, ..)| *at));
        let untold = self.untold.front().map(|(at, _)| *at);
        let asked = self.asked.front().map(|(at, _)| *at + ANSWERED_WITHIN);
        [self.members.next_timeout(), telling, views[0], views[1], untold, asked].into_iter().flatten().min()
    }

    fn tells(&self) -> usize {
        self.outstanding.len() - self.reads
    }

    /// The rooms by which others are observed.
    pub fn observed(&self) -> impl Iterator<Item = u32> {
        self.views.keys().copied()
    }

    /// Fills in the figures that are its own.
    pub fn describe(&self, metrics: &mut Metrics) {
        metrics.presence_users_now = self.members.len() as u64;
        metrics.presence_rooms_observed_now = self.views.len() as u64;
    }

    /// Panics unless its parts agree with each other. `members` tells how many members of a room satisfy something.
    pub fn check_invariants(&self, cx: &Context, members: impl Fn(&str, &dyn Fn(u32) -> bool) -> u32) {
        self.members.check_invariants(|name, is_counted| match name.starts_with('\u{1}') {
            true => cx.slots.slots().filter(|slot| is_counted(*slot)).count() as u32,
            false => members(name, is_counted),
        });
        self.crowds.check_invariants(&cx.slots);
        self.views.values().for_each(View::check_invariants);
        let reads = self.outstanding.values().filter(|outstanding| matches!(outstanding, Outstanding::Read(..)));
        assert_eq!(reads.count(), self.reads);
        assert!(self.questions.iter().all(|(room, questions)| !questions.is_empty() && self.views.contains_key(room)));
    }

    /// Panics if anything is left of a connection.
    pub fn check_idle(&self) {
        self.members.check_idle();
        self.crowds.check_idle();
        assert!(self.observing.is_empty() && self.questions.is_empty(), "somebody observes a room");
    }
}
