//! The queues of a method that asks somebody else: one for credentials that are new, one for those that are renewed. Whoever is new
//! never waits behind renewals for longer than one of them takes, and a flood of new ones does not keep renewals from being looked at.

use crossbeam_channel::{Receiver, select_biased};

use crate::queue::{self, Queue};

/// Where they are put.
pub(crate) struct Lookups<J> {
    new: Queue<J>,
    renewals: Queue<J>,
}

/// What a thread looks at, and in which order.
#[derive(Clone, Copy)]
enum Order {
    New,
    NewFirst,
    RenewalsFirst,
}

/// What one thread takes, until nobody can put anything in any more.
pub(crate) struct Turns<J> {
    order: Order,
    new: Receiver<J>,
    renewals: Receiver<J>,
}

/// Queues that hold so many each, and what each of so many threads takes from them.
pub(crate) fn new<J>(max: usize, threads: usize) -> (Lookups<J>, Vec<Turns<J>>) {
    let (new, new_taken) = queue::new(max);
    let (renewals, renewals_taken) = queue::new(max);
    let turns =
        |index| Turns { order: order(index, threads), new: new_taken.clone(), renewals: renewals_taken.clone() };
    (Lookups { new, renewals }, (0..threads).map(turns).collect())
}

/// A quarter each keeps to one kind, or prefers it, so that neither is ever without a thread. The others prefer what is new, because a
/// client waits for it. A thread alone has to do all of it.
fn order(index: usize, threads: usize) -> Order {
    match index % 4 {
        0 if threads > 1 => Order::New,
        1 => Order::RenewalsFirst,
        _ => Order::NewFirst,
    }
}

impl<J> Lookups<J> {
    /// The one for such a credential.
    pub(crate) fn queue(&self, is_renewal: bool) -> &Queue<J> {
        if is_renewal { &self.renewals } else { &self.new }
    }

    /// Whether one was refused for want of room.
    pub(crate) fn was_full(&self) -> bool {
        // Each is asked, because it is told once.
        self.new.was_full() | self.renewals.was_full()
    }

    /// How many were, ever.
    pub(crate) fn refused(&self) -> u64 {
        self.new.refused() + self.renewals.refused()
    }
}

impl<J> Iterator for Turns<J> {
    type Item = J;

    fn next(&mut self) -> Option<J> {
        let Self { order, new, renewals } = self;
        let (first, second) = match order {
            Order::New => return new.recv().ok(),
            Order::NewFirst => (new, renewals),
            Order::RenewalsFirst => (renewals, new),
        };
        // Both are closed together. What one of them still has is taken.
        select_biased! {
            recv(first) -> job => job.or_else(|_| second.recv()).ok(),
            recv(second) -> job => job.or_else(|_| first.recv()).ok(),
        }
    }
}
