//! SIGTERM and SIGINT as bytes on a pipe: they ask for an orderly end, SIGINT and a second SIGTERM for one at once. The next signal ends the
//! process. Signals that do something elsewhere and nothing here are ignored, and said.

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals;
use signal_hook::{flag, low_level};
use std::io::{self, IsTerminal, Read};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
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
    /// Has a byte to read for each time that the signal has come. Reading blocks.
    pub pipe: UnixStream,
}

/// Takes over both signals for the whole process, and gives each of those who wait for them the pipes. Who gets SIGINT, or a second
/// signal, is to end at once: a further signal ends the process, whatever it does.
///
/// # Errors
/// If a handler or a pipe cannot be set up, or a thread not be made.
pub fn install(receivers: usize) -> io::Result<Vec<[Signal; 2]>> {
    let at_once = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        flag::register_conditional_shutdown(signal, EXIT_STATUS_BASE + signal, Arc::clone(&at_once))?;
    }
    // After the above, so that the first SIGINT finds the flag unset there, and sets it here.
    flag::register(SIGINT, Arc::clone(&at_once))?;
    let mut sigterms = pipe(SIGTERM, "SIGTERM")?.pipe;
    thread::Builder::new().name("fanfare-sigterm".to_owned()).spawn(move || {
        if sigterms.read_exact(&mut [0; 2]).is_ok() {
            at_once.store(true, Ordering::Relaxed);
        }
    })?;
    (0..receivers).map(|_| Ok([pipe(SIGTERM, "SIGTERM")?, pipe(SIGINT, "SIGINT")?])).collect()
}

/// Has this process do what it does at SIGTERM.
///
/// # Errors
/// If the signal cannot be sent.
pub fn terminate() -> io::Result<()> {
    low_level::raise(SIGTERM)
}

/// Ignores SIGUSR1 and SIGUSR2, which would end the process, and says so in the log. SIGHUP calls `reload`, and is ignored as well if
/// there is nothing to reload. On a terminal it tells that this has been closed, and ends the process as it does any other.
///
/// # Errors
/// If a handler cannot be set up, or the thread that writes the lines not be made.
pub fn ignore_others(reload: Option<impl Fn() + Send + 'static>) -> io::Result<()> {
    let mut ignored = vec![SIGUSR1, SIGUSR2];
    if !io::stderr().is_terminal() {
        ignored.push(SIGHUP);
    }
    let mut signals = Signals::new(ignored)?;
    thread::Builder::new().name("fanfare-signals".to_owned()).spawn(move || {
        for signal in signals.forever() {
            match signal {
                SIGHUP => match &reload {
                    Some(reload) => reload(),
                    None => tracing::warn!(signal = "SIGHUP", "nothing is reloaded while it runs: restart it"),
                },
                SIGUSR1 => tracing::warn!(signal = "SIGUSR1", "the signal means nothing here, and is ignored"),
                _ => tracing::warn!(signal = "SIGUSR2", "the signal means nothing here, and is ignored"),
            }
        }
    })?;
    Ok(())
}

fn pipe(signal: i32, name: &'static str) -> io::Result<Signal> {
    let (read, write) = UnixStream::pair()?;
    low_level::pipe::register(signal, write)?;
    Ok(Signal { name, pipe: read })
}
