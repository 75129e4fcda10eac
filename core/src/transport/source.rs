//! What stands in place of a connection's source until a trusted proxy has told it.

use crate::slots::NONE;

/// In the place of a source: a trusted proxy's connection, which may begin with a PROXY protocol header.
pub(super) const PROXIED: u32 = NONE - 1;
/// In the place of a source: a trusted proxy's connection, whose `X-Forwarded-For` will tell the client.
pub(super) const FORWARDED: u32 = NONE - 2;

/// Whether this is a source of [`Sources`](crate::limits::sources::Sources).
pub(super) fn is_source(source: u32) -> bool {
    source < FORWARDED
}

/// Whether a trusted proxy has still to say whose connection it is.
pub(super) fn awaits_introduction(source: u32) -> bool {
    matches!(source, PROXIED | FORWARDED)
}
