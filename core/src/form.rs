//! The form in which a member gets the messages of its rooms.

use crate::framing::Framing;
use crate::history::Position;
use crate::protocol::reply;
use crate::sse::{self, Mark};
use crate::ws::deflate::Deflater;

/// What a message looks like to a member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Shape {
    /// The `MESSAGE` object.
    #[default]
    Message,
    /// The message itself: a string without its quotes, any other value as its JSON text.
    Bare,
}

/// How messages are written for a member. Members of one room and one form are sent the same bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Form {
    pub shape: Shape,
    pub framing: Framing,
    /// Members of this form are given nothing that is said in the room: they have yet to be given what was said before.
    pub is_behind: bool,
}

impl Form {
    /// Appends the piece in which members of this form get a `MESSAGE`, which is stored at this position if at any. Returns `false`, and
    /// appends nothing, where `text` should be a `MESSAGE` and is not.
    pub fn write(self, deflater: &mut Deflater, out: &mut Vec<u8>, text: &[u8], position: Option<Position>) -> bool {
        if self.framing.is_events() {
            debug_assert!(self.shape == Shape::Message);
            sse::event(out, text, position.map(|position| self.mark(position)));
            return true;
        }
        match self.shape {
            Shape::Message => deflater.text(out, self.framing.window(), text),
            Shape::Bare => match reply::parse_message(text) {
                Some(message) => deflater.text(out, self.framing.window(), message.as_bytes()),
                None => return false,
            },
        }
        true
    }

    /// Appends the piece in which members of this form are told something else about the room; only the one shape has a word for that.
    /// What follows begins behind `position`, if the room has any.
    pub fn write_notice(self, deflater: &mut Deflater, out: &mut Vec<u8>, text: &[u8], position: Option<Position>) {
        debug_assert!(self.shape == Shape::Message);
        self.write(deflater, out, text, position);
    }

    fn mark(self, position: Position) -> Mark {
        match self.framing {
            Framing::EventsOfSeveral => Mark::Comment(position),
            Framing::Frames | Framing::Deflated(_) | Framing::Events => Mark::Id(position),
        }
    }
}
