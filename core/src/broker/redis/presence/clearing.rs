//! Clearing up after a dead incarnation: in each partition it is said to be dead, and then its users are taken out of one room after the other.
//!
//! A step that fails and may pass is repeated after a pause, and holds up those of its own partition only.

use super::commands::Incarnation;
use crate::time::Time;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// How long a partition is left alone in which a step has failed. It doubles with each that fails there.
const PAUSE_MIN: Duration = Duration::from_millis(100);

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Job {
    /// It is dead in this partition: in which rooms has it anybody?
    Gone(u16),
    /// Nor is any of its users in this room of the partition.
    Leave(u16, Box<str>),
}

impl Job {
    fn partition(&self) -> u16 {
        match self {
            Job::Gone(partition) | Job::Leave(partition, _) => *partition,
        }
    }
}

/// Rooms of a partition that were named.
#[derive(Debug, Default)]
struct Named {
    left: BTreeSet<Box<str>>,
    /// Whether it was taken out of any of them.
    is_progress: bool,
}

/// A partition in which a step has failed.
#[derive(Debug)]
struct PutOff {
    jobs: VecDeque<Job>,
    /// When one of them is tried again.
    again_at: Time,
    failures: u32,
    /// One of them is being tried.
    is_tried: bool,
}

/// The steps for one incarnation.
#[derive(Debug)]
pub(super) struct Clearing {
    pub(super) incarnation: Incarnation,
    partitions: u16,
    /// The partition that has not been begun with.
    next: u16,
    jobs: VecDeque<Job>,
    put_off: BTreeMap<u16, PutOff>,
    /// In partitions where there are any.
    rooms: BTreeMap<u16, Named>,
    in_flight: usize,
    /// Something cannot be done.
    is_incomplete: bool,
}

impl Clearing {
    pub(super) fn new(incarnation: Incarnation, partitions: u16) -> Clearing {
        Clearing {
            incarnation,
            partitions,
            next: 0,
            jobs: VecDeque::new(),
            put_off: BTreeMap::new(),
            rooms: BTreeMap::new(),
            in_flight: 0,
            is_incomplete: false,
        }
    }

    /// The next step that can be done now.
    pub(super) fn next(&mut self, now: Time) -> Option<Job> {
        let job = self.next_put_off(now).or_else(|| self.next_of_others())?;
        self.in_flight += 1;
        Some(job)
    }

    fn next_put_off(&mut self, now: Time) -> Option<Job> {
        let put_off = self.put_off.values_mut().find(|put_off| !put_off.is_tried && put_off.again_at <= now)?;
        put_off.is_tried = true;
        put_off.jobs.pop_front()
    }

    fn next_of_others(&mut self) -> Option<Job> {
        while let Some(job) = self.jobs.pop_front() {
            match self.put_off.get_mut(&job.partition()) {
                Some(put_off) => put_off.jobs.push_back(job),
                None => return Some(job),
            }
        }
        let partition = self.next;
        self.next += u16::from(partition < self.partitions);
        (partition < self.partitions).then_some(Job::Gone(partition))
    }

    /// When [`Clearing::next`] has one, as far as that is known: at once, where nothing has failed.
    pub(super) fn next_at(&self) -> Option<Time> {
        if self.has_others() {
            return Some(Time::ZERO);
        }
        self.put_off.values().filter(|put_off| !put_off.is_tried).map(|put_off| put_off.again_at).min()
    }

    fn has_others(&self) -> bool {
        self.next < self.partitions || self.jobs.iter().any(|job| !self.put_off.contains_key(&job.partition()))
    }

    /// It is dead in this partition, and has somebody in these rooms.
    pub(super) fn is_gone(&mut self, partition: u16, rooms: Vec<Box<str>>) {
        self.is_answered(partition);
        for room in rooms {
            let named = self.rooms.entry(partition).or_default();
            if named.left.insert(room.clone()) {
                self.jobs.push_back(Job::Leave(partition, room));
            }
        }
    }

    /// Users were taken out of this room, and more are left or not.
    pub(super) fn has_left(&mut self, partition: u16, room: Box<str>, is_more: bool) {
        self.is_answered(partition);
        if is_more {
            return self.jobs.push_front(Job::Leave(partition, room));
        }
        self.is_over(partition, &room, true);
    }

    /// Nothing more is done in a room that was named.
    fn is_over(&mut self, partition: u16, room: &str, is_progress: bool) {
        let Some(named) = self.rooms.get_mut(&partition) else { return };
        named.left.remove(room);
        named.is_progress |= is_progress;
        if named.left.is_empty() && self.rooms.remove(&partition).is_some_and(|named| named.is_progress) {
            // There may be more of them.
            self.jobs.push_front(Job::Gone(partition));
        }
    }

    /// A step was not done, but may be later. No pause is longer than this.
    pub(super) fn has_failed(&mut self, job: Job, now: Time, pause_max: Duration) {
        self.in_flight -= 1;
        let put_off = self.put_off.entry(job.partition()).or_insert_with(|| PutOff {
            jobs: VecDeque::new(),
            again_at: Time::ZERO,
            failures: 0,
            is_tried: true,
        });
        put_off.jobs.push_front(job);
        // Those that were sent with it fail as well.
        if std::mem::take(&mut put_off.is_tried) {
            let pause = PAUSE_MIN.saturating_mul(1 << put_off.failures.min(16));
            put_off.again_at = now + pause.min(pause_max);
            put_off.failures += 1;
        }
    }

    /// A step cannot be done.
    pub(super) fn is_refused(&mut self, job: &Job) {
        self.is_answered(job.partition());
        self.is_incomplete = true;
        if let Job::Leave(partition, room) = job {
            self.is_over(*partition, room, false);
        }
    }

    fn is_answered(&mut self, partition: u16) {
        self.in_flight -= 1;
        if let Some(put_off) = self.put_off.remove(&partition) {
            self.jobs.extend(put_off.jobs);
        }
    }

    /// This partition is somewhere else, or reached anew: what was done there may be lost, and what has failed may be tried.
    pub(super) fn begin_anew(&mut self, partition: u16) {
        let gone = Job::Gone(partition);
        match self.put_off.get_mut(&partition) {
            Some(put_off) => {
                (put_off.again_at, put_off.failures) = (Time::ZERO, 0);
                if !put_off.jobs.contains(&gone) {
                    put_off.jobs.push_back(gone);
                }
            }
            None if partition < self.next && !self.jobs.contains(&gone) => self.jobs.push_back(gone),
            None => {}
        }
    }

    /// Whether nothing is left to do but what has failed.
    pub(super) fn is_held_up(&self) -> bool {
        !self.put_off.is_empty() && !self.has_others()
    }

    /// Whether all that could be done is done.
    pub(super) fn is_done(&self) -> bool {
        self.next == self.partitions && self.jobs.is_empty() && self.put_off.is_empty() && self.in_flight == 0
    }

    /// Whether something could not be done.
    pub(super) fn is_incomplete(&self) -> bool {
        self.is_incomplete
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE_MAX: Duration = Duration::from_secs(1);

    fn leave(partition: u16, room: &str) -> Job {
        Job::Leave(partition, room.into())
    }

    fn at(ms: u64) -> Time {
        Time::from_millis(ms)
    }

    #[test]
    fn every_room_of_every_partition_is_left_and_the_partition_asked_again() {
        let mut clearing = Clearing::new(Incarnation(1), 2);
        let mut jobs = Vec::new();
        let mut rooms = VecDeque::from([vec!["a".into(), "b".into()], vec![], vec!["c".into()], vec![], vec![]]);
        let mut leaves_twice = true;
        while let Some(job) = clearing.next(at(0)) {
            jobs.push(job.clone());
            match job {
                Job::Gone(partition) => clearing.is_gone(partition, rooms.pop_front().unwrap()),
                Job::Leave(partition, room) => clearing.has_left(partition, room, std::mem::take(&mut leaves_twice)),
            }
        }
        let first = [Job::Gone(0), leave(0, "a"), leave(0, "a"), leave(0, "b"), Job::Gone(0)];
        assert_eq!(jobs[..5], first);
        assert_eq!(jobs[5..], [Job::Gone(1), leave(1, "c"), Job::Gone(1)]);
        assert!(clearing.is_done() && !clearing.is_incomplete());
    }

    #[test]
    fn what_fails_is_repeated_after_pauses_and_holds_up_no_other_partition() {
        let mut clearing = Clearing::new(Incarnation(1), 2);
        assert_eq!(clearing.next(at(0)), Some(Job::Gone(0)));
        clearing.is_gone(0, vec!["a".into(), "b".into(), "c".into()]);
        assert_eq!([clearing.next(at(0)), clearing.next(at(0))], [Some(leave(0, "a")), Some(leave(0, "b"))]);
        clearing.has_failed(leave(0, "a"), at(0), PAUSE_MAX);
        clearing.has_failed(leave(0, "b"), at(1), PAUSE_MAX);
        assert!(!clearing.is_held_up());
        assert_eq!(clearing.next(at(1)), Some(Job::Gone(1)), "and `c` has to wait");
        clearing.is_gone(1, vec![]);
        assert!(clearing.is_held_up() && !clearing.is_done());
        let mut now = 0;
        for pause in [100, 200, 400, 800, 1_000, 1_000] {
            now += pause;
            assert_eq!(clearing.next_at(), Some(at(now)));
            assert_eq!(clearing.next(at(now - 1)), None);
            let tried = clearing.next(at(now)).expect("one");
            assert_eq!((clearing.next(at(now)), clearing.next_at()), (None, None), "one is tried at a time");
            clearing.has_failed(tried, at(now), PAUSE_MAX);
        }
        clearing.begin_anew(0);
        let mut left = Vec::new();
        while let Some(job) = clearing.next(at(now)) {
            match job {
                Job::Gone(partition) => clearing.is_gone(partition, vec![]),
                Job::Leave(partition, room) => {
                    left.push(room.clone());
                    clearing.has_left(partition, room, false);
                }
            }
        }
        left.sort();
        assert_eq!(left, ["a", "b", "c"].map(Box::from));
        assert!(clearing.is_done() && !clearing.is_incomplete());
    }

    #[test]
    fn what_cannot_be_done_is_left_out_and_the_rest_is_done() {
        let mut clearing = Clearing::new(Incarnation(1), 1);
        let mut named = VecDeque::from([vec!["a", "bad"], vec!["bad", "b"], vec!["bad"]]);
        let mut left = Vec::new();
        while let Some(job) = clearing.next(at(0)) {
            match job {
                Job::Gone(partition) => {
                    clearing.is_gone(partition, named.pop_front().unwrap().into_iter().map(Box::from).collect());
                }
                Job::Leave(_, ref room) if &**room == "bad" => clearing.is_refused(&job),
                Job::Leave(partition, room) => {
                    left.push(room.clone());
                    clearing.has_left(partition, room, false);
                }
            }
        }
        assert_eq!(left, ["a", "b"].map(Box::from));
        assert!(clearing.is_done() && clearing.is_incomplete());
    }
}
