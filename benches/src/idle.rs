//! What a client costs that only listens: the way in, and the memory it takes from then on.

use fanfare_bench::Result;
use fanfare_bench::comparison::Subject;
use fanfare_bench::process::{CpuTime, settled_memory};

use crate::rooms::Rooms;
use crate::subject::{Running, Setup};

/// What was measured.
#[derive(Clone, Copy, Debug)]
pub struct Idle {
    /// Who was measured.
    pub subject: Subject,
    /// Where the subscribers were.
    pub rooms: Rooms,
    /// How many there were.
    pub members: usize,
    /// Anonymous memory of the server without a client.
    pub before_bytes: u64,
    /// The same with all of them, idle.
    pub after_bytes: u64,
    /// What it took to let them in.
    pub joining: CpuTime,
}

impl Idle {
    /// Anonymous memory per idle subscriber.
    pub fn bytes_each(&self) -> f64 {
        (self.after_bytes as f64 - self.before_bytes as f64) / self.members as f64
    }

    /// Processor time, in µs, of a handshake and the subscriptions.
    pub fn joining_us_each(&self) -> f64 {
        self.joining.total_ns as f64 / 1e3 / self.members as f64
    }
}

/// Measures a fresh `subject`.
pub fn measure(setup: &Setup, subject: Subject, rooms: Rooms) -> Result<Idle> {
    let members = setup.options.members();
    let mut running = Running::start(setup, subject)?;
    let before_bytes = settled_memory_of(&mut running)?;
    let cpu = CpuTime::of(running.pid())?;
    running.join(members, rooms)?;
    let joining = CpuTime::of(running.pid())?.since(cpu);
    let after_bytes = settled_memory_of(&mut running)?;
    Ok(Idle { subject, rooms, members, before_bytes, after_bytes, joining })
}

fn settled_memory_of(running: &mut Running) -> Result<u64> {
    settled_memory(running.pid(), |pace| running.swarm().idle(pace)).map_err(|error| running.explain(&error))
}
