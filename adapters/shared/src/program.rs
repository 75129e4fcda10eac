//! How a server's program runs: configuration first, then the log, then the server, then the operations port, until a signal.

use crate::config::{self, Command, Config};
use crate::logging;
use crate::ops::{Board, Ops};
use crate::signals;
use fanfare_core::Origins;
use std::error::Error;
use std::fmt;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

pub use crate::config::Program;

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

/// All of a server's `main`: does what the command line asks for. `start` opens the server; figures go to the board, where there
/// is one.
pub fn main<S: Server>(
    program: &Program,
    start: impl FnOnce(&Config, Option<Arc<Board>>) -> Result<S, StartError>,
) -> ExitCode {
    let loaded = match config::load(program, std::env::args_os(), std::env::vars_os()) {
        Ok(loaded) => loaded,
        Err(stop) => return stop.report(),
    };
    if let Command::CheckConfig { strict } = loaded.command {
        for warning in &loaded.warnings {
            let _ = writeln!(io::stderr(), "{}: warning: {warning}", program.name);
        }
        // A reader that closes early, such as `head`, is no reason to fail.
        let _ = io::stdout().write_all(loaded.to_toml().as_bytes());
        return if strict && !loaded.warnings.is_empty() { ExitCode::from(2) } else { ExitCode::SUCCESS };
    }
    let _logging = match logging::start(&loaded.config.log) {
        Ok(logging) => logging,
        Err(error) => {
            let _ = writeln!(io::stderr(), "{}: cannot start the log: {error}", program.name);
            return ExitCode::FAILURE;
        }
    };
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    match serve(&loaded.config, start) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn serve<S: Server>(
    config: &Config,
    start: impl FnOnce(&Config, Option<Arc<Board>>) -> Result<S, StartError>,
) -> Result<(), Box<dyn Error>> {
    let board = config.ops_listen.map(|_| Arc::new(Board::new(config.workers)));
    signals::ignore_others().map_err(StartError::of("cannot handle signals"))?;
    // Both ports are taken before anything is said of either.
    let ops = config.ops_listen.map(Ops::bind).transpose()?;
    let server = start(config, board.clone())?;
    let address = server.address();
    tracing::info!(%address, "listening");
    if address.ip().is_loopback() {
        let port = address.port();
        tracing::info!(
            page = format!("http://{address}/"),
            "only this machine can connect; --listen 0.0.0.0:{port} opens up"
        );
    }
    if config.origins == Origins::Any {
        tracing::warn!(
            "any web page may connect: origins is *, so whatever page a visitor has open can speak for this visitor"
        );
    }
    if config.redis.target.is_none() {
        tracing::info!("embedded broker: this instance stands alone; --redis-url makes it one of many");
    }
    let _ops = match (ops, board) {
        (Some(port), Some(board)) => Some(Ops::start(port, &config.ops_hosts, board)?),
        _ => None,
    };
    let connections_left = server.run()?;
    tracing::info!(connections_left, "stopped");
    Ok(())
}
