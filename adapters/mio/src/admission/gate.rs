//! The listener and its gate. Connections are taken while there are places and descriptors. Otherwise they wait in the kernel's
//! backlog until some have left.

use super::counts::Counts;
use fanfare_adapter::descriptors::Places;
use fanfare_adapter::listen::{ACCEPT_PAUSE, is_of_the_connection};
use fanfare_core::time::Time;
use mio::net::{TcpListener, TcpStream};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

/// A listener that does not take more than it has places for.
#[derive(Debug)]
pub(super) struct Gate {
    listener: TcpListener,
    places: Places,
    /// The listener may have a connection: there has been an edge since it last had none.
    ready: bool,
    /// All gates of a process close and open together, and the log is told of it once.
    counts: Arc<Counts>,
    /// The kernel refused the last attempt, for instance for want of descriptors.
    refused: bool,
    /// When to try again after that.
    paused_until: Option<Time>,
    errors: u64,
}

impl Gate {
    /// An open gate, which shares its places with those that have the same counts.
    pub(super) fn new(listener: TcpListener, places: Places, counts: Arc<Counts>) -> Gate {
        Gate { listener, places, ready: true, counts, refused: false, paused_until: None, errors: 0 }
    }

    /// The listener, to be taken off the poll.
    pub(super) fn listener(&mut self) -> &mut TcpListener {
        &mut self.listener
    }

    /// The listener had an edge.
    pub(super) fn edge(&mut self) {
        self.ready = true;
    }

    /// Whether [`Gate::accept`] may have a connection now.
    pub(super) fn is_ready(&self) -> bool {
        self.ready && !self.counts.is_full() && self.paused_until.is_none()
    }

    /// Whether nothing is accepted.
    pub(super) fn is_paused(&self) -> bool {
        self.counts.is_full() || self.refused
    }

    /// Failures to accept that were not the peer's.
    pub(super) fn errors(&self) -> u64 {
        self.errors
    }

    /// When a pause ends.
    pub(super) fn next_timeout(&self) -> Option<Time> {
        self.paused_until
    }

    /// Opens or closes the gate for `open` connections, at the end of a turn. Only what lasts until then is logged: a flood of
    /// connections that the core ends in the same turn would fill the log. Of other workers' connections, `lasting` has only
    /// those that lasted.
    pub(super) fn update(&mut self, open: usize, lasting: usize, now: Time) {
        self.measure(open, now);
        let full = self.counts.is_full() && (self.counts.is_told_full() || lasting > self.places.open_again_at());
        if self.counts.tell_full(full) && !self.refused {
            if full {
                tracing::warn!(connections = open, "accepting paused");
            } else {
                tracing::info!(connections = open, "accepting resumed");
            }
        }
    }

    fn measure(&mut self, open: usize, now: Time) {
        let was_full = self.counts.is_full();
        let full = if was_full { open > self.places.open_again_at() } else { open >= self.places.full_at() };
        if full != was_full {
            self.counts.set_full(full);
        }
        if self.paused_until.is_some_and(|until| until <= now) {
            self.paused_until = None;
        }
    }

    /// Takes the next connection, and who it comes from.
    pub(super) fn accept(&mut self, open: usize, now: Time) -> Option<(TcpStream, SocketAddr)> {
        loop {
            self.measure(open, now);
            if !self.is_ready() {
                return None;
            }
            match self.listener.accept() {
                Ok((stream, peer)) => {
                    self.succeeded(open);
                    return Some((stream, peer));
                }
                // Linux finds a descriptor before it looks for a connection: there is one again.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.ready = false;
                    self.succeeded(open);
                }
                // accept(2) also reports what befell the connection that it would have returned. The next one has its
                // turn when everyone else has had theirs.
                Err(error) if is_of_the_connection(&error) => return None,
                Err(error) => {
                    self.errors += 1;
                    self.paused_until = Some(now + ACCEPT_PAUSE);
                    if !std::mem::replace(&mut self.refused, true) && self.counts.refused() {
                        tracing::warn!(%error, connections = open, "accepting paused");
                    }
                    return None;
                }
            }
        }
    }

    fn succeeded(&mut self, open: usize) {
        if std::mem::take(&mut self.refused) && self.counts.granted() {
            tracing::info!(connections = open, "accepting resumed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gate_opens_again_only_when_half_the_surplus_has_left() {
        let listener = TcpListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let counts = Arc::new(Counts::new(1, 10));
        let mut gate = Gate::new(listener, Places { connections_max: 10, surplus_max: 4 }, counts);
        let mut paused_at = |open| {
            gate.update(open, open, Time::ZERO);
            gate.is_paused()
        };
        assert!(!paused_at(13));
        assert!(paused_at(14));
        assert!(paused_at(13));
        assert!(!paused_at(12));
        assert!(!paused_at(13));
    }
}
