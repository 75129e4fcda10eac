//! Connections that the server wants to let go: all of them before it stops, or a share of them. When each is told, when its time has
//! come, and what has to have happened before it is closed. What is said, and how a connection ends, is not known here.
//!
//! Each has a **slot**, which is a time. A client is told its slot in advance, so that it comes back then by itself. Who is still there
//! when its slot has passed is **due**. One question to the broker, a **fence**, makes sure for all who are due that what had been
//! acknowledged before has reached them. Then they are closed, as soon as nothing is owed to them.

use crate::broker::FenceId;
use crate::config;
use crate::id::ConnId;
use crate::random::Random;
use crate::slots::{Phase, Slots, mark};
use crate::time::Time;
use std::collections::BTreeSet;
use std::time::Duration;

/// How long after its slot a client that was told is left to come back by itself, at most. It has to hear the time, and to connect
/// elsewhere first.
const GRACE_MAX: Duration = Duration::from_secs(1);

/// Who is to go, and how far that is.
#[derive(Debug)]
pub(crate) struct Departures {
    stage: Stage,
    lines: Vec<Line>,
    /// Those whose time has come, and who wait for the next fence.
    due: Vec<ConnId>,
    fence: Option<Fence>,
    /// Those who wait until nothing is owed to them, and until when.
    settling: Vec<(ConnId, Time)>,
    fences: u64,
    random: Random,
}

/// What was said of the server itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Serving,
    /// It is about to stop, and takes newcomers until then.
    Announced(Time),
    Draining,
    Stopping,
}

/// Connections in the order of their slots, which lie at equal distances.
#[derive(Debug)]
struct Line {
    conns: Vec<ConnId>,
    /// How many of them have been told, or cannot be.
    told: usize,
    /// How many of them are due.
    due: usize,
    begun: Time,
    spread: Duration,
    grace: Duration,
}

/// The broker has been asked for a sign that comes behind all that was published before.
#[derive(Debug)]
struct Fence {
    id: FenceId,
    conns: Vec<ConnId>,
    /// Then they are closed all the same.
    until: Time,
}

impl Line {
    fn new(conns: Vec<ConnId>, begun: Time, spread: Duration, grace: Duration) -> Line {
        Line { conns, told: 0, due: 0, begun, spread, grace }
    }

    /// The middle of its part of the time.
    fn slot(&self, index: usize) -> Time {
        let part = (2 * index as u128 + 1) * self.spread.as_micros() / (2 * self.conns.len() as u128);
        self.begun + Duration::from_micros(u64::try_from(part).unwrap_or(u64::MAX))
    }

    fn due_at(&self, index: usize) -> Time {
        self.slot(index) + self.grace
    }

    fn next_timeout(&self) -> Option<Time> {
        match (self.told < self.conns.len(), self.due < self.conns.len()) {
            (true, _) => Some(Time::ZERO),
            (false, true) => Some(self.due_at(self.due)),
            (false, false) => None,
        }
    }
}

impl Departures {
    /// Nobody has to go. `seed` decides who goes first.
    pub fn new(seed: u64) -> Departures {
        Departures {
            stage: Stage::Serving,
            lines: Vec::new(),
            due: Vec::new(),
            fence: None,
            settling: Vec::new(),
            fences: 0,
            random: Random::new(seed),
        }
    }

    /// The server is to stop, and takes newcomers until then. What was said before counts.
    pub fn announce(&mut self, until: Time) {
        if self.stage == Stage::Serving {
            self.stage = Stage::Announced(until);
        }
    }

    /// The server stops now: all that are open are due, and what is owed to them is waited for until then. Whether that is news.
    pub fn stop(&mut self, slots: &mut Slots, until: Time) -> bool {
        if self.stage == Stage::Stopping {
            return false;
        }
        // Nobody is drawn any more.
        *self = Departures { stage: Stage::Stopping, fences: self.fences, ..Departures::new(0) };
        let all: Vec<ConnId> = slots.slots().filter(|slot| is_open(slots, *slot)).map(|slot| slots.id(slot)).collect();
        for conn in all {
            slots.unmark(conn.slot() as u32, mark::HAS_SLOT);
            slots.mark(conn.slot() as u32, mark::DUE);
            self.settling.push((conn, until));
        }
        true
    }

    /// Whether the server is about to stop.
    pub fn is_stopping(&self) -> bool {
        self.stage != Stage::Serving
    }

    /// Whether it stops by [`Departures::stop`], so that what clients say has no effect any more.
    pub fn is_at_once(&self) -> bool {
        self.stage == Stage::Stopping
    }

    /// Whether nobody has to go, and nothing has to be done.
    pub fn is_idle(&self) -> bool {
        !matches!(self.stage, Stage::Announced(_))
            && self.lines.is_empty()
            && self.due.is_empty()
            && self.fence.is_none()
            && self.settling.is_empty()
    }

    /// Whether newcomers are to be refused from now on. Says so once.
    pub fn takes_nobody(&mut self, now: Time) -> bool {
        let is_over = matches!(self.stage, Stage::Announced(until) if until <= now);
        if is_over {
            self.stage = Stage::Draining;
        }
        is_over
    }

    /// Gives a slot to each of so many of those that have none, by lot; returns how many those were.
    pub fn give_slots(&mut self, slots: &mut Slots, count: usize, settings: &config::Drain, now: Time) -> usize {
        let stays = |slot: &u32| is_open(slots, *slot) && !slots.is_marked(*slot, mark::DEPARTS);
        let mut conns: Vec<ConnId> = slots.slots().filter(stays).map(|slot| slots.id(slot)).collect();
        let count = count.min(conns.len());
        for index in 0..count {
            let other = index + self.random.up_to((conns.len() - index - 1) as u64) as usize;
            conns.swap(index, other);
        }
        conns.truncate(count);
        for conn in &conns {
            slots.mark(conn.slot() as u32, mark::HAS_SLOT);
        }
        let is_told = |conn: &ConnId| slots.get(conn.slot() as u32).dialect.has_replies();
        let (told, untold): (Vec<ConnId>, Vec<ConnId>) = conns.into_iter().partition(is_told);
        // All is over when the time is: those who are told have their slots a little sooner.
        let grace = GRACE_MAX.min(settings.spread / 4);
        let told = Line::new(told, now, settings.spread - grace, grace);
        let untold = Line::new(untold, now, settings.spread, Duration::ZERO);
        let untold = Line { told: untold.conns.len(), ..untold };
        self.lines.extend([told, untold].into_iter().filter(|line| !line.conns.is_empty()));
        count
    }

    /// The next one that has to be told, and the time until its slot. One that is due has no use for that.
    pub fn next_untold(&mut self, slots: &Slots, now: Time) -> Option<(u32, Duration)> {
        for line in &mut self.lines {
            while line.told < line.conns.len() {
                let index = line.told;
                line.told += 1;
                if let Some(slot) = still_open(slots, line.conns[index])
                    && line.due_at(index) > now
                {
                    return Some((slot, line.slot(index).since(now)));
                }
            }
        }
        None
    }

    /// Notes whose time has come. Returns the fence that the broker is to be asked for, if any; there is none where it `can_fence` not.
    pub fn pass(&mut self, slots: &mut Slots, now: Time, patience: Duration, can_fence: bool) -> Option<FenceId> {
        for line in &mut self.lines {
            while line.due < line.conns.len() && line.due_at(line.due) <= now {
                if let Some(slot) = still_open(slots, line.conns[line.due]) {
                    slots.unmark(slot, mark::HAS_SLOT);
                    slots.mark(slot, mark::DUE);
                    self.due.push(line.conns[line.due]);
                }
                line.due += 1;
                line.told = line.told.max(line.due);
            }
        }
        self.lines.retain(|line| line.due < line.conns.len());
        if let Some(fence) = self.fence.take_if(|fence| fence.until <= now) {
            self.settle(fence);
        }
        if self.due.is_empty() || self.fence.is_some() {
            return None;
        }
        let (conns, until) = (std::mem::take(&mut self.due), now + patience);
        let fence = Fence { id: FenceId::new(self.fences), conns, until };
        if !can_fence || until <= now {
            self.settle(fence);
            return None;
        }
        self.fences += 1;
        let id = fence.id;
        self.fence = Some(fence);
        Some(id)
    }

    /// What the broker had to say before this fence has been said, or `None`: it will not be. An earlier one is not waited for any more.
    pub fn fenced(&mut self, id: Option<FenceId>) {
        if let Some(fence) = self.fence.take_if(|fence| id.is_none_or(|id| fence.id == id)) {
            self.settle(fence);
        }
    }

    fn settle(&mut self, fence: Fence) {
        self.settling.extend(fence.conns.into_iter().map(|conn| (conn, fence.until)));
    }

    /// Takes those who are to be closed now, because nothing is owed to them any more or the time is up. `owed` says to whom something is.
    pub fn take_settled(&mut self, slots: &Slots, now: Time, owed: impl FnOnce() -> BTreeSet<u32>) -> Vec<u32> {
        if self.settling.is_empty() {
            return Vec::new();
        }
        let is_any_waited_for = self.settling.iter().any(|(_, until)| now < *until);
        let owed = if is_any_waited_for { owed() } else { BTreeSet::new() };
        let mut settled = Vec::new();
        self.settling.retain(|(conn, until)| {
            let Some(slot) = still_open(slots, *conn) else { return false };
            let waits = now < *until && owed.contains(&slot);
            if !waits {
                settled.push(slot);
            }
            waits
        });
        settled
    }

    /// When there is something to do at the latest.
    pub fn next_timeout(&self) -> Option<Time> {
        let announced = match self.stage {
            Stage::Announced(until) => Some(until),
            Stage::Serving | Stage::Draining | Stage::Stopping => None,
        };
        let fence = self.fence.as_ref().map(|fence| fence.until);
        let settling = self.settling.iter().map(|(_, until)| *until).min();
        let lines = self.lines.iter().filter_map(Line::next_timeout);
        lines.chain(announced).chain(fence).chain(settling).min()
    }

    /// Panics unless each open connection is where its marks say, once.
    pub fn check_invariants(&self, slots: &Slots, left: u64) {
        let mut found = std::collections::BTreeMap::<u32, u8>::new();
        let mut find = |conn: ConnId, mark: u8| {
            if let Some(slot) = still_open(slots, conn) {
                assert_eq!(found.insert(slot, mark), None, "{conn:?} goes once");
            }
        };
        for line in &self.lines {
            assert!(line.due <= line.told && line.due < line.conns.len());
            line.conns[line.due..].iter().for_each(|conn| find(*conn, mark::HAS_SLOT));
        }
        let fenced = self.fence.iter().flat_map(|fence| &fence.conns);
        let settling = self.settling.iter().map(|(conn, _)| conn);
        self.due.iter().chain(fenced).chain(settling).for_each(|conn| find(*conn, mark::DUE));
        let all_go = matches!(self.stage, Stage::Draining | Stage::Stopping);
        let mut departing = 0;
        for slot in slots.slots() {
            let marked = slots.marks(slots.id(slot)) & mark::DEPARTS;
            assert_eq!(found.remove(&slot).unwrap_or(0), marked, "slot {slot} goes as it is marked");
            assert!(
                marked != 0 || !all_go || !is_open(slots, slot),
                "whoever is open while the server stops has to go"
            );
            departing += u64::from(marked != 0);
        }
        assert_eq!(departing, left, "those who have to go are counted");
    }
}

fn is_open(slots: &Slots, slot: u32) -> bool {
    slots.get(slot).phase == Phase::Open
}

/// The slot of a connection that has not begun to end.
fn still_open(slots: &Slots, conn: ConnId) -> Option<u32> {
    slots.slot(conn).filter(|slot| is_open(slots, *slot))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conns(count: u32) -> Vec<ConnId> {
        (0..count).map(|slot| ConnId::new(slot, 0)).collect()
    }

    #[test]
    fn slots_lie_at_equal_distances_within_the_time() {
        let (begun, spread) = (Time::from_millis(7_000), Duration::from_millis(900));
        let line = Line::new(conns(3), begun, spread, Duration::from_millis(100));
        let slots: Vec<u64> = (0..3).map(|index| line.slot(index).as_millis()).collect();
        assert_eq!(slots, [7_150, 7_450, 7_750]);
        assert_eq!(line.due_at(2), Time::from_millis(7_850));
        let none = Line::new(conns(2), begun, Duration::ZERO, Duration::ZERO);
        assert_eq!((none.slot(0), none.slot(1)), (begun, begun));
        let long = Line::new(conns(2), begun, Duration::MAX, Duration::ZERO);
        assert!(long.slot(0) <= long.slot(1));
    }
}
