//! What every server does with a core: carries out its actions, tells what has become of it, and knows when it has stopped. Generic over
//! the adapter's sockets and broker, so that nothing is dispatched while a server runs.

use crate::journal::{self, Refusals};
use crate::ops::{Board, Snapshot};
use crate::readiness::Readiness;
use fanfare_core::broker::Ask;
use fanfare_core::time::Time;
use fanfare_core::{Action, Actions, ConnId, Core, Delivery};
use std::time::Instant;

/// Of messages from the embedded broker that are reported in one turn: some hundreds of the usual size, or one of the largest.
pub const MEMORY_BYTES_PER_TURN: usize = 64 * 1024;
/// What waits in the embedded broker of an instance alone from which on clients that make much work are not read.
pub const MEMORY_BYTES_PRESSING: usize = 1024 * 1024;

/// Clients' sockets as an adapter has them.
pub trait Sockets {
    /// Writes what the connection's socket takes at once. Returns how much that was, or `None` where the socket has failed.
    fn write(&mut self, conn: ConnId, bytes: &[u8]) -> Option<usize>;

    /// Sends a FIN, and goes on reading.
    fn shutdown(&mut self, conn: ConnId);

    /// Closes the connection's socket.
    fn close(&mut self, conn: ConnId);
}

/// The broker as an adapter has it.
pub trait Broker {
    /// Takes an [`Action::Ask`].
    fn ask(&mut self, ask: Ask<'_>);

    /// Whether it has so much to do that less should be asked of it.
    fn is_pressed(&self) -> bool;

    /// Publishes that have not been confirmed.
    fn publishes_in_flight(&mut self) -> usize;

    /// Adds the broker's figures to a snapshot.
    fn describe(&mut self, snapshot: &mut Snapshot);
}

/// Carries out what the core says. `send_asks` is called when the broker has been asked for something, before members are written to: it
/// works on that meanwhile.
pub fn carry_out<B: Broker>(
    mut actions: Actions<'_>,
    sockets: &mut impl Sockets,
    broker: &mut B,
    mut send_asks: impl FnMut(&mut B),
) {
    let mut asked = false;
    while let Some(action) = actions.next() {
        match action {
            Action::Send(delivery) => {
                if std::mem::take(&mut asked) {
                    send_asks(broker);
                }
                send(delivery, sockets);
            }
            Action::Shutdown { conn } => sockets.shutdown(conn),
            Action::Close { conn } => sockets.close(conn),
            Action::Ask(ask) => {
                // Nobody waits for an end of messages.
                asked |= !matches!(ask, Ask::Unsubscribe { .. });
                broker.ask(ask);
            }
        }
    }
}

/// One system call per target: the loop that everything else is for.
fn send(mut delivery: Delivery<'_>, sockets: &mut impl Sockets) {
    let bytes = delivery.bytes();
    while let Some(conn) = delivery.next_target() {
        match sockets.write(conn, bytes) {
            Some(written) if written == bytes.len() => {}
            Some(written) => delivery.short(conn, written),
            None => {
                sockets.close(conn);
                delivery.gone(conn);
            }
        }
    }
}

/// Whether there is so much to do that clients who make much work have to wait.
pub fn is_pressed(core: &Core, broker: &impl Broker) -> bool {
    core.is_congested() || core.has_unread() || core.is_strained() || broker.is_pressed()
}

/// What a server tells after every turn, and to whom.
#[derive(Debug)]
pub struct Telling<'a> {
    /// The number of the worker.
    pub worker: usize,
    /// Of this worker.
    pub readiness: &'a mut Readiness,
    /// What the log was told of refusals.
    pub refusals: &'a mut Refusals,
    /// Where figures are published, if anywhere.
    pub board: Option<&'a Board>,
}

impl Telling<'_> {
    /// Publishes figures, readiness and what has become of connections, when a turn has ended that `began` then. `complete` adds the
    /// adapter's own figures.
    pub fn tell(self, core: &mut Core, broker: &mut impl Broker, began: Instant, complete: impl FnOnce(&mut Snapshot)) {
        self.readiness.tell(core.readiness());
        journal::write(self.worker, core);
        self.refusals.look(self.worker, core, Instant::now);
        if let Some(board) = self.board {
            let mut snapshot = Snapshot { core: core.metrics(), ..Snapshot::default() };
            broker.describe(&mut snapshot);
            complete(&mut snapshot);
            let board = board.worker(self.worker);
            board.publish(&snapshot);
            board.observe_turn(began.elapsed());
        }
    }
}

/// Whether a server that has been told to stop has said everything, or has had time enough for it.
pub fn has_stopped(core: &Core, broker: &mut impl Broker, stop_at: Option<Time>, now: Time) -> bool {
    let Some(stop_at) = stop_at else { return false };
    now >= stop_at || core.connections() == 0 && broker.publishes_in_flight() == 0
}
