//! Reports on paper: what all of them begin with, and how they are printed. Nothing is measured or judged here.

use std::fmt::Write as _;
use std::io::{ErrorKind, Write as _};
use std::path::Path;

use serde_json::{Value, json};

use crate::machine::{Machine, Placement};
use crate::{Error, Result};

/// Where figures come from, in two lines.
pub fn write_machine(out: &mut String, machine: &Machine, placement: Placement, binary: &Path) {
    let Machine { cores, cpu, kernel, revision } = machine;
    let revision = revision.as_deref().unwrap_or("unknown");
    line(out, format_args!("{cores} cores, {cpu}, Linux {kernel}; {placement}"));
    line(out, format_args!("revision {revision}, binary {}", binary.display()));
}

/// The same as JSON.
pub fn machine_json(machine: &Machine, placement: Placement) -> Value {
    json!({
        "cores": machine.cores, "cpu": machine.cpu, "kernel": machine.kernel, "revision": machine.revision,
        "measured_processor": placement.measured, "attackers_processor": placement.attackers,
    })
}

/// Writes a report to stdout.
pub fn print(text: &str) -> Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        // Whoever closed the pipe has read enough.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Error::new(format!("cannot print: {error}"))),
        _ => Ok(()),
    }
}

/// Writes a line to stderr.
pub fn say(text: std::fmt::Arguments<'_>) {
    // Whoever closed it does not listen.
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// A figure, or a dash where there is none.
pub fn figure(value: Option<f64>) -> String {
    value.map_or("-".to_owned(), |value| format!("{value:.3}"))
}

/// Appends a line, without blanks at its end.
pub fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = writeln!(out, "{}", text.to_string().trim_end());
}
