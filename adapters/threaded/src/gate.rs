//! The gate in front of the listener: how many connections there are, and whether more are taken. No thread, and no inbox.

use fanfare_adapter::descriptors::Places;
use rustix::net::{Shutdown, shutdown};
use std::io;
use std::mem;
use std::net::TcpListener;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A gate that closes for less is not worth a line in the log: a flood of connections that leave at once would fill it.
const WORTH_TELLING: Duration = Duration::from_millis(50);

/// How many connections there are, and whether more are taken.
#[derive(Debug)]
pub struct Gate {
    places: Places,
    state: Mutex<State>,
    left: Condvar,
    listener: TcpListener,
}

#[derive(Debug, Default)]
struct State {
    open: usize,
    /// No more are taken until enough have left.
    full: bool,
    /// The system refused the last one that was wanted, by [`Lack`].
    refused: [bool; 2],
    errors: u64,
    stopping: bool,
}

/// What the system may have none of.
#[derive(Clone, Copy, Debug)]
pub enum Lack {
    /// For a connection to be accepted.
    Descriptor,
    /// To read it.
    Thread,
}

/// The place of one connection, which is free again when this is dropped.
#[derive(Debug)]
pub struct Place(Arc<Gate>);

impl Drop for Place {
    fn drop(&mut self) {
        let gate = &self.0;
        let mut state = gate.lock();
        state.open -= 1;
        if state.full && state.open <= gate.places.open_again_at() {
            state.full = false;
            gate.left.notify_all();
        }
    }
}

impl Gate {
    /// An open gate in front of this listener.
    ///
    /// # Errors
    /// If the listener cannot be made not to block.
    pub fn new(listener: TcpListener, places: Places) -> io::Result<Arc<Gate>> {
        // The thread waits for a connection in poll(2). An accept(2) that would block tells that there is a descriptor again.
        listener.set_nonblocking(true)?;
        Ok(Arc::new(Gate { places, state: Mutex::default(), left: Condvar::new(), listener }))
    }

    /// Takes no more, for good.
    pub fn stop(&self) {
        if mem::replace(&mut self.lock().stopping, true) {
            return;
        }
        self.left.notify_all();
        // Connecting is refused from here on, and poll(2) returns. It fails only where there is no listener any more.
        let _ = shutdown(&self.listener, Shutdown::Both);
    }

    /// Connections whose descriptors are open.
    pub fn open(&self) -> usize {
        self.lock().open
    }

    /// Failures to take a connection that were not the peer's.
    pub fn errors(&self) -> u64 {
        self.lock().errors
    }

    /// Whether nothing is accepted.
    pub fn is_paused(&self) -> bool {
        let state = self.lock();
        state.full || state.refuses() || state.stopping
    }

    /// The system had none of it. What is tried again and again is told once.
    pub fn refused(&self, lack: Lack, error: &io::Error) {
        let mut state = self.lock();
        state.errors += 1;
        if !state.refuses() && !state.stopping {
            tracing::warn!(%error, connections = state.open, "accepting paused");
        }
        state.refused[lack as usize] = true;
    }

    /// The system had one of it.
    pub fn granted(&self, lack: Lack) {
        let mut state = self.lock();
        if mem::take(&mut state.refused[lack as usize]) && !state.refuses() {
            tracing::info!(connections = state.open, "accepting resumed");
        }
    }

    /// The listener, to be accepted from while there are places.
    pub(crate) fn listener(&self) -> &TcpListener {
        &self.listener
    }

    /// Takes a place for a connection that has been accepted.
    pub(crate) fn admit(self: &Arc<Gate>) -> Place {
        self.granted(Lack::Descriptor);
        let mut state = self.lock();
        state.open += 1;
        state.full |= state.open >= self.places.full_at();
        Place(Arc::clone(self))
    }

    /// Whether the system refuses something at present, and may grant it when asked again.
    pub(crate) fn refuses(&self) -> bool {
        self.lock().refuses()
    }

    /// Waits for a place. Returns whether there is one; there will never be one once the server is stopping.
    pub(crate) fn wait_for_a_place(&self) -> bool {
        let is_full = |state: &mut State| state.full && !state.stopping;
        let state = self.lock();
        let (state, waited) =
            self.left.wait_timeout_while(state, WORTH_TELLING, is_full).unwrap_or_else(PoisonError::into_inner);
        if !waited.timed_out() {
            return !state.stopping;
        }
        tracing::warn!(connections = state.open, "accepting paused");
        let state = self.left.wait_while(state, is_full).unwrap_or_else(PoisonError::into_inner);
        if !state.stopping {
            tracing::info!(connections = state.open, "accepting resumed");
        }
        !state.stopping
    }

    /// A count is whole whoever panicked.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn refuses(&self) -> bool {
        self.refused.contains(&true)
    }
}
