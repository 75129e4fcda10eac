//! How many connections and WebSockets all workers of the process have, and whether there are places for more.

use fanfare_core::Elsewhere;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

/// What all workers have.
#[derive(Debug)]
pub struct Counts {
    connections: AtomicUsize,
    /// Those that lasted until the end of the turn in which they were opened.
    lasting: AtomicUsize,
    /// Never more than the maximum, places that are kept included.
    websockets: AtomicUsize,
    websockets_max: usize,
    has_others: bool,
    /// The gates are closed for want of places, until enough have left.
    full: AtomicBool,
    /// What the log says of that.
    told_full: AtomicBool,
    /// Gates whose last attempt to accept the kernel refused.
    refused: AtomicUsize,
}

/// One worker's part of the counts.
#[derive(Debug)]
pub(super) struct Share {
    counts: Arc<Counts>,
    connections: usize,
    lasting: usize,
    websockets: usize,
}

impl Counts {
    /// Nothing is counted yet. All workers together may have `websockets_max` WebSockets.
    pub fn new(workers: usize, websockets_max: usize) -> Counts {
        let [connections, lasting, websockets, refused] = [const { AtomicUsize::new(0) }; 4];
        let [full, told_full] = [const { AtomicBool::new(false) }; 2];
        let has_others = workers > 1;
        Counts { connections, lasting, websockets, websockets_max, has_others, full, told_full, refused }
    }

    /// Whether the gates are closed for want of places.
    pub(super) fn is_full(&self) -> bool {
        self.full.load(Relaxed)
    }

    /// Closes or opens all gates.
    pub(super) fn set_full(&self, full: bool) {
        self.full.store(full, Relaxed);
    }

    /// Whether the log says that they are closed for want of places.
    pub(super) fn is_told_full(&self) -> bool {
        self.told_full.load(Relaxed)
    }

    /// Notes what the log says of it from here on. Returns whether that is news, which one gate has to tell.
    pub(super) fn tell_full(&self, full: bool) -> bool {
        self.is_told_full() != full && self.told_full.swap(full, Relaxed) != full
    }

    /// The kernel refuses a connection to one gate more. Returns whether it is the first.
    pub(super) fn refused(&self) -> bool {
        self.refused.fetch_add(1, Relaxed) == 0
    }

    /// The kernel does not refuse one of them any more. Returns whether it was the last.
    pub(super) fn granted(&self) -> bool {
        self.refused.fetch_sub(1, Relaxed) == 1
    }
}

impl Share {
    /// The part of a worker that has nothing.
    pub(super) fn new(counts: Arc<Counts>) -> Share {
        Share { counts, connections: 0, lasting: 0, websockets: 0 }
    }

    /// Whether there are other workers.
    pub(super) fn has_others(&self) -> bool {
        self.counts.has_others
    }

    /// The connections of all workers. Two may take the last place at once: the reserve of descriptors has some for that.
    pub(super) fn connections(&self) -> usize {
        self.counts.connections.load(Relaxed)
    }

    /// Those of them that lasted until the end of a turn.
    pub(super) fn lasting(&self) -> usize {
        self.counts.lasting.load(Relaxed)
    }

    /// Whether this worker has connections that are no WebSocket, as of the turn's end.
    pub(super) fn has_pending(&self) -> bool {
        self.connections > self.websockets
    }

    /// This worker has a connection more.
    pub(super) fn opened(&mut self) {
        self.connections += 1;
        self.counts.connections.fetch_add(1, Relaxed);
    }

    /// Keeps places for this many upgrades, or for as many as there are places, until they are [released](Share::release). Nobody
    /// else can take them, so all together never have too many. Returns what the core has to hear of the others.
    pub(super) fn reserve(&mut self, upgrades: usize) -> Elsewhere {
        let Counts { connections, websockets, websockets_max, .. } = &*self.counts;
        if upgrades > 0 {
            let take = |taken: usize| Some(taken + upgrades.min(websockets_max - taken));
            let taken = websockets.fetch_update(Relaxed, Relaxed, take).expect("it always takes");
            self.websockets += upgrades.min(websockets_max - taken);
        }
        Elsewhere {
            connections: connections.load(Relaxed).saturating_sub(self.connections),
            websockets: websockets_max - self.websockets,
        }
    }

    /// The worker has this many WebSockets, and upgrades no more in this turn. What it kept and did not use is free again.
    pub(super) fn release(&mut self, websockets: usize) {
        debug_assert!(websockets <= self.websockets, "no upgrade without a place");
        if websockets != self.websockets {
            self.counts.websockets.fetch_sub(self.websockets - websockets, Relaxed);
            self.websockets = websockets;
        }
    }

    /// The turn ends, and this is what the worker has.
    pub(super) fn settle(&mut self, connections: usize, websockets: usize) {
        self.release(websockets);
        if connections != self.connections {
            self.counts.connections.fetch_sub(self.connections - connections, Relaxed);
            self.connections = connections;
        }
        if connections != self.lasting {
            // Wraps where there are fewer, and so does the sum.
            self.counts.lasting.fetch_add(connections.wrapping_sub(self.lasting), Relaxed);
            self.lasting = connections;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_together_never_have_more_places_than_there_are() {
        let counts = Arc::new(Counts::new(2, 3));
        let [mut one, mut other] = [(); 2].map(|()| Share::new(Arc::clone(&counts)));
        // Of the four that it may upgrade there are places for three, and nobody has one meanwhile.
        assert_eq!(one.reserve(4).websockets, 0);
        assert_eq!(other.reserve(1).websockets, 3);
        one.settle(0, 2);
        assert_eq!(other.reserve(5).websockets, 2);
        assert_eq!(one.reserve(1).websockets, 1);
        other.release(1);
        one.settle(0, 1);
        assert_eq!(one.reserve(9).websockets, 1);
    }

    #[test]
    fn each_hears_of_the_connections_of_the_others() {
        let counts = Arc::new(Counts::new(2, 3));
        let [mut one, mut other] = [(); 2].map(|()| Share::new(Arc::clone(&counts)));
        for _ in 0..5 {
            one.opened();
        }
        other.opened();
        assert_eq!((one.connections(), one.reserve(0).connections, other.reserve(0).connections), (6, 1, 5));
        assert_eq!(other.lasting(), 0);
        one.settle(2, 0);
        assert_eq!((one.connections(), other.reserve(0).connections, other.lasting()), (3, 2, 2));
        other.settle(1, 0);
        one.settle(0, 0);
        assert_eq!((one.connections(), one.lasting()), (1, 1));
    }
}
