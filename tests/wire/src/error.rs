//! What is wrong with bytes that a server has sent.

use std::fmt;

/// What a client cannot read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The response to the upgrade, whose head this is, does not accept it.
    Refused(String),
    /// A frame that begins with these two bytes is masked, or none of a server that sends each message in one frame.
    Unexpected([u8; 2]),
    /// A compressed message cannot be inflated.
    Inflate(String),
}

/// Something that was read.
pub type Result<T> = std::result::Result<T, Error>;

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Refused(head) => write!(f, "the upgrade was refused: {head}"),
            Error::Unexpected([first, second]) => {
                write!(f, "a frame that no client here expects: it begins {first:#04x} {second:#04x}")
            }
            Error::Inflate(why) => write!(f, "a compressed message cannot be read: {why}"),
        }
    }
}

impl std::error::Error for Error {}
