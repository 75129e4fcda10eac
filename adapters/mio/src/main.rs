//! The `fanfare` binary: reads the configuration, then runs what it asks for.

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;

use fanfare::config::{self, Command};
use fanfare::logging;
use fanfare::ops::{Board, Ops};

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
    logging::start(&loaded.config.log);
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let board = Arc::new(Board::new());
    let ops = loaded.config.ops_listen.map(|address| Ops::start(address, Arc::clone(&board))).transpose();
    match ops {
        Ok(_ops) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}
