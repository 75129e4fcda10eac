//! What goes between a run and the person before it: a line of progress one way, Ctrl-C the other.

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM};

use crate::{Context, Result};

/// How often the line changes.
const PACE: Duration = Duration::from_secs(1);

/// Progress on stderr where that is a terminal, and whether to stop.
#[derive(Debug)]
pub struct Watch {
    interrupted: Arc<AtomicBool>,
    terminal: bool,
    last: Instant,
}

impl Watch {
    /// From now on, the first Ctrl-C (or SIGTERM) is only noted. The second ends this process as ever.
    pub fn new() -> Result<Watch> {
        let interrupted = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            // In this order: the flag is not up yet when the first signal asks.
            signal_hook::flag::register_conditional_default(signal, interrupted.clone())
                .and_then(|_| signal_hook::flag::register(signal, interrupted.clone()))
                .context("cannot watch for signals")?;
        }
        Ok(Watch { interrupted, terminal: std::io::stderr().is_terminal(), last: Instant::now() })
    }

    /// Whether Ctrl-C was pressed.
    pub fn interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }

    /// Something new begins, of which there is nothing to tell yet.
    pub fn begin(&mut self) {
        self.last = Instant::now();
    }

    /// Shows what `line` says, if it is time for that.
    pub fn tell(&mut self, line: impl FnOnce() -> String) {
        if self.terminal && self.last.elapsed() >= PACE {
            self.last = Instant::now();
            // Whoever closed the terminal does not look.
            let _ = write!(std::io::stderr(), "\r\x1b[K{}", line());
        }
    }

    /// Clears the line.
    pub fn end(&mut self) {
        if self.terminal {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}
