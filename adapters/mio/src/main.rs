//! The `fanfare` binary: reads the configuration, then runs what it asks for.

use std::error::Error;
use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;

use fanfare::config::{self, Command, Config};
use fanfare::logging;
use fanfare::ops::{Board, Ops};
use fanfare::workers::Workers;

/// What `GET /` serves.
const PAGE: &[u8] = include_bytes!("page.html");

fn main() -> ExitCode {
    let loaded = match config::load(std::env::args_os(), std::env::vars_os()) {
        Ok(loaded) => loaded,
        Err(stop) => return stop.report(),
    };
    if loaded.command == Command::CheckConfig {
        // A reader that closes early, such as `head`, is no reason to fail.
        let _ = std::io::stdout().write_all(loaded.to_toml().as_bytes());
        return ExitCode::SUCCESS;
    }
    let _logging = match logging::start(&loaded.config.log) {
        Ok(logging) => logging,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "fanfare: cannot start the log: {error}");
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

fn serve(config: &Config) -> Result<(), Box<dyn Error>> {
    let board = config.ops_listen.map(|_| Arc::new(Board::new(config.workers)));
    let workers = Workers::start(config, PAGE, board.clone())?;
    let address = workers.address();
    tracing::info!(%address, "listening");
    if address.ip().is_loopback() {
        let port = address.port();
        tracing::info!(
            page = format!("http://{address}/"),
            "only this machine can connect; --listen 0.0.0.0:{port} opens up"
        );
    }
    if config.redis.target.is_none() {
        tracing::info!("embedded broker: this instance stands alone; --redis-url makes it one of many");
    }
    let _ops = match (config.ops_listen, board) {
        (Some(listen), Some(board)) => Some(Ops::start(listen, board)?),
        _ => None,
    };
    workers.run()?;
    Ok(())
}
