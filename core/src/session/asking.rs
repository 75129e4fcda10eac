//! What is asked about a credential, and why.

use crate::id::ConnId;
use crate::identity::Source;
use crate::protocol::CommandId;

/// Why a credential is looked at.
#[derive(Debug)]
pub(super) enum Asking {
    /// The upgrade waits for it.
    Upgrade,
    /// The client has sent `AUTH`.
    Command(Option<CommandId>),
    /// It may have ended meanwhile.
    Renewal,
}

/// What the adapter has not been asked yet.
#[derive(Debug)]
pub(super) struct Ask {
    pub conn: ConnId,
    pub source: Source,
    pub credential: Box<[u8]>,
    pub head: Box<[u8]>,
    pub has_origin: bool,
}
