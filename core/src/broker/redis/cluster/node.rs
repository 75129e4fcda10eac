//! One master of a Cluster: the session with it, and how it stands.

use super::super::link_id::Role;
use super::super::session::RedisSession;
use super::super::{Address, RedisConfig};
use crate::broker::{BrokerEvent, FenceId, Partitions};
use crate::hash::Seeded;
use crate::time::Time;
use std::hash::BuildHasher;
use std::time::Duration;

/// One that has nothing of ours is left after so long.
const IDLE_MAX: Duration = Duration::from_secs(10);
/// One that is no master any more has so long to answer what it was sent before.
const DEMOTED_MAX: Duration = Duration::from_millis(200);
/// Time for its first connection, before anybody is told that there is none.
const PATIENCE: Duration = Duration::from_secs(1);

/// A master, or a node that will be one.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) address: Address,
    pub(super) session: RedisSession,
    made_at: Time,
    /// When it last had something of ours, or was made.
    pub(super) used_at: Time,
    /// When another node said that it has no partition any more.
    pub(super) demoted_at: Option<Time>,
    /// Its connections are being ended.
    pub(super) is_leaving: bool,
    /// As was told last.
    pub(super) is_subscriber_up: bool,
    pub(super) is_publisher_up: bool,
    /// Partitions that went to another node, and whose subscriptions this one has not ended.
    pub(super) left: Partitions,
    /// Its canary has no channel, because its node has not the partition, and there is no other one that it could have.
    pub(super) is_canary_due: bool,
    /// It was lost, and with it all its subscriptions, of which nobody has heard yet.
    was_lost: bool,
    /// Why it refuses for a while.
    refusing: Option<String>,
    is_news: bool,
    /// Its publisher has come up.
    came_up: bool,
    /// The newest fence that it has answered.
    fenced: Option<FenceId>,
}

impl Node {
    /// The `made`th one.
    pub(super) fn new(address: Address, (made, partitions): (u64, u16), now: Time, config: &RedisConfig) -> Node {
        let seed = Seeded::new(config.seed).hash_one(made);
        Node {
            session: RedisSession::new(Some(address.clone()), seed, config.clone()),
            address,
            made_at: now,
            used_at: now,
            demoted_at: None,
            is_leaving: false,
            is_subscriber_up: false,
            is_publisher_up: false,
            left: Partitions::none_of(partitions),
            is_canary_due: false,
            was_lost: false,
            refusing: None,
            is_news: false,
            came_up: false,
            fenced: None,
        }
    }

    /// Takes what was read, and passes on what is for the hub.
    pub(super) fn input(&mut self, role: Role, data: &[u8], now: Time, mut sink: impl FnMut(BrokerEvent<'_>)) {
        let Node { session, is_subscriber_up, is_publisher_up, was_lost, refusing, is_news, came_up, fenced, .. } =
            self;
        let mut standing = Standing { is_subscriber_up, is_publisher_up, was_lost, refusing, is_news, came_up, fenced };
        session.input(role, data, now, |event| standing.pass(event, &mut sink));
    }

    /// Passes on what is for the hub, of what has come about otherwise.
    pub(super) fn poll_events(&mut self, mut sink: impl FnMut(BrokerEvent<'_>)) {
        let Node { session, is_subscriber_up, is_publisher_up, was_lost, refusing, is_news, came_up, fenced, .. } =
            self;
        let mut standing = Standing { is_subscriber_up, is_publisher_up, was_lost, refusing, is_news, came_up, fenced };
        session.poll_events(|event| standing.pass(event, &mut sink));
    }

    /// Whether there is anything to be taken from it.
    pub(super) fn has_to_tell(&self) -> bool {
        self.session.has_events() || self.session.has_news()
    }

    /// Whether it was lost since the last time.
    pub(super) fn take_loss(&mut self) -> bool {
        std::mem::take(&mut self.was_lost)
    }

    /// Whether it stands otherwise than the last time.
    pub(super) fn take_is_news(&mut self) -> bool {
        std::mem::take(&mut self.is_news)
    }

    /// Whether its publisher has come up since the last time.
    pub(super) fn take_came_up(&mut self) -> bool {
        std::mem::take(&mut self.came_up)
    }

    /// The newest fence that it has answered since the last time.
    pub(super) fn take_fenced(&mut self) -> Option<FenceId> {
        self.fenced.take()
    }

    /// Why it does not do what it is asked, for people.
    pub(super) fn trouble(&self, now: Time) -> Option<String> {
        if self.is_subscriber_up && self.is_publisher_up {
            return self.refusing.clone();
        }
        let is_late = self.late_at().is_none_or(|at| at <= now);
        let error = self.session.last_error().or(is_late.then_some("not connected yet"))?;
        Some(error.to_owned())
    }

    /// When it is amiss that it is not connected, although nothing has failed.
    pub(super) fn late_at(&self) -> Option<Time> {
        let is_up = self.is_subscriber_up && self.is_publisher_up;
        (!is_up).then_some(self.made_at + PATIENCE)
    }

    /// When to leave it, if it has nothing of ours.
    pub(super) fn leave_at(&self) -> Time {
        self.demoted_at.map_or(self.used_at + IDLE_MAX, |at| at + DEMOTED_MAX)
    }

    /// Ends its connections.
    pub(super) fn leave(&mut self, now: Time) {
        self.is_leaving = true;
        self.session.lead_to(None, "it has no slot of ours any more", now);
    }
}

/// What is noted of how it stands.
struct Standing<'a> {
    is_subscriber_up: &'a mut bool,
    is_publisher_up: &'a mut bool,
    was_lost: &'a mut bool,
    refusing: &'a mut Option<String>,
    is_news: &'a mut bool,
    came_up: &'a mut bool,
    fenced: &'a mut Option<FenceId>,
}

impl Standing<'_> {
    fn pass(&mut self, event: BrokerEvent<'_>, sink: &mut impl FnMut(BrokerEvent<'_>)) {
        let reason_of = |reason: &str| Some(reason.strip_prefix("Redis: ").unwrap_or(reason).to_owned());
        match event {
            BrokerEvent::Up => *self.is_subscriber_up = true,
            BrokerEvent::Down { .. } => *self.was_lost |= std::mem::take(self.is_subscriber_up),
            BrokerEvent::PublisherUp => (*self.is_publisher_up, *self.came_up) = (true, true),
            BrokerEvent::PublisherDown { .. } => *self.is_publisher_up = false,
            BrokerEvent::Refusing { reason } => *self.refusing = reason_of(reason),
            BrokerEvent::Willing => *self.refusing = None,
            BrokerEvent::Fenced { id } => {
                *self.fenced = Some(id);
                return;
            }
            event => return sink(event),
        }
        *self.is_news = true;
    }
}
