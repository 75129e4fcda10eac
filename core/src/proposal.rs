//! What is asked about a message before it is published, and what is answered. What becomes of it is said in `session/decisions.rs`.

use crate::id::ConnId;

/// The name of a message about which something is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProposalId {
    pub(crate) conn: ConnId,
    /// Those of one connection have ascending numbers.
    pub(crate) number: u64,
}

/// A message of a client's that is published only if somebody agrees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proposal<'a> {
    /// To be answered by [`Event::Decided`](crate::Event::Decided).
    pub id: ProposalId,
    /// Who is asked: the rule's [`Rule::before_publish`](crate::rules::Rule::before_publish).
    pub hook: &'a str,
    /// Whose message it is. Its connection may have ended by the time of the answer.
    pub conn: ConnId,
    /// The user, if it is one.
    pub user: Option<&'a str>,
    /// Where it is to be published.
    pub room: &'a str,
    /// One JSON value, exactly as the client wrote it.
    pub message: &'a str,
}

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Decision<'a> {
    /// It is published.
    Allow,
    /// This is published in its place: one JSON value, no longer than [`Limits::message_bytes_max`](crate::Limits::message_bytes_max).
    /// Else it is as if nobody had decided.
    Alter(&'a str),
    /// It is not published. Its sender is told why: at most 200 characters of it.
    Refuse(&'a str),
    /// Nobody has decided. Its sender is told that it may try again.
    Unavailable,
}
