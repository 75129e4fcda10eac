//! Runs that fail: caught, made smaller, and told.

use crate::cluster::{Outcome, run};
use crate::options::{Narrowed, Options};
use crate::trace::Trace;
use std::any::Any;
use std::cell::Cell;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

/// Lines of the trace that a failure tells.
const LINES_MAX: usize = 60;

thread_local! {
    /// The seed that this thread runs.
    static RUNNING: Cell<Option<u64>> = const { Cell::new(None) };
    static PANIC: Cell<Option<String>> = const { Cell::new(None) };
}

/// A seed that fails.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// What it could be narrowed to.
    pub narrowed: Narrowed,
    /// What did not hold, in the narrowed run.
    pub reason: String,
    /// The end of the narrowed run.
    pub lines: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failure { seed, narrowed, reason, lines } = self;
        writeln!(f, "seed {seed} fails: {reason}")?;
        writeln!(f, "narrowed to: {narrowed}")?;
        writeln!(f, "{:#?}", Options::draw(*seed, narrowed))?;
        writeln!(f, "the last {} events:", lines.len())?;
        for line in lines {
            writeln!(f, "{line}")?;
        }
        writeln!(f, "again: {}", command(*seed))?;
        write!(f, "as narrowed: NARROWED=\"{narrowed}\" {}", command(*seed))
    }
}

/// What runs a seed again and prints everything that happens.
fn command(seed: u64) -> String {
    format!("SEED={seed} cargo test -p fanfare-sim replay -- --nocapture")
}

/// Runs a seed; a panic of the core is a failure like others.
///
/// # Errors
/// What did not hold.
pub fn attempt(seed: u64, narrowed: &Narrowed, trace: &mut Trace) -> Result<Outcome, String> {
    listen();
    RUNNING.set(Some(seed));
    let result = catch_unwind(AssertUnwindSafe(|| run(seed, narrowed, trace)));
    RUNNING.set(None);
    result.unwrap_or_else(|panic| Err(PANIC.take().unwrap_or_else(|| text_of(&*panic))))
}

/// Runs a seed. If it fails, runs it again with fewer faults, clients, instances and steps for as long as it still fails.
///
/// # Errors
/// The failure, as small as it could be made.
pub fn examine(seed: u64) -> Result<Outcome, Box<Failure>> {
    let mut narrowed = Narrowed::default();
    let mut reason = match attempt(seed, &narrowed, &mut Trace::off()) {
        Ok(outcome) => return Ok(outcome),
        Err(reason) => reason,
    };
    let mut try_out = |candidate: Narrowed| match attempt(seed, &candidate, &mut Trace::off()) {
        Ok(_) => false,
        Err(other) => {
            (narrowed, reason) = (candidate, other);
            true
        }
    };
    let mut best = Narrowed::default();
    let options = Options::draw(seed, &best);
    for (fault, _) in &options.faults {
        let mut candidate = best.clone();
        candidate.without.push(*fault);
        if try_out(candidate.clone()) {
            best = candidate;
        }
    }
    for clients in 1..options.clients.count {
        let candidate = Narrowed { clients: Some(clients), ..best.clone() };
        if try_out(candidate.clone()) {
            best = candidate;
            break;
        }
    }
    for instances in 1..options.instances {
        let candidate = Narrowed { instances: Some(instances), ..best.clone() };
        if try_out(candidate.clone()) {
            best = candidate;
            break;
        }
    }
    // Not everything that fails after some steps fails after more; a bound that fails is found all the same.
    let (mut passes, mut fails) = (0, options.steps);
    while passes + 1 < fails {
        let middle = passes + (fails - passes) / 2;
        let candidate = Narrowed { steps: Some(middle), ..best.clone() };
        if try_out(candidate.clone()) {
            (best, fails) = (candidate, middle);
        } else {
            passes = middle;
        }
    }
    let mut trace = Trace::last(LINES_MAX);
    if let Err(last) = attempt(seed, &narrowed, &mut trace) {
        reason = last;
    }
    Err(Box::new(Failure { seed, narrowed, reason, lines: trace.lines().map(str::to_owned).collect() }))
}

/// Keeps the message of a panic in a run, and says nothing of it meanwhile.
fn listen() {
    static LISTENS: Once = Once::new();
    LISTENS.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let Some(seed) = RUNNING.get() else { return usual(info) };
            if cfg!(panic = "abort") {
                // Nobody will come to tell of it.
                eprintln!("again: {}", command(seed));
                return usual(info);
            }
            let place = info.location().map_or(String::new(), ToString::to_string);
            let text = format!("panic at {place}: {}", text_of(info.payload()));
            if let Some(first) = PANIC.take() {
                // A panic while another unwinds ends the process.
                eprintln!("seed {seed} fails: {first}; and then: {text}");
                eprintln!("again: {}", command(seed));
            }
            PANIC.set(Some(text));
        }));
    });
}

fn text_of(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no text".to_owned())
}
