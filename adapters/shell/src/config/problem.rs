//! What can be wrong with a configuration, and how it is told. Not how it is found.

use std::fmt;
use std::path::PathBuf;

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Nobody set it.
    Default,
    /// The configuration file.
    File {
        /// As it was named.
        path: PathBuf,
        /// Counted from 1; `None` where the file as a whole is meant.
        line: Option<usize>,
    },
    /// The environment variable of this name.
    Environment(String),
    /// The flag of this name, without its dashes.
    Flag(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Default => f.write_str("default"),
            Source::File { path, line } => {
                // Escaped, so that a strange name can end neither the line nor a TOML comment.
                write!(f, "file {}", path.to_string_lossy().escape_debug())?;
                line.map_or(Ok(()), |line| write!(f, " line {line}"))
            }
            Source::Environment(name) => write!(f, "environment variable {name}"),
            Source::Flag(name) => write!(f, "flag --{name}"),
        }
    }
}

/// One mistake in a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The key, as in TOML.
    pub key: String,
    /// Where the wrong value came from.
    pub from: Source,
    /// Why it is wrong. Never holds a secret.
    pub wrong: String,
    /// What would be right.
    pub right: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Problem { key, from, wrong, right } = self;
        write!(f, "{key}\n  from:  {from}\n  wrong: {wrong}\n  right: {right}")
    }
}

/// Everything that is wrong with a configuration: at least one [`Problem`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The program that was to be started.
    pub program: &'static str,
    /// What is wrong with the file itself, line by line, then wrong values in the order of the keys.
    pub problems: Vec<Problem>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ConfigError { program, problems } = self;
        match problems.len() {
            1 => write!(f, "{program}: the configuration is wrong; nothing was started")?,
            count => write!(f, "{program}: the configuration is wrong in {count} places; nothing was started")?,
        }
        for problem in problems {
            write!(f, "\n\n{problem}")?;
        }
        write!(f, "\n\n`{program} --help` explains every key; `{program} check-config` checks without starting.")
    }
}

impl std::error::Error for ConfigError {}
