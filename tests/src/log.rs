//! What a process writes to its standard error, line by line, and waiting for a line.

use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Instant;

use serde_json::Value;

use crate::DEADLINE;

/// The lines that a server has logged so far.
#[derive(Clone)]
pub struct Log {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    grown: Condvar,
}

#[derive(Default)]
struct State {
    lines: Vec<String>,
    ended: bool,
}

impl Log {
    /// Reads `source` to its end on a thread of its own.
    pub(crate) fn read(source: impl Read + Send + 'static) -> Log {
        let log = Log { shared: Arc::default() };
        let shared = Arc::clone(&log.shared);
        thread::spawn(move || {
            for line in BufReader::new(source).split(b'\n') {
                let Ok(line) = line else { break };
                let mut state = shared.state.lock().expect("no reader panics");
                state.lines.push(String::from_utf8_lossy(&line).into_owned());
                shared.grown.notify_all();
            }
            shared.state.lock().expect("no reader panics").ended = true;
            shared.grown.notify_all();
        });
        log
    }

    /// Waits for the `nth` (from 1) JSON line whose `message` is `message`.
    ///
    /// # Panics
    ///
    /// If the log ends before, or after [`DEADLINE`].
    pub fn wait_for(&self, message: &str, nth: usize) -> Value {
        let deadline = Instant::now() + DEADLINE;
        let mut state = self.shared.state.lock().expect("no reader panics");
        loop {
            let mut found = state.lines.iter().filter_map(|line| entry(line, message));
            if let Some(entry) = found.nth(nth - 1) {
                return entry;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if state.ended || left.is_zero() {
                let why = if state.ended { "the log has ended" } else { "the deadline has passed" };
                let text = state.lines.join("\n");
                // Released first: a panic under the lock would hide the log from whoever prints it.
                drop(state);
                panic!("no line {message:?} (number {nth}) was logged, and {why}; logged:\n{text}");
            }
            state = self.shared.grown.wait_timeout(state, left).expect("no reader panics").0;
        }
    }

    /// How many JSON lines with this `message` have been read so far. What has been logged may be on its way still, for a thread of
    /// the server's own writes it: wait for a line that must be there, and for the end where there must be no more.
    pub fn count(&self, message: &str) -> usize {
        let state = self.shared.state.lock().expect("no reader panics");
        state.lines.iter().filter(|line| entry(line, message).is_some()).count()
    }

    /// Waits until the process has closed its standard error, so that nothing more follows; `false` after
    /// [`DEADLINE`].
    pub fn wait_for_end(&self) -> bool {
        let state = self.shared.state.lock().expect("no reader panics");
        let (state, _) =
            self.shared.grown.wait_timeout_while(state, DEADLINE, |state| !state.ended).expect("no reader panics");
        state.ended
    }

    /// All that has been read so far. What has been logged may be on its way still, as for [`Log::count`].
    pub fn text(&self) -> String {
        self.shared.state.lock().expect("no reader panics").lines.join("\n")
    }
}

/// The line as JSON if it is an object with this `message`.
fn entry(line: &str, message: &str) -> Option<Value> {
    let value: Value = serde_json::from_str(line).ok()?;
    (value.get("message")?.as_str()? == message).then_some(value)
}
