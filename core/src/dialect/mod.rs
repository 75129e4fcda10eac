//! What the text frames of a connection mean: a layer of its own, one file per dialect. The path of the upgrade chooses it.
//! Members of all dialects meet in the same rooms; here is said in which form each of them gets a message.

mod broadcast;
mod classic;
mod echo;
mod fanfare;
mod subprotocol;

pub use subprotocol::Subprotocols;

use crate::config::Config;
use crate::core::Core;
use crate::limits::meter::Limit;
use crate::protocol::command::check_room_name;
use crate::protocol::reply;
use crate::ws::Message;
use crate::ws::deflate::{Deflater, Window};
use percent_encoding::percent_decode_str;
use std::borrow::Cow;

/// A language that clients speak over WebSocket, chosen by the path of the upgrade. `/` and `/ws` are for
/// [`Config::default_dialect`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Dialect {
    /// Commands and replies in JSON: the server's own, at `/fanfare`. `?room=` joins at once.
    #[default]
    Fanfare,
    /// The Node room servers' commands, without replies; messages come bare. At `/classic`.
    Classic,
    /// No commands: whatever is sent goes to the one room of the connection; messages come bare. At `/broadcast/` and the room's
    /// name, and at `/broadcast`, which means `global_chat`.
    Broadcast,
    /// Whatever is sent comes back. For conformance tests, at `/echo` where [`Config::echo`] says so.
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
    /// How it is compressed, where that was agreed upon.
    pub window: Option<Window>,
}

impl Form {
    /// Appends the frame in which members of this form get a `MESSAGE`. Returns `false`, and appends nothing, where `text`
    /// should be one and is none.
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
}

impl Dialect {
    pub(crate) fn shape(self) -> Shape {
        match self {
            Dialect::Fanfare | Dialect::Echo => Shape::Message,
            Dialect::Classic | Dialect::Broadcast => Shape::Bare,
        }
    }

    /// The rooms of a connection that names none.
    pub(crate) fn own_rooms(self) -> &'static [&'static str] {
        match self {
            Dialect::Broadcast => &[broadcast::ROOM],
            Dialect::Fanfare | Dialect::Classic | Dialect::Echo => &[],
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
    /// The rooms that the connection joins at once: what it is told of them goes out with the response.
    pub rooms: Vec<Cow<'a, str>>,
}

/// What is at this path, with this query.
///
/// # Errors
/// `None` where no WebSocket is; else what is wrong with a room's name.
pub(crate) fn route<'a>(
    path: &'a str,
    query: &'a str,
    config: &Config,
) -> Result<Route<'a>, Option<Cow<'static, str>>> {
    let path = without_trailing_slash(path);
    let dialect = match path {
        "" | "/ws" => config.default_dialect,
        "/fanfare" => Dialect::Fanfare,
        "/classic" => Dialect::Classic,
        "/echo" if config.echo => Dialect::Echo,
        "/broadcast" => Dialect::Broadcast,
        _ => {
            let name = path.strip_prefix("/broadcast/").ok_or(None)?;
            let room = room_name(name, config).map_err(Some)?;
            return Ok(Route { dialect: Dialect::Broadcast, rooms: vec![room] });
        }
    };
    let rooms = match dialect {
        Dialect::Fanfare => fanfare::rooms(query, config).map_err(Some)?,
        _ => dialect.own_rooms().iter().copied().map(Cow::Borrowed).collect(),
    };
    Ok(Route { dialect, rooms })
}

/// The path without the slash at its end, which means nothing: of a room's name it is one only if it is written as `%2F`.
pub(crate) fn without_trailing_slash(path: &str) -> &str {
    path.strip_suffix('/').unwrap_or(path)
}

/// The room that this part of a URL names, percent-encoded.
fn room_name<'a>(encoded: &'a str, config: &Config) -> Result<Cow<'a, str>, Cow<'static, str>> {
    let room = percent_decode_str(encoded).decode_utf8().map_err(|_| "a room's name in the URL is not UTF-8")?;
    check_room_name(&room, config.room_name_bytes_max)?;
    Ok(room)
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

    /// A message beyond the connection's rate: refused where that can be told, for nothing may be lost silently.
    pub(crate) fn too_fast(&mut self, slot: u32, message: Message<'_>) {
        match (self.conns.get(slot).dialect, message) {
            (Dialect::Fanfare, Message::Text(text)) => fanfare::text_too_fast(self, slot, text),
            (Dialect::Fanfare, _) => fanfare::refuse_too_fast(self, slot, None, None),
            _ => self.close_too_fast(slot, Limit::Messages),
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

    fn chosen(path: &str, query: &str, config: &Config) -> Result<(Dialect, Vec<String>), Option<Cow<'static, str>>> {
        let route = route(path, query, config)?;
        Ok((route.dialect, route.rooms.into_iter().map(Cow::into_owned).collect()))
    }

    #[test]
    fn a_path_names_as_many_rooms_as_a_connection_may_be_in() {
        let config = Config { rooms_per_connection_max: 2, ..Config::default() };
        for (count, is_allowed) in [(0, true), (1, true), (2, true), (3, false), (4, false)] {
            let outcome = chosen("/", &"room=r&".repeat(count), &config);
            assert_eq!(outcome.map(|(_, rooms)| rooms.len()).ok(), is_allowed.then_some(count), "{count}");
        }
    }

    #[test]
    fn the_path_chooses_the_dialect() {
        let config = Config { echo: true, ..Config::default() };
        let chosen = |path: &str| chosen(path, "", &config);
        assert_eq!(chosen("/"), Ok((Dialect::Fanfare, vec![])));
        assert_eq!(chosen("/ws"), Ok((Dialect::Fanfare, vec![])));
        assert_eq!(chosen("/classic"), Ok((Dialect::Classic, vec![])));
        assert_eq!(chosen("/echo"), Ok((Dialect::Echo, vec![])));
        assert_eq!(chosen("/broadcast"), Ok((Dialect::Broadcast, vec!["global_chat".into()])));
        assert_eq!(chosen("/broadcast/caf%C3%A9%2F1"), Ok((Dialect::Broadcast, vec!["café/1".into()])));
        for wrong in ["/broadcast//", "/broadcast/%0A", "/broadcast/%FF"] {
            assert!(matches!(chosen(wrong), Err(Some(_))), "{wrong}");
        }
        for nothing in ["/elsewhere", "/classic//", "/wsx", "//", "//ws", "/ws/x"] {
            assert_eq!(chosen(nothing), Err(None), "{nothing}");
        }
    }

    #[test]
    fn a_slash_at_the_end_means_nothing() {
        let config = Config { echo: true, ..Config::default() };
        for path in ["/ws", "/fanfare", "/classic", "/echo", "/broadcast", "/broadcast/a", "/broadcast/a/b"] {
            assert_eq!(chosen(&format!("{path}/"), "", &config), chosen(path, "", &config), "{path}");
        }
        assert_eq!(chosen("/broadcast/a%2F", "", &config), Ok((Dialect::Broadcast, vec!["a/".into()])));
    }

    #[test]
    fn the_query_names_rooms_where_commands_do() {
        let config = Config { echo: true, ..Config::default() };
        let chosen = |path: &str, query: &str| chosen(path, query, &config).map(|(_, rooms)| rooms.join("|"));
        assert_eq!(chosen("/", "token=x&room=a&room=caf%C3%A9+1&rooms=b&room"), Ok("a|café 1".into()));
        assert_eq!(chosen("/ws", "room=a%26room%3Db"), Ok("a&room=b".into()));
        assert_eq!(chosen("/broadcast", "room=a"), Ok("global_chat".into()));
        for path in ["/classic", "/echo"] {
            assert_eq!(chosen(path, "room=a"), Ok(String::new()), "{path}");
        }
        for wrong in ["room=", "room=%0A", "room=%FF", "room=a&room="] {
            assert!(matches!(chosen("/", wrong), Err(Some(_))), "{wrong}");
        }
    }

    #[test]
    fn the_default_is_configured_and_echo_is_off() {
        let config = Config { default_dialect: Dialect::Broadcast, ..Config::default() };
        assert_eq!(chosen("/", "room=a", &config), Ok((Dialect::Broadcast, vec!["global_chat".into()])));
        assert_eq!(chosen("/fanfare", "", &config), Ok((Dialect::Fanfare, vec![])));
        assert_eq!(chosen("/echo", "", &config), Err(None));
    }
}
