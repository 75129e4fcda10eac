//! What can go wrong, and who erred.

use std::fmt;

/// Why a connection was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refused {
    /// `connections_max` is reached; for a connection that has still to ask for its upgrade, the surplus is used up, too.
    Full,
    /// [`Event::Shutdown`](crate::Event::Shutdown) has been fed.
    ShuttingDown,
    /// The address has as many connections as it may, or opens them too fast.
    Address,
    /// The user has as many connections as it may.
    User,
    /// A room's name is empty, too long or has control characters, or there are more rooms than a connection may be in.
    Rooms,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused::Full => f.write_str("as many connections as allowed are open"),
            Refused::ShuttingDown => f.write_str("shutting down"),
            Refused::Address => f.write_str("too many connections from this address"),
            Refused::User => f.write_str("too many connections of this user"),
            Refused::Rooms => f.write_str("a connection cannot be in these rooms"),
        }
    }
}

impl std::error::Error for Refused {}

/// A peer's breach of RFC 6455. Each carries the close code to answer with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Violation {
    /// RSV2 or RSV3 set, or RSV1 without an extension or where it says nothing (§5.2, RFC 7692 §6).
    ReservedBits,
    /// Opcode 3–7 or 11–15 (§5.2).
    ReservedOpcode,
    /// A client's frame without a mask (§5.1).
    Unmasked,
    /// A length in more bytes than it needs, or with its highest bit set (§5.2).
    LengthForm,
    /// A ping, pong or close in fragments (§5.5).
    FragmentedControl,
    /// A ping, pong or close of more than 125 bytes (§5.5).
    ControlTooLong,
    /// A continuation with nothing to continue (§5.4).
    UnexpectedContinuation,
    /// A new message before the last one's final fragment (§5.4).
    UnfinishedMessage,
    /// A text message or a close reason that is not UTF-8 (§8.1).
    NotUtf8,
    /// A message beyond the limit (§10.4).
    TooBig,
    /// A message in more frames than the limit allows (§10.4).
    TooManyFrames,
    /// A compressed message that cannot be inflated (RFC 7692 §7.2.2).
    Deflate,
    /// A close frame with a body of one byte, or with a code that must not be sent (§7.4).
    CloseCode,
}

impl Violation {
    /// The close code of RFC 6455 §7.4.1 that answers it.
    pub const fn close_code(self) -> u16 {
        match self {
            Violation::NotUtf8 | Violation::Deflate => 1007,
            Violation::TooManyFrames => 1008,
            Violation::TooBig => 1009,
            _ => 1002,
        }
    }

    /// The reason to send with the code.
    pub const fn reason(self) -> &'static str {
        match self {
            Violation::ReservedBits => "reserved bits set",
            Violation::ReservedOpcode => "reserved opcode",
            Violation::Unmasked => "frame not masked",
            Violation::LengthForm => "length not in its shortest form",
            Violation::FragmentedControl => "fragmented control frame",
            Violation::ControlTooLong => "control frame too long",
            Violation::UnexpectedContinuation => "nothing to continue",
            Violation::UnfinishedMessage => "message not finished",
            Violation::NotUtf8 => "text is not UTF-8",
            Violation::TooBig => "message too big",
            Violation::TooManyFrames => "message in too many frames",
            Violation::Deflate => "compressed message cannot be inflated",
            Violation::CloseCode => "invalid close code",
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl std::error::Error for Violation {}
