//! How connections are let in: by a gate of each worker, as far as the counts of all workers allow.
//!
//! What becomes of the counts in one turn of a worker, from top to bottom:
//!
//! ```text
//!                      connections         WebSockets                         lasting
//!  accept              + 1 for each
//!  reserve                                 + one for each request head that
//!                                            may be answered in this turn
//!   (clients are read, and upgraded)
//!  release                                 - those that came to nothing
//!   (answers leave, connections end)
//!  settle              - those that ended  - those that ended                 = the worker's connections
//! ```
//!
//! - **Reserved before they are needed**, because two workers that upgrade at once must not both take the last place.
//! - **Released before answers leave**, because a client that is answered may connect at once to another worker, and must not be
//!   refused for a place that nobody uses.
//! - **Settled at the end**, after which the gate opens or closes by the connections of all. The log is told by connections that
//!   were there at the end of a turn, because a flood of connections that end in the turn that accepts them would fill it.

mod counts;
mod gate;

pub use counts::Counts;

use counts::Share;
use fanfare_adapter::descriptors::Places;
use fanfare_core::time::Time;
use fanfare_core::{Core, Elsewhere};
use gate::Gate;
use mio::Registry;
use mio::net::{TcpListener, TcpStream};
use std::net::SocketAddr;
use std::sync::Arc;

/// How one worker lets connections in.
#[derive(Debug)]
pub struct Admission {
    /// `None` once the server is stopping.
    gate: Option<Gate>,
    share: Share,
    /// Of a gate that is closed for good.
    errors: u64,
}

impl Admission {
    /// An open gate in front of this listener, of a worker that has nothing.
    pub fn new(listener: TcpListener, places: Places, counts: Arc<Counts>) -> Admission {
        let gate = Gate::new(listener, places, Arc::clone(&counts));
        Admission { gate: Some(gate), share: Share::new(counts), errors: 0 }
    }

    /// The listener had an edge.
    pub fn edge(&mut self) {
        self.gate.iter_mut().for_each(Gate::edge);
    }

    /// Whether [`Admission::accept`] may have a connection now.
    pub fn is_ready(&self) -> bool {
        self.gate.as_ref().is_some_and(Gate::is_ready)
    }

    /// When a pause ends.
    pub fn next_timeout(&self) -> Option<Time> {
        self.gate.as_ref().and_then(Gate::next_timeout)
    }

    /// Whether what other workers open and close may matter to this one, which hears nothing of it.
    pub fn depends_on_others(&self) -> bool {
        let is_paused = || self.gate.as_ref().is_some_and(Gate::is_paused);
        self.has_others() && (is_paused() || self.share.has_pending())
    }

    /// Whether there are other workers.
    pub fn has_others(&self) -> bool {
        self.share.has_others()
    }

    /// How many connections all workers have.
    pub fn connections(&self) -> usize {
        self.share.connections()
    }

    /// Takes the next connection, and who it comes from. It counts once it is [opened](Admission::opened).
    pub fn accept(&mut self, now: Time) -> Option<(TcpStream, SocketAddr)> {
        self.gate.as_mut()?.accept(self.share.connections(), now)
    }

    /// This worker has a connection more.
    pub fn opened(&mut self) {
        self.share.opened();
    }

    /// Keeps places for this many upgrades, or for as many as there are places. Returns what the core has to hear of the other
    /// workers, if there are any.
    pub fn reserve(&mut self, upgrades: usize) -> Option<Elsewhere> {
        self.has_others().then(|| self.share.reserve(upgrades))
    }

    /// The core upgrades no more connections in this turn.
    pub fn release(&mut self, core: &Core) {
        let websockets = self.websockets(core);
        self.share.release(websockets);
    }

    /// The turn ends, and the worker has this many connections.
    pub fn settle(&mut self, core: &Core, connections: usize, now: Time) {
        let websockets = self.websockets(core);
        self.share.settle(connections, websockets);
        if let Some(gate) = &mut self.gate {
            // A connection that left in this turn made room for one in the backlog.
            gate.update(self.share.connections(), self.share.lasting(), now);
        }
    }

    /// Closes the gate for good.
    pub fn close(&mut self, registry: &Registry) {
        let Some(mut gate) = self.gate.take() else { return };
        self.errors = gate.errors();
        // Closing the listener, which dropping it does, takes it off the poll as well; this only makes it plain.
        let _ = registry.deregister(gate.listener());
    }

    /// Failures to accept that were not the peer's.
    pub fn errors(&self) -> u64 {
        self.gate.as_ref().map_or(self.errors, Gate::errors)
    }

    /// Whether nothing is accepted.
    pub fn is_paused(&self) -> bool {
        self.gate.as_ref().is_none_or(Gate::is_paused)
    }

    /// Of a worker that is alone nobody has to know them.
    fn websockets(&self, core: &Core) -> usize {
        if self.has_others() { core.metrics().connections_now as usize } else { 0 }
    }
}
