//! What a client costs that only listens: the way in, and the memory it takes from then on.

use std::time::Duration;

use crate::Result;
use crate::process::{CpuTime, anonymous_bytes};
use crate::rooms::Rooms;
use crate::subject::{Running, Setup, Subject};

/// Memory is read at this pace, until it holds still: a server may give back what the way in needed.
const SETTLE_PACE: Duration = Duration::from_millis(200);

/// So many equal readings in a row are called still.
const SETTLED_READINGS: usize = 4;

/// A server whose memory never holds still is read after this many.
const READINGS_MAX: usize = 25;

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

/// Anonymous memory of process `pid` once it holds still. `idle` passes the time between readings.
pub fn settled_memory(pid: u32, mut idle: impl FnMut(Duration) -> Result<()>) -> Result<u64> {
    let (mut last, mut equal) = (anonymous_bytes(pid)?, 1);
    for _ in 0..READINGS_MAX {
        if equal == SETTLED_READINGS {
            break;
        }
        idle(SETTLE_PACE)?;
        let now = anonymous_bytes(pid)?;
        equal = if now == last { equal + 1 } else { 1 };
        last = now;
    }
    Ok(last)
}
