//! Which node each partition is at.

use std::time::Duration;

use super::super::names::slot_of_partition;
use crate::broker::Partitions;
use crate::time::Time;

/// For how long a node's own word counts for more than what others say, who may have yet to hear of it.
const NEWS_LASTS: Duration = Duration::from_secs(2);
/// A partition that is sent on again so soon has yet to settle.
const SETTLED_AFTER: Duration = Duration::from_secs(1);
/// It is left alone for so long then.
const PAUSE: Duration = Duration::from_millis(100);
/// For how long it is waited to hear which node has a partition that one has let go of.
const DOUBT_MAX: Duration = Duration::from_millis(500);

#[derive(Clone, Copy, Debug)]
struct Route {
    slot: u16,
    /// The place of its node, if it has any.
    node: Option<usize>,
    /// When a node last said that another one has it.
    moved_at: Option<Time>,
    /// Nothing is sent there earlier.
    ready_at: Time,
    /// Nor is any room subscribed to.
    subscribed_from: Time,
    /// The node was another one, which may have been sent something that it has yet to answer.
    is_fresh: bool,
}

/// All partitions.
#[derive(Debug)]
pub(super) struct Routes {
    of: Box<[Route]>,
}

impl Routes {
    pub(super) fn new(partitions: u16) -> Routes {
        let route = |partition| Route {
            slot: slot_of_partition(partition),
            node: None,
            moved_at: None,
            ready_at: Time::ZERO,
            subscribed_from: Time::ZERO,
            is_fresh: false,
        };
        Routes { of: (0..partitions).map(route).collect() }
    }

    /// The place of a partition's node, if it has any.
    pub(super) fn node(&self, partition: u16) -> Option<usize> {
        self.of[usize::from(partition)].node
    }

    pub(super) fn slot(&self, partition: u16) -> u16 {
        self.of[usize::from(partition)].slot
    }

    /// Whether something may be sent there.
    pub(super) fn ready_at(&self, partition: u16) -> Time {
        self.of[usize::from(partition)].ready_at
    }

    /// Whether rooms may be subscribed to there.
    pub(super) fn subscribed_from(&self, partition: u16) -> Time {
        let route = &self.of[usize::from(partition)];
        route.ready_at.max(route.subscribed_from)
    }

    /// Its node has let go of it, and may still take subscriptions, because it is a replica by now.
    pub(super) fn doubt(&mut self, partition: u16, now: Time) {
        self.of[usize::from(partition)].subscribed_from = now + DOUBT_MAX;
    }

    /// Its node says that it has it not, and cannot say who does.
    pub(super) fn pause(&mut self, partition: u16, now: Time) {
        self.of[usize::from(partition)].ready_at = now + PAUSE;
    }

    /// Whether the node was another one, and that has yet to be heard of.
    pub(super) fn is_fresh(&self, partition: u16) -> bool {
        self.of[usize::from(partition)].is_fresh
    }

    /// The nodes that had it before have answered everything.
    pub(super) fn has_settled(&mut self, partition: u16) {
        self.of[usize::from(partition)].is_fresh = false;
    }

    pub(super) fn partitions(&self) -> impl Iterator<Item = u16> + use<> {
        0..self.of.len() as u16
    }

    /// The partitions in this slot.
    pub(super) fn in_slot(&self, slot: u16) -> Vec<u16> {
        self.partitions().filter(|partition| self.slot(*partition) == slot).collect()
    }

    /// How many partitions the node at this place has.
    pub(super) fn count(&self, place: usize) -> usize {
        self.of.iter().filter(|route| route.node == Some(place)).count()
    }

    /// A node has said that this one has the partition. Says whether that is news.
    pub(super) fn moved(&mut self, partition: u16, node: usize, now: Time) -> bool {
        let route = &mut self.of[usize::from(partition)];
        let is_news = route.node != Some(node);
        if is_news {
            let is_unsettled = route.moved_at.is_some_and(|at| now.since(at) < SETTLED_AFTER);
            route.ready_at = if is_unsettled { now + PAUSE } else { now };
            (route.node, route.moved_at) = (Some(node), Some(now));
            (route.subscribed_from, route.is_fresh) = (now, true);
        }
        is_news
    }

    /// Takes over what a node knows of all partitions, but for those of which there is fresher news. Those that are elsewhere now.
    pub(super) fn replace(&mut self, node: impl Fn(u16) -> Option<usize>, now: Time) -> Partitions {
        let mut changed = Partitions::none_of(self.of.len() as u16);
        for partition in self.partitions() {
            let route = &mut self.of[usize::from(partition)];
            let is_fresh = route.moved_at.is_some_and(|at| now.since(at) < NEWS_LASTS);
            let told = node(route.slot);
            if route.node != told && !is_fresh {
                (route.node, route.ready_at) = (told, now);
                (route.subscribed_from, route.is_fresh) = (now, true);
                changed.insert(partition);
            }
        }
        changed
    }
}
