//! Where log lines go and how they look: stderr, as text or as one flat JSON object per line.
//! What is worth a line is decided where it happens, not here.

use std::io::IsTerminal;

use tracing::Level;

use crate::config::{Log, LogFormat, LogLevel};

/// Sends every event of this process from now on to stderr.
///
/// # Panics
/// If logging has been started before in this process.
pub fn start(log: &Log) {
    let level = match log.level {
        LogLevel::Error => Level::ERROR,
        LogLevel::Warn => Level::WARN,
        LogLevel::Info => Level::INFO,
        LogLevel::Debug => Level::DEBUG,
    };
    let lines = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_max_level(level)
        .with_target(false)
        // When stderr is gone (a closed pipe), reporting so to stderr would panic; the server goes on without a log.
        .log_internal_errors(false);
    match log.format {
        LogFormat::Text => lines.with_ansi(wants_colour()).init(),
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).with_span_list(false).init(),
    }
}

/// Colours are for people: on a terminal, unless `NO_COLOR` (<https://no-color.org>) is set and not empty.
fn wants_colour() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
