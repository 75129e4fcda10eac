//! What a text is that is said in a room.

use crate::history::Position;

/// What is said to the members of a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TextKind {
    Message,
    /// A message that is stored there.
    Stored(Position),
    /// Something else about the room, and behind which position it goes on where that is told.
    Notice(Option<Position>),
}

impl TextKind {
    /// What has been said with it, of what is stored.
    pub fn position(self) -> Option<Position> {
        match self {
            TextKind::Message => None,
            TextKind::Stored(position) => Some(position),
            TextKind::Notice(position) => position,
        }
    }
}
