//! Why a benchmark stopped, in words for the person who ran it.

use std::fmt;

/// A benchmark ends at its first error, so nobody tells kinds apart: the text is all there is.
#[derive(Clone, Debug)]
pub struct Error(String);

/// The result of everything that can end a benchmark.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error that says `text`.
    pub fn new(text: impl Into<String>) -> Error {
        Error(text.into())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

impl From<fanfare_wire::Error> for Error {
    fn from(error: fanfare_wire::Error) -> Error {
        Error(error.to_string())
    }
}

/// Says what was being done when something else failed.
pub trait Context<T> {
    /// Puts `what` in front of the error: "what: why".
    fn context(self, what: impl fmt::Display) -> Result<T>;
}

impl<T, E: fmt::Display> Context<T> for std::result::Result<T, E> {
    fn context(self, what: impl fmt::Display) -> Result<T> {
        self.map_err(|why| Error(format!("{what}: {why}")))
    }
}
