//! Clearing up after a dead incarnation: in each partition it is said to be dead, and then its users are taken out of one room after the other.

use super::commands::Incarnation;
use std::collections::{BTreeMap, VecDeque};

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Job {
    /// It is dead in this partition: in which rooms has it anybody?
    Gone(u16),
    /// Nor is any of its users in this room of the partition.
    Leave(u16, Box<str>),
}

/// The steps for one incarnation.
#[derive(Debug)]
pub(super) struct Clearing {
    pub(super) incarnation: Incarnation,
    partitions: u16,
    /// The partition that has not been begun with.
    next: u16,
    jobs: VecDeque<Job>,
    /// How many of the rooms that were named are left, in partitions where there are any.
    rooms: BTreeMap<u16, usize>,
    in_flight: usize,
}

impl Clearing {
    pub(super) fn new(incarnation: Incarnation, partitions: u16) -> Clearing {
        Clearing { incarnation, partitions, next: 0, jobs: VecDeque::new(), rooms: BTreeMap::new(), in_flight: 0 }
    }

    /// The next step that can be done now.
    pub(super) fn next(&mut self) -> Option<Job> {
        let job = self.jobs.pop_front().or_else(|| {
            let partition = self.next;
            self.next += u16::from(partition < self.partitions);
            (partition < self.partitions).then_some(Job::Gone(partition))
        })?;
        self.in_flight += 1;
        Some(job)
    }

    /// Whether [`Clearing::next`] has one.
    pub(super) fn has_next(&self) -> bool {
        !self.jobs.is_empty() || self.next < self.partitions
    }

    /// It is dead in this partition, and has somebody in these rooms.
    pub(super) fn is_gone(&mut self, partition: u16, rooms: Vec<Box<str>>) {
        self.in_flight -= 1;
        if !rooms.is_empty() {
            self.rooms.insert(partition, rooms.len());
            self.jobs.extend(rooms.into_iter().map(|room| Job::Leave(partition, room)));
        }
    }

    /// Users were taken out of this room, and more are left or not.
    pub(super) fn has_left(&mut self, partition: u16, room: Box<str>, is_more: bool) {
        self.in_flight -= 1;
        if is_more {
            return self.jobs.push_front(Job::Leave(partition, room));
        }
        let Some(left) = self.rooms.get_mut(&partition) else { return };
        *left -= 1;
        if *left == 0 {
            self.rooms.remove(&partition);
            // There may be more of them.
            self.jobs.push_front(Job::Gone(partition));
        }
    }

    /// Whether nothing of it is left anywhere.
    pub(super) fn is_done(&self) -> bool {
        !self.has_next() && self.in_flight == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_room_of_every_partition_is_left_and_the_partition_asked_again() {
        let mut clearing = Clearing::new(Incarnation(1), 2);
        let mut jobs = Vec::new();
        let mut rooms = VecDeque::from([vec!["a".into(), "b".into()], vec![], vec!["c".into()], vec![], vec![]]);
        let mut leaves_twice = true;
        while let Some(job) = clearing.next() {
            jobs.push(job.clone());
            match job {
                Job::Gone(partition) => clearing.is_gone(partition, rooms.pop_front().unwrap()),
                Job::Leave(partition, room) => clearing.has_left(partition, room, std::mem::take(&mut leaves_twice)),
            }
        }
        let leave = |partition, room: &str| Job::Leave(partition, room.into());
        let first = [Job::Gone(0), leave(0, "a"), leave(0, "a"), leave(0, "b"), Job::Gone(0)];
        assert_eq!(jobs[..5], first);
        assert_eq!(jobs[5..], [Job::Gone(1), leave(1, "c"), Job::Gone(1)]);
        assert!(clearing.is_done());
    }
}
