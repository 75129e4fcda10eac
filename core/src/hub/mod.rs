//! Rooms, and how they stand with the broker. [`Hub`] hears commands and the broker's events. It asks the broker, tells clients
//! what became of their commands, and tells the fan-out who is in a room and what is said there. It knows no frame, and ends no
//! connection.

pub(crate) mod asks;
mod commands;
mod deferral;
mod history;
mod joins;
mod lists;
mod presence;
mod program;
mod publication;
mod recovery;
mod rooms;
mod status;
mod subscriptions;

pub(crate) use publication::Publication;
pub(crate) use subscriptions::{REFUSED, Told};

use crate::broker::{Ask, FenceId};
use crate::config::Config;
use crate::context::Context;
use crate::id::ConnId;
use crate::metrics::Metrics;
use crate::slots::Slots;
use crate::time::Time;
use asks::{Asks, Kind, Senders};
use history::Histories;
use joins::Joins;
use lists::List;
use presence::Presence;
use recovery::Recovery;
use rooms::Rooms;
use status::BrokerStatus;
use std::collections::{BTreeSet, VecDeque};

/// All rooms of this core.
#[derive(Debug)]
pub(crate) struct Hub {
    rooms: Rooms,
    status: BrokerStatus,
    recovery: Recovery,
    senders: Senders,
    joins: Joins,
    /// Rooms that lost their last member, in the order in which that was noticed. A room that had a member in between may stand
    /// after later deadlines, and so lingers up to twice as long.
    lingering: VecDeque<(Time, u32)>,
    /// What the broker has not been asked for yet.
    asks: Asks,
    histories: Histories,
    presence: Option<Box<Presence>>,
    /// Rooms of programs that are held for the program, by key: a handful.
    program_rooms: Vec<u32>,
    lists: VecDeque<List>,
    /// For what a payload is opened to.
    scratch: Vec<u8>,
    /// For one text that is being built.
    text: Vec<u8>,
}

impl Hub {
    pub fn new(config: &Config) -> Hub {
        Hub {
            rooms: Rooms::new(config.seed),
            status: BrokerStatus::default(),
            recovery: Recovery::default(),
            senders: Senders::default(),
            joins: Joins::new(config),
            lingering: VecDeque::new(),
            asks: Asks::default(),
            histories: Histories::new(config),
            presence: Presence::is_wanted(config).then(|| Box::new(Presence::new(config))),
            program_rooms: Vec::new(),
            lists: VecDeque::new(),
            scratch: Vec::new(),
            text: Vec::new(),
        }
    }

    /// Time has passed.
    pub fn timeout(&mut self, cx: &mut Context) {
        self.end_lingering(cx);
        self.resubscribe(cx);
        self.end_overdue(cx);
        if !self.histories.is_idle() {
            self.history_timeout(cx);
        }
        if self.presence.is_some() {
            self.presence_timeout(cx);
        }
        if !self.lists.is_empty() {
            self.list_some(cx);
        }
    }

    /// Whether members have missed something and cannot be told.
    pub fn has_missed(&self) -> bool {
        self.histories.has_missed()
    }

    /// Takes the members that have missed something and cannot be told: they have to come back.
    pub fn take_missed(&mut self) -> BTreeSet<u32> {
        self.histories.take_missed()
    }

    /// Whether users have too many connections on all instances.
    pub fn has_excess(&self) -> bool {
        self.presence.as_ref().is_some_and(|presence| presence.has_excess())
    }

    /// Takes the connections that are too many.
    pub fn take_excess(&mut self) -> Vec<u32> {
        self.presence.as_mut().map(|presence| presence.take_excess()).unwrap_or_default()
    }

    /// When it has something to do at the latest.
    pub fn next_timeout(&self, slots: &Slots) -> Option<Time> {
        // What a connection had yet to publish when its socket failed is asked for in the next turn.
        if self.status.resubscribe_from.is_some() || self.asks.len() > 0 || !self.lists.is_empty() {
            return Some(Time::ZERO);
        }
        let lingering = self.lingering.front().map(|(deadline, _)| *deadline);
        let presence = self.presence.as_ref();
        let presence = presence.and_then(|presence| presence.next_timeout(self.status.publisher_down.is_some()));
        let lingering = [lingering, presence].into_iter().flatten().min();
        match self.joins.is_empty() && self.histories.is_idle() {
            true => lingering,
            false => {
                let histories = self.histories.next_timeout(slots);
                [lingering, self.joins.deadline(), histories].into_iter().flatten().min()
            }
        }
    }

    /// Whether the broker takes everything.
    ///
    /// # Errors
    /// Why not.
    pub fn readiness(&self) -> Result<(), &str> {
        self.status.readiness()
    }

    /// Whether no message can come.
    pub fn is_cut_off(&self) -> bool {
        self.status.is_down()
    }

    /// Asks the broker for a sign behind all that was published before.
    pub fn ask_fence(&mut self, id: FenceId) {
        self.asks.push(Kind::Fence(id), "", |_| {});
    }

    /// How many things the broker is to be asked for in this turn.
    pub fn asks(&self) -> usize {
        self.asks.len()
    }

    /// One of them.
    pub fn ask(&self, index: usize) -> Option<Ask<'_>> {
        self.asks.get(index)
    }

    /// Forgets the first `done` of them.
    pub fn forget_asks(&mut self, done: usize) {
        self.asks.clear(done);
    }

    /// Connections that wait for the outcome of a publish, or to become a member. Those whose dialect has no word for it are left
    /// out. While the broker is away nobody becomes a member, so joins are left out then.
    pub fn owed(&self, slots: &Slots) -> BTreeSet<u32> {
        let senders = self.senders.waiting().filter_map(|conn: ConnId| slots.slot(conn));
        let joining = self.joins.slots().chain(self.histories.who_is_asking()).filter(|_| !self.status.is_down());
        let asking = self.histories.askers().filter_map(|conn| slots.slot(conn));
        let observing = self.presence.iter().flat_map(|presence| presence.askers());
        let observing = observing.filter_map(|conn| slots.slot(conn));
        senders
            .chain(joining)
            .chain(asking)
            .chain(observing)
            .filter(|slot| slots.get(*slot).dialect.has_replies())
            .collect()
    }

    /// Fills in the figures that are its own.
    pub fn describe(&self, cx: &Context, metrics: &mut Metrics) {
        metrics.publishes_deferred_now = self.joins.deferred() as u64;
        metrics.history_bytes_now = self.histories.memory_bytes() as u64;
        metrics.members_behind_now = self.histories.behind() as u64;
        if let Some(presence) = &self.presence {
            presence.describe(metrics);
            for room in presence.observed() {
                let members = cx.fanout.audience(room).members() as u64;
                metrics.memberships_now -= members;
                metrics.rooms_now -= u64::from(members > 0);
            }
        }
    }

    /// Panics unless its parts agree with each other, with the connections and with the fan-out.
    pub fn check_invariants(&self, cx: &Context) {
        let (mut lingering, mut waiting) = (0, 0);
        for (key, room) in self.rooms.iter() {
            assert_eq!(self.rooms.find(&room.name), Some(key));
            lingering += usize::from(room.lingering);
            for group in cx.fanout.audience(key).groups() {
                for (index, conn) in group.members().iter().enumerate() {
                    let is_waiting = group.seat(index as u32).is_waiting();
                    assert_eq!(is_waiting, self.joins.contains(conn.slot() as u32, key));
                    assert!(!(is_waiting && self.is_open(key)), "nobody waits for what is held");
                    waiting += usize::from(is_waiting);
                }
            }
        }
        assert_eq!(lingering, self.lingering.len(), "a room stands in the queue once");
        assert_eq!(waiting, self.joins.len(), "whoever waits has a seat");
        self.joins.check_invariants();
        self.histories.check_invariants();
        if let Some(presence) = &self.presence {
            presence.check_invariants(cx, |name, is_counted| {
                let Some(key) = self.rooms.find(name) else { return 0 };
                let members = cx.fanout.audience(key).groups().flat_map(|group| group.members());
                members.filter(|conn| is_counted(conn.slot() as u32)).count() as u32
            });
        }
        assert!(self.joins.deferred() == 0 || !self.status.is_down(), "nothing waits for a broker that is away");
    }

    /// Panics if anything is left of a room.
    pub fn check_idle(&self) {
        assert!(self.rooms.iter().all(|(key, _)| self.program_rooms.contains(&key)), "rooms are left");
        assert!(self.lingering.is_empty() && self.joins.is_empty(), "somebody waits for a room");
        assert!(self.senders.is_empty(), "somebody waits for the outcome of a publish");
        self.histories.check_idle();
        if let Some(presence) = &self.presence {
            presence.check_idle();
        }
    }
}
