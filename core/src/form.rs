//! The form in which a member gets the messages of its rooms.

use crate::protocol::reply;
use crate::ws::deflate::{Deflater, Window};

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
    /// How it is compressed, where that was agreed upon.
    pub window: Option<Window>,
    /// Members of this form are given nothing that is said in the room: they have yet to be given what was said before.
    pub is_behind: bool,
}

impl Form {
    /// Appends the frame in which members of this form get a `MESSAGE`. Returns `false`, and appends nothing, where `text`
    /// should be a `MESSAGE` and is not.
    pub fn write(self, deflater: &mut Deflater, out: &mut Vec<u8>, text: &[u8]) -> bool {
        match self.shape {
            Shape::Message => deflater.text(out, self.window, text),
            Shape::Bare => match reply::parse_message(text) {
                Some(message) => deflater.text(out, self.window, message.as_bytes()),
                None => return false,
            },
        }
        true
    }

    /// Appends the frame in which members of this form are told something else about the room; only the one shape has a word for that.
    pub fn write_notice(self, deflater: &mut Deflater, out: &mut Vec<u8>, text: &[u8]) {
        debug_assert!(self.shape == Shape::Message);
        deflater.text(out, self.window, text);
    }
}
