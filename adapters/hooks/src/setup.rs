//! What is wrong with a hook before it is used. No text has a secret in it.

use std::error::Error;
use std::fmt;

/// Why a hook cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SetupError {
    /// The URL is no `https`, nor `http` where that is taken, or has a user in it.
    BadUrl,
    /// The secret is not what the specification says.
    BadSecret,
    /// The PEM text has no certificate in it.
    NoCertificate,
}

impl fmt::Display for SetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SetupError::BadUrl => {
                "it is no https URL (http for this machine alone, unless plaintext is on) without user and password"
            }
            SetupError::BadSecret => "it is no secret of 24 to 64 bytes in base 64, with or without whsec_ before it",
            SetupError::NoCertificate => "it has no certificate in it",
        })
    }
}

impl Error for SetupError {}
