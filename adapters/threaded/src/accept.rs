//! The thread that takes new connections, and the gate it stands at: it takes none without a place or a descriptor for it, so
//! that they wait in the kernel's backlog.

use crate::inbox::Inbound;
use crossbeam_channel::{SendError, Sender};
use fanfare_adapter::descriptors::Places;
use fanfare_adapter::listen::{ACCEPT_PAUSE, is_of_the_connection};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{Shutdown, shutdown};
use std::io;
use std::mem;
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
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

/// A connection's socket and its place, which is free again when the descriptor is.
#[derive(Debug)]
pub struct Client {
    /// The socket, which blocks.
    pub stream: TcpStream,
    _place: Place,
}

#[derive(Debug)]
struct Place(Arc<Gate>);

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

    /// Starts the thread. New connections go to the inbox.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn start(self: &Arc<Gate>, inbox: Sender<Inbound>) -> io::Result<()> {
        let gate = Arc::clone(self);
        thread::Builder::new().name("fanfare-accept".to_owned()).spawn(move || gate.run(&inbox)).map(drop)
    }

    /// Takes no more, for good.
    pub fn stop(&self) {
        self.lock().stopping = true;
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

    fn run(self: &Arc<Gate>, inbox: &Sender<Inbound>) {
        // It ends with the server: nobody takes anything any more.
        let _ = self.accept(inbox);
    }

    fn accept(self: &Arc<Gate>, inbox: &Sender<Inbound>) -> Result<(), SendError<Inbound>> {
        let mut shown = self.figures();
        while self.wait_for_a_place() {
            self.show(&mut shown, inbox)?;
            if self.lock().refuses() {
                thread::sleep(ACCEPT_PAUSE);
            }
            match self.listener.accept() {
                Ok((stream, peer)) => {
                    let client = self.admit(stream);
                    // The turn that takes it shows them.
                    shown = self.figures();
                    inbox.send(Inbound::Accepted(client, peer))?;
                }
                // Linux finds a descriptor before it looks for a connection: there is one again.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.granted(Lack::Descriptor);
                    self.show(&mut shown, inbox)?;
                    wait_until_readable(&self.listener);
                }
                Err(error) if is_of_the_connection(&error) => {}
                Err(error) => self.refused(Lack::Descriptor, &error),
            }
        }
        Ok(())
    }

    /// What the metrics show of it.
    fn figures(&self) -> (u64, bool) {
        (self.errors(), self.is_paused())
    }

    /// Has them shown, if they are not those that were `shown` last.
    fn show(&self, shown: &mut (u64, bool), inbox: &Sender<Inbound>) -> Result<(), SendError<Inbound>> {
        let figures = self.figures();
        if mem::replace(shown, figures) == figures { Ok(()) } else { inbox.send(Inbound::Figures) }
    }

    pub(crate) fn admit(self: &Arc<Gate>, stream: TcpStream) -> Client {
        self.granted(Lack::Descriptor);
        let mut state = self.lock();
        state.open += 1;
        state.full |= state.open >= self.places.full_at();
        Client { stream, _place: Place(Arc::clone(self)) }
    }

    /// Returns whether there is one; there will never be one once the server is stopping.
    fn wait_for_a_place(&self) -> bool {
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

fn wait_until_readable(listener: &TcpListener) {
    // An interruption is as good as a connection: the next attempt tells.
    let _ = poll(&mut [PollFd::new(listener, PollFlags::IN)], None);
}
