//! What the text frames of a connection mean: a layer of its own, one file per dialect. The path of the upgrade chooses it.
//! Members of all dialects meet in the same rooms; here is said in which form each of them gets a message.

mod broadcast;
mod classic;
mod echo;
mod fanfare;

use crate::config::Config;
use crate::core::Core;
use crate::protocol::reply;
use crate::ws::deflate::Deflater;
use std::borrow::Cow;

/// A language that clients speak over WebSocket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Dialect {
    /// Commands and replies in JSON: the server's own.
    #[default]
    Fanfare,
    /// The Node room servers' commands, without replies; messages come bare.
    Classic,
    /// No commands: whatever is sent goes to the one room of the connection; messages come bare.
    Broadcast,
    /// Whatever is sent comes back. For conformance tests.
    Echo,
}

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
    /// The compression window, where compression was agreed upon.
    pub window_bits: Option<u8>,
}

impl Form {
    /// Appends the frame in which members of this form get a `MESSAGE`. Returns `false`, and appends nothing, where `text`
    /// should be one and is none.
    pub fn write(self, deflater: &mut Deflater, out: &mut Vec<u8>, text: &[u8]) -> bool {
        match self.shape {
            Shape::Message => deflater.text(out, self.window_bits, text),
            Shape::Bare => match reply::parse_message(text) {
                Some(message) => deflater.text(out, self.window_bits, message.as_bytes()),
                None => return false,
            },
        }
        true
    }
}

impl Dialect {
    pub(crate) fn shape(self) -> Shape {
        match self {
            Dialect::Fanfare | Dialect::Echo => Shape::Message,
            Dialect::Classic | Dialect::Broadcast => Shape::Bare,
        }
    }

    /// Whether commands are answered.
    pub(crate) fn has_replies(self) -> bool {
        self == Dialect::Fanfare
    }
}

/// What the path of an upgrade chose.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Route<'a> {
    pub dialect: Dialect,
    /// The room that the connection is in from the start.
    pub room: Option<Cow<'a, str>>,
}

/// The dialect at this path.
///
/// # Errors
/// `None` where no WebSocket is; else what is wrong with the room's name.
pub(crate) fn route<'a>(path: &'a str, config: &Config) -> Result<Route<'a>, Option<Cow<'static, str>>> {
    let dialect = match path {
        "/" | "/ws" => config.default_dialect,
        "/fanfare" => Dialect::Fanfare,
        "/classic" => Dialect::Classic,
        "/echo" if config.echo => Dialect::Echo,
        "/broadcast" => Dialect::Broadcast,
        _ => {
            let name = path.strip_prefix("/broadcast/").ok_or(None)?;
            let room = broadcast::room(name, config.room_name_bytes_max).map_err(Some)?;
            return Ok(Route { dialect: Dialect::Broadcast, room: Some(room) });
        }
    };
    let room = (dialect == Dialect::Broadcast).then_some(Cow::Borrowed(broadcast::ROOM));
    Ok(Route { dialect, room })
}

impl Core {
    pub(crate) fn text(&mut self, slot: u32, text: &str) {
        match self.conns.get(slot).dialect {
            Dialect::Fanfare => fanfare::text(self, slot, text),
            Dialect::Classic => classic::text(self, slot, text),
            Dialect::Broadcast => broadcast::text(self, slot, text),
            Dialect::Echo => echo::text(self, slot, text),
        }
    }

    pub(crate) fn binary(&mut self, slot: u32, bytes: &[u8]) {
        match self.conns.get(slot).dialect {
            Dialect::Fanfare | Dialect::Classic | Dialect::Broadcast => fanfare::binary(self, slot),
            Dialect::Echo => echo::binary(self, slot, bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_chooses_the_dialect() {
        let config = Config { echo: true, ..Config::default() };
        let chosen = |path: &str, config: &Config| {
            route(path, config).map(|route| (route.dialect, route.room.map(Cow::into_owned)))
        };
        assert_eq!(chosen("/", &config), Ok((Dialect::Fanfare, None)));
        assert_eq!(chosen("/ws", &config), Ok((Dialect::Fanfare, None)));
        assert_eq!(chosen("/classic", &config), Ok((Dialect::Classic, None)));
        assert_eq!(chosen("/echo", &config), Ok((Dialect::Echo, None)));
        assert_eq!(chosen("/broadcast", &config), Ok((Dialect::Broadcast, Some("global_chat".into()))));
        assert_eq!(chosen("/broadcast/caf%C3%A9%2F1", &config), Ok((Dialect::Broadcast, Some("café/1".into()))));
        for wrong in ["/broadcast/", "/broadcast/%0A", "/broadcast/%FF"] {
            assert!(matches!(chosen(wrong, &config), Err(Some(_))), "{wrong}");
        }
        for nothing in ["/elsewhere", "/classic/", "/wsx"] {
            assert_eq!(chosen(nothing, &config), Err(None), "{nothing}");
        }
    }

    #[test]
    fn the_default_is_configured_and_echo_is_off() {
        let config = Config { default_dialect: Dialect::Broadcast, ..Config::default() };
        assert_eq!(route("/", &config).unwrap().room.as_deref(), Some("global_chat"));
        assert_eq!(route("/fanfare", &config).unwrap().dialect, Dialect::Fanfare);
        assert_eq!(route("/echo", &config), Err(None));
    }
}
