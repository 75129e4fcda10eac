//! What the `main` of each of these benchmarks does: it measures, unless it was started by itself to be somebody else.

use std::process::ExitCode;

use crate::{Result, child, report};

/// What a benchmark can be besides itself: the first argument that says so, and what is done with the others.
pub type Role = (&'static str, fn(&[String]) -> Result<()>);

/// Plays the role that the first argument names, or else measures. Errors are told on stderr.
pub fn run(roles: &[Role], measure: impl FnOnce() -> Result<()>) -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let first = arguments.get(1).map_or("", String::as_str);
    let result = if first == child::LAUNCH {
        Err(child::become_program(&arguments[2..]))
    } else if let Some((_, role)) = roles.iter().find(|(name, _)| *name == first) {
        role(&arguments[2..])
    } else {
        measure()
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report::say(format_args!("error: {error}"));
            ExitCode::FAILURE
        }
    }
}
