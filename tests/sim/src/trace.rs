//! What happened, for people: the last events of a run that is being shown. A run that is not costs nothing.

use std::collections::VecDeque;

/// The last events, or nothing.
#[derive(Debug, Default)]
pub struct Trace {
    lines: VecDeque<String>,
    lines_max: usize,
    /// Everything is printed as it happens.
    prints: bool,
}

impl Trace {
    /// Keeps nothing.
    pub fn off() -> Trace {
        Trace::default()
    }

    /// Keeps so many of the last lines.
    pub fn last(lines_max: usize) -> Trace {
        Trace { lines_max, ..Trace::default() }
    }

    /// Prints everything, and keeps so many of the last lines.
    pub fn printing(lines_max: usize) -> Trace {
        Trace { lines_max, prints: true, ..Trace::default() }
    }

    /// Whether anything is kept.
    pub fn is_on(&self) -> bool {
        self.lines_max > 0
    }

    /// Notes something; use the macro, which formats only what is kept.
    pub fn note(&mut self, now: u64, what: &str) {
        let line = format!("{:>12.6}  {what}", now as f64 / 1e6);
        if self.prints {
            println!("{line}");
        }
        if self.lines.len() == self.lines_max {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    /// The lines that were kept, oldest first.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().map(String::as_str)
    }
}

/// Notes what happened at the timeline's time, if the trace is on.
#[macro_export]
macro_rules! trace {
    ($trace:expr, $timeline:expr, $($what:tt)*) => {
        if $trace.is_on() {
            let now = $timeline.now;
            $trace.note(now, &format!($($what)*));
        }
    };
}
