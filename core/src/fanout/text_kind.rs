//! What a text is that is said in a room.

use crate::history::Position;

/// What is said to the members of a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TextKind {
    Message,
    /// A message that is stored there.
    Stored(Position),
    /// That something is removed, which is stored there.
    Removal(Position),
    /// Something else about the room, and behind which position it goes on where that is told.
    Notice(Option<Position>),
}

impl TextKind {
    /// Whether only those are told who get the `MESSAGE` object.
    pub fn is_for_objects(self) -> bool {
        matches!(self, TextKind::Notice(_) | TextKind::Removal(_))
    }

    /// What has been said with it, of what is stored.
    pub fn position(self) -> Option<Position> {
        match self {
            TextKind::Message => None,
            TextKind::Stored(position) | TextKind::Removal(position) => Some(position),
            TextKind::Notice(position) => position,
        }
    }
}
