//! The thread that takes new connections. It takes none without a place or a descriptor for it, so that they wait in the kernel's
//! backlog.

use crate::client::Client;
use crate::gate::{Gate, Lack};
use crate::inbox::Inbound;
use crossbeam_channel::{SendError, Sender};
use fanfare_adapter::listen::{ACCEPT_PAUSE, is_of_the_connection};
use rustix::event::{PollFd, PollFlags, poll};
use std::io;
use std::mem;
use std::net::TcpListener;
use std::sync::Arc;
use std::thread;

/// Starts the thread. New connections go to the inbox.
///
/// # Errors
/// If it cannot be made.
pub fn start(gate: &Arc<Gate>, inbox: Sender<Inbound>) -> io::Result<()> {
    let gate = Arc::clone(gate);
    // It ends with the server: nobody takes anything any more.
    let run = move || drop(accept(&gate, &inbox));
    thread::Builder::new().name("fanfare-accept".to_owned()).spawn(run).map(drop)
}

fn accept(gate: &Arc<Gate>, inbox: &Sender<Inbound>) -> Result<(), SendError<Inbound>> {
    let mut shown = figures(gate);
    while gate.wait_for_a_place() {
        show(gate, &mut shown, inbox)?;
        if gate.refuses() {
            thread::sleep(ACCEPT_PAUSE);
        }
        match gate.listener().accept() {
            Ok((stream, peer)) => {
                let client = Client::new(stream, gate.admit());
                // The turn that takes it shows them.
                shown = figures(gate);
                inbox.send(Inbound::Accepted(client, peer))?;
            }
            // Linux finds a descriptor before it looks for a connection: there is one again.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                gate.granted(Lack::Descriptor);
                show(gate, &mut shown, inbox)?;
                wait_until_readable(gate.listener());
            }
            Err(error) if is_of_the_connection(&error) => {}
            Err(error) => gate.refused(Lack::Descriptor, &error),
        }
    }
    Ok(())
}

/// What the metrics show of the gate.
fn figures(gate: &Gate) -> (u64, bool) {
    (gate.errors(), gate.is_paused())
}

/// Has them shown, if they are not those that were `shown` last.
fn show(gate: &Gate, shown: &mut (u64, bool), inbox: &Sender<Inbound>) -> Result<(), SendError<Inbound>> {
    let figures = figures(gate);
    if mem::replace(shown, figures) == figures { Ok(()) } else { inbox.send(Inbound::Figures) }
}

fn wait_until_readable(listener: &TcpListener) {
    // An interruption is as good as a connection: the next attempt tells.
    let _ = poll(&mut [PollFd::new(listener, PollFlags::IN)], None);
}
