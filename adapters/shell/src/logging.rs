//! Where log lines go and how they look: stderr, as text or as one flat JSON object per line. A thread of its own writes them,
//! because their reader may stop reading. What is worth a line is decided where it happens, not here.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;
use std::time::Duration;

use tracing::Level;

/// Lines that may wait for stderr; further ones are lost and counted. Some 200 KB.
const LINES_WAITING_MAX: usize = 1_024;
/// How long the end of the process waits for stderr to take what was said before.
const FLUSH_TIME_MAX: Duration = Duration::from_secs(1);

/// What log lines look like and which are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    /// The form of a line.
    pub format: LogFormat,
    /// The least severe level that is written.
    pub level: LogLevel,
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One flat JSON object per line.
    Json,
}

/// How severe an event must be to be logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// Errors only.
    Error,
    /// Errors and warnings.
    Warn,
    /// Also the noteworthy facts of normal operation.
    Info,
    /// Also what helps to find a fault.
    Debug,
}

/// The log. Dropping it waits until all lines are written, if stderr takes them.
#[must_use = "the last lines are written when it is dropped"]
#[derive(Debug)]
pub struct Logging {
    lines: Lines,
}

/// Sends every event of this process from now on to stderr.
///
/// # Errors
/// If the thread that writes cannot be made.
///
/// # Panics
/// If logging has been started before in this process.
pub fn start(log: Log) -> io::Result<Logging> {
    let level = match log.level {
        LogLevel::Error => Level::ERROR,
        LogLevel::Warn => Level::WARN,
        LogLevel::Info => Level::INFO,
        LogLevel::Debug => Level::DEBUG,
    };
    let writer = Lines::start()?;
    let logging = Logging { lines: writer.clone() };
    let lines = tracing_subscriber::fmt()
        .with_writer(move || writer.clone())
        .with_max_level(level)
        .with_target(false)
        // Nobody could read it.
        .log_internal_errors(false);
    match log.format {
        LogFormat::Text => lines.with_ansi(wants_colour()).init(),
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).with_span_list(false).init(),
    }
    Ok(logging)
}

impl Drop for Logging {
    fn drop(&mut self) {
        let (done, written) = sync_channel(1);
        let _ = self.lines.queue.send(Said::Flush(done));
        let _ = written.recv_timeout(FLUSH_TIME_MAX);
    }
}

#[derive(Debug)]
enum Said {
    Line(Vec<u8>),
    /// Everything said before is to be written now.
    Flush(SyncSender<()>),
}

/// Takes whole lines and never blocks: a terminal that is stopped or a collector that hangs must not stop the server.
#[derive(Clone, Debug)]
struct Lines {
    queue: Sender<Said>,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    waiting: AtomicUsize,
    lost: AtomicU64,
}

impl Lines {
    fn start() -> io::Result<Lines> {
        let (queue, said) = channel();
        let counts = Arc::<Counts>::default();
        let lines = Lines { queue, counts: Arc::clone(&counts) };
        thread::Builder::new().name("fanfare-log".to_owned()).spawn(move || write(&said, &counts))?;
        Ok(lines)
    }
}

impl Write for Lines {
    /// The subscriber writes each line with one call.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.counts.waiting.load(Relaxed) >= LINES_WAITING_MAX {
            self.counts.lost.fetch_add(1, Relaxed);
        } else {
            self.counts.waiting.fetch_add(1, Relaxed);
            // The thread lives as long as the process.
            let _ = self.queue.send(Said::Line(line.to_vec()));
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn write(said: &Receiver<Said>, counts: &Counts) {
    for said in said {
        match said {
            Said::Line(line) => {
                // If stderr is gone (a closed pipe), the server goes on without a log.
                let _ = io::stderr().write_all(&line);
                counts.waiting.fetch_sub(1, Relaxed);
                let lost = counts.lost.swap(0, Relaxed);
                if lost > 0 {
                    tracing::warn!(lines = lost, "log lines lost, since stderr took none");
                }
            }
            Said::Flush(done) => {
                let _ = done.send(());
            }
        }
    }
}

/// Colours are for people: on a terminal, unless `NO_COLOR` (<https://no-color.org>) is set and not empty.
fn wants_colour() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
