//! A bounded queue of what is verified for users who are known and for strangers. No address of a stranger keeps another one waiting, and
//! no crowd of strangers keeps anybody who is known.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// For whom something is verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whose {
    /// For somebody who has shown a good credential before.
    Known,
    /// For whoever comes from this address, as far as that is known.
    Stranger(Option<IpAddr>),
}

/// What a thread takes, and what of it first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Strangers,
    StrangersFirst,
    KnownFirst,
}

/// Where jobs are put. When its last clone is dropped, no more come.
pub(crate) struct Queue<J>(Arc<End<J>>);

impl<J> Clone for Queue<J> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

struct End<J>(Arc<Shared<J>>);

impl<J> Drop for End<J> {
    fn drop(&mut self) {
        self.0.waiting().is_closed = true;
        self.0.came.notify_all();
    }
}

/// What one thread takes, until nobody can put anything in any more.
pub(crate) struct Turns<J> {
    order: Order,
    shared: Arc<Shared<J>>,
}

struct Shared<J> {
    /// How many of either kind.
    max: usize,
    waiting: Mutex<Waiting<J>>,
    came: Condvar,
}

struct Waiting<J> {
    known: VecDeque<J>,
    strangers: Fair<J>,
    is_closed: bool,
    /// How many were refused for want of room.
    refused: u64,
    /// One was, and that has not been told, or the queue has not been seen empty since.
    was_full: bool,
}

/// One that holds so many of either kind, at least 1, and a thread's part of it for each of these.
pub(crate) fn new<J>(max: usize, orders: impl IntoIterator<Item = Order>) -> (Queue<J>, Vec<Turns<J>>) {
    let strangers = Fair { by_address: HashMap::new(), turns: VecDeque::new(), len: 0 };
    let waiting = Waiting { known: VecDeque::new(), strangers, is_closed: false, refused: 0, was_full: false };
    let shared = Arc::new(Shared { max: max.max(1), waiting: Mutex::new(waiting), came: Condvar::new() });
    let turns = orders.into_iter().map(|order| Turns { order, shared: shared.clone() }).collect();
    (Queue(Arc::new(End(shared))), turns)
}

impl<J> Shared<J> {
    fn waiting(&self) -> MutexGuard<'_, Waiting<J>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<J> Queue<J> {
    /// Puts one in. It comes back if there is no room. If another stranger's address has more there than its own, the last of those is
    /// dropped instead.
    pub(crate) fn put(&self, whose: Whose, job: J) -> Result<(), J> {
        let shared = &*self.0.0;
        let mut waiting = shared.waiting();
        let outcome = match whose {
            Whose::Known if waiting.known.len() >= shared.max => Err(job),
            Whose::Known => {
                waiting.known.push_back(job);
                Ok(None)
            }
            Whose::Stranger(address) => waiting.strangers.put(address, job, shared.max),
        };
        if !matches!(outcome, Ok(None)) {
            waiting.refused += 1;
            waiting.was_full = true;
        }
        drop(waiting);
        match whose {
            // Some threads pass it over.
            Whose::Known => shared.came.notify_all(),
            Whose::Stranger(_) => shared.came.notify_one(),
        }
        // What is dropped may be answered then, which is nothing to do with the lock held.
        outcome.map(drop)
    }

    /// Whether one was refused for want of room. That is so until the queue has been empty, so that the log is told once of a crowd.
    pub(crate) fn was_full(&self) -> bool {
        let mut waiting = self.0.0.waiting();
        match waiting.known.is_empty() && waiting.strangers.len == 0 {
            true => std::mem::take(&mut waiting.was_full),
            false => waiting.was_full,
        }
    }

    /// How many were, ever.
    pub(crate) fn refused(&self) -> u64 {
        self.0.0.waiting().refused
    }
}

impl<J> Iterator for Turns<J> {
    type Item = J;

    fn next(&mut self) -> Option<J> {
        let mut waiting = self.shared.waiting();
        loop {
            let Waiting { known, strangers, is_closed, .. } = &mut *waiting;
            let job = match self.order {
                // Once no more come, everybody takes what is left.
                Order::Strangers if !*is_closed => strangers.take(),
                Order::Strangers | Order::StrangersFirst => strangers.take().or_else(|| known.pop_front()),
                Order::KnownFirst => known.pop_front().or_else(|| strangers.take()),
            };
            if job.is_some() || *is_closed {
                return job;
            }
            waiting = self.shared.came.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Jobs by address, of which each address has one taken in its turn. Those of whom no address is known have one turn together.
struct Fair<J> {
    by_address: HashMap<Option<IpAddr>, VecDeque<J>>,
    /// The addresses that have any.
    turns: VecDeque<Option<IpAddr>>,
    len: usize,
}

impl<J> Fair<J> {
    /// Puts one in, and takes another one out if there are too many then.
    fn put(&mut self, address: Option<IpAddr>, job: J, max: usize) -> Result<Option<J>, J> {
        let is_full = self.len >= max;
        let own = self.by_address.get(&address).map_or(0, VecDeque::len);
        let mut dropped = None;
        if is_full {
            let most = self.by_address.values().map(VecDeque::len).max().unwrap_or(0);
            if most <= own + 1 {
                return Err(job);
            }
            // It has more than one, and so keeps its turn.
            let largest = self.by_address.values_mut().find(|jobs| jobs.len() == most);
            dropped = largest.and_then(VecDeque::pop_back);
            self.len -= usize::from(dropped.is_some());
        }
        if own == 0 {
            self.turns.push_back(address);
        }
        self.by_address.entry(address).or_default().push_back(job);
        self.len += 1;
        Ok(dropped)
    }

    fn take(&mut self) -> Option<J> {
        let address = self.turns.pop_front()?;
        let jobs = self.by_address.get_mut(&address)?;
        let job = jobs.pop_front();
        match jobs.is_empty() {
            true => drop(self.by_address.remove(&address)),
            false => self.turns.push_back(address),
        }
        self.len -= usize::from(job.is_some());
        job
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stranger(last: u8) -> Whose {
        Whose::Stranger(Some(IpAddr::from([10, 0, 0, last])))
    }

    /// All that is in there, as a thread takes it.
    fn rest<J>(queue: Queue<J>, turns: Turns<J>) -> Vec<J> {
        drop(queue);
        turns.collect()
    }

    fn one<J>(max: usize, order: Order) -> (Queue<J>, Turns<J>) {
        let (queue, mut turns) = new(max, [order]);
        (queue, turns.pop().unwrap())
    }

    #[test]
    fn addresses_take_turns() {
        let (queue, turns) = one(10, Order::StrangersFirst);
        for (address, job) in [(1, "a1"), (1, "a2"), (1, "a3"), (2, "b1"), (3, "c1"), (2, "b2")] {
            queue.put(stranger(address), job).unwrap();
        }
        assert_eq!(rest(queue, turns), ["a1", "b1", "c1", "a2", "b2", "a3"]);
    }

    #[test]
    fn an_address_that_fills_it_makes_room_for_the_others() {
        let (queue, turns) = one(4, Order::StrangersFirst);
        for job in 1..=4 {
            queue.put(stranger(1), job).unwrap();
        }
        assert_eq!((queue.put(stranger(1), 5), queue.refused(), queue.was_full()), (Err(5), 1, true));
        queue.put(stranger(2), 20).unwrap();
        queue.put(Whose::Stranger(None), 30).unwrap();
        // It has two of four now, as many as anybody else would have with one more.
        assert_eq!((queue.put(stranger(2), 21), queue.refused()), (Err(21), 4));
        queue.put(Whose::Known, 0).unwrap();
        assert_eq!(rest(queue, turns), [1, 20, 30, 2, 0]);
    }

    #[test]
    fn who_is_known_waits_for_no_stranger_where_that_is_the_order() {
        for (order, expected) in
            [(Order::KnownFirst, ["known", "one", "other"]), (Order::StrangersFirst, ["one", "other", "known"])]
        {
            let (queue, turns) = one(2, order);
            queue.put(stranger(1), "one").unwrap();
            queue.put(stranger(1), "other").unwrap();
            queue.put(Whose::Known, "known").unwrap();
            assert_eq!(rest(queue, turns), expected);
        }
    }

    #[test]
    fn strangers_are_not_kept_waiting_by_what_their_thread_passes_over() {
        let (queue, turns) = one(2, Order::Strangers);
        queue.put(Whose::Known, "known").unwrap();
        let mut turns = turns;
        queue.put(stranger(1), "stranger").unwrap();
        assert_eq!(turns.next(), Some("stranger"));
        assert_eq!(rest(queue, turns), ["known"], "nobody else is left to take it");
    }
}
