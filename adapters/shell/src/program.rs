//! How a server's program runs: configuration first, then the log, then whatever it serves, until that has ended.

use crate::config::{Command, Failed, Loaded, Stop};
use crate::logging::{self, Log};
use std::error::Error;
use std::fmt;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::ExitCode;

/// A server that listens, ready to run.
pub trait Server {
    /// Where it listens: the port that was chosen, if the configured one was 0.
    fn address(&self) -> SocketAddr;

    /// Runs until a signal has ended it in order. Returns how many connections were left to be cut off.
    ///
    /// # Errors
    /// If it cannot go on.
    fn run(self) -> io::Result<usize>;
}

/// The server cannot start: why, for people.
#[derive(Debug)]
pub struct StartError(pub String);

impl StartError {
    /// Puts what was being done in front of what went wrong.
    pub fn of<E: fmt::Display>(what: &str) -> impl Fn(E) -> StartError {
        move |error| StartError(format!("{what}: {error}"))
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for StartError {}

/// All of a program's `main`, once its configuration has been read: does what the command line asks for. `log` finds the log's part of
/// the configuration, and `serve` runs until it is over.
pub fn main<C>(
    name: &str,
    loaded: Result<Loaded<C>, Stop>,
    log: impl FnOnce(&C) -> Log,
    serve: impl FnOnce(&C) -> Result<(), Box<dyn Error>>,
) -> ExitCode {
    let loaded = match loaded {
        Ok(loaded) => loaded,
        Err(stop) => return stop.report(),
    };
    if let Command::CheckConfig { strict, .. } = loaded.command {
        for warning in &loaded.warnings {
            let _ = writeln!(io::stderr(), "{name}: warning: {warning}");
        }
        // A reader that closes early, such as `head`, is no reason to fail.
        let text = loaded.answers().unwrap_or_else(|| loaded.to_toml());
        let _ = io::stdout().write_all(text.as_bytes());
        return if strict && !loaded.warnings.is_empty() { ExitCode::from(2) } else { ExitCode::SUCCESS };
    }
    if let Some(outcome) = loaded.outcome() {
        return match outcome {
            Ok(said) => {
                let _ = io::stdout().write_all(said.result.as_bytes());
                if !said.hint.is_empty() {
                    let _ = writeln!(io::stderr(), "{}", said.hint);
                }
                ExitCode::SUCCESS
            }
            Err(failed) => {
                let _ = writeln!(io::stderr(), "{name}: {failed}");
                if matches!(failed, Failed::Usage(_)) { ExitCode::from(2) } else { ExitCode::FAILURE }
            }
        };
    }
    let _logging = match logging::start(log(&loaded.config)) {
        Ok(logging) => logging,
        Err(error) => {
            let _ = writeln!(io::stderr(), "{name}: cannot start the log: {error}");
            return ExitCode::FAILURE;
        }
    };
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    match serve(&loaded.config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}
