//! What every server does with a core between its turns: tells what has become of it, and knows when it has stopped. Generic over the
//! adapter's broker, so that nothing is dispatched while a server runs. The order of a turn is `fanfare-turn`'s.

use crate::journal::{self, Refusals};
use crate::ops::{Board, Snapshot};
use crate::readiness::Readiness;
use crate::time::unix_ms;
use fanfare_core::Core;
use fanfare_core::broker::Ask;
use fanfare_core::broker::memory::MemoryBroker;
use fanfare_core::time::Time;
use std::time::Instant;

/// Of messages from the embedded broker that are reported in one turn: some hundreds of the usual size, or one of the largest.
pub const MEMORY_BYTES_PER_TURN: usize = 64 * 1024;
/// What waits in the embedded broker of an instance alone from which on clients that make much work are not read.
pub const MEMORY_BYTES_PRESSING: usize = 1024 * 1024;

/// Takes an [`Action::Ask`](fanfare_core::Action::Ask) for the embedded broker of an instance alone; what is stored, or read of that, has
/// its time.
pub fn ask_memory(memory: &mut MemoryBroker, ask: Ask<'_>) {
    if matches!(ask, Ask::Publish { store: Some(_), .. } | Ask::Read { .. }) {
        memory.set_time(unix_ms());
    }
    memory.ask(ask);
}

/// What a server has to know of its broker.
pub trait Broker {
    /// Whether it has so much to do that less should be asked of it.
    fn is_pressed(&self) -> bool;

    /// Publishes that have not been confirmed.
    fn publishes_in_flight(&mut self) -> usize;

    /// Adds the broker's figures to a snapshot.
    fn describe(&mut self, snapshot: &mut Snapshot);
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
    now >= stop_at || !core.takes_newcomers() && core.connections() == 0 && broker.publishes_in_flight() == 0
}
