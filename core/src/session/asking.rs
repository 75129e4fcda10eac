//! What is asked about a credential, and why.

use super::rechecks::Place;
use crate::id::ConnId;
use crate::identity::Source;
use crate::protocol::CommandId;
use crate::time::Time;
use std::fmt;

/// Why a credential is looked at.
#[derive(Debug)]
pub(super) enum Asking {
    /// The upgrade waits for it; whether there is one, or the request alone is looked at.
    Upgrade(bool),
    /// The client has sent `AUTH`.
    Command(Option<CommandId>),
    /// It may have ended meanwhile, and it has yet to be asked whether it has.
    InLine(Place),
    /// That was asked at this time.
    Renewal(Time),
}

/// What the adapter has not been asked yet.
pub(super) struct Ask {
    pub conn: ConnId,
    pub source: Source,
    pub credential: Box<[u8]>,
    pub head: Box<[u8]>,
    pub has_origin: bool,
}

impl fmt::Debug for Ask {
    /// Without what is secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ask").field("conn", &self.conn).field("source", &self.source).finish_non_exhaustive()
    }
}
