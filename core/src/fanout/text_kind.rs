//! What a text is that is said in a room.

/// What is said to the members of a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TextKind {
    Message,
    /// A message that is stored, with its offset.
    Stored(u64),
    /// Something else about the room.
    Notice,
}
