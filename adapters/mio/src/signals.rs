//! SIGTERM and SIGINT as readiness on a pipe: the first asks for an orderly end, the second ends the process at once.

use mio::net::UnixStream;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::{flag, low_level};
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// A shell reports the end by a signal as 128 and the signal's number.
const EXIT_STATUS_BASE: i32 = 128;

/// One signal's pipe; readable once the signal has come.
#[derive(Debug)]
pub struct Signal {
    /// As in signal(7).
    name: &'static str,
    /// To be registered with the poll.
    pub pipe: UnixStream,
}

impl Signal {
    /// The signal's name, if it has come since the last call.
    pub fn take(&mut self) -> Option<&'static str> {
        matches!(self.pipe.read(&mut [0; 16]), Ok(1..)).then_some(self.name)
    }
}

/// Takes over both signals for the whole process, and gives each of its loops the pipes.
///
/// # Errors
/// If a handler or a pipe cannot be set up.
pub fn install(loops: usize) -> io::Result<Vec<[Signal; 2]>> {
    let asked = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        // The order matters: the first signal finds the flag unset here, and sets it there.
        flag::register_conditional_shutdown(signal, EXIT_STATUS_BASE + signal, Arc::clone(&asked))?;
        flag::register(signal, Arc::clone(&asked))?;
    }
    (0..loops).map(|_| Ok([pipe(SIGTERM, "SIGTERM")?, pipe(SIGINT, "SIGINT")?])).collect()
}

fn pipe(signal: i32, name: &'static str) -> io::Result<Signal> {
    let (read, write) = std::os::unix::net::UnixStream::pair()?;
    read.set_nonblocking(true)?;
    low_level::pipe::register(signal, write)?;
    Ok(Signal { name, pipe: UnixStream::from_std(read) })
}
