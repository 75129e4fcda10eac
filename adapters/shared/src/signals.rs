//! SIGTERM and SIGINT as bytes on a pipe: the first asks for an orderly end, the second ends the process at once.

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::{flag, low_level};
use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// A shell reports the end by a signal as 128 and the signal's number.
const EXIT_STATUS_BASE: i32 = 128;

/// How long a server that is told to stop goes on to read, where clients do not cease to send.
const LAST_ROUND_MAX: Duration = Duration::from_millis(250);

/// How long it may go on to read what was sent before: whoever sent that is answered, of the time that there is to stop.
pub fn last_round(shutdown_timeout: Duration) -> Duration {
    LAST_ROUND_MAX.min(shutdown_timeout / 4)
}

/// One signal's pipe.
#[derive(Debug)]
pub struct Signal {
    /// As in signal(7).
    pub name: &'static str,
    /// Has a byte to read once the signal has come. Reading blocks.
    pub pipe: UnixStream,
}

/// Takes over both signals for the whole process, and gives each of those who wait for them the pipes.
///
/// # Errors
/// If a handler or a pipe cannot be set up.
pub fn install(receivers: usize) -> io::Result<Vec<[Signal; 2]>> {
    let asked = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        // The order matters: the first signal finds the flag unset here, and sets it there.
        flag::register_conditional_shutdown(signal, EXIT_STATUS_BASE + signal, Arc::clone(&asked))?;
        flag::register(signal, Arc::clone(&asked))?;
    }
    (0..receivers).map(|_| Ok([pipe(SIGTERM, "SIGTERM")?, pipe(SIGINT, "SIGINT")?])).collect()
}

fn pipe(signal: i32, name: &'static str) -> io::Result<Signal> {
    let (read, write) = UnixStream::pair()?;
    low_level::pipe::register(signal, write)?;
    Ok(Signal { name, pipe: read })
}
