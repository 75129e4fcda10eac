//! What an upgrade's path and query choose.

use crate::config::Config;
use crate::dialect::Dialect;
use crate::history::Position;
use crate::protocol::command::{Start, check_room_name};
use crate::sse;
use percent_encoding::percent_decode_str;
use std::borrow::Cow;

/// The part of a request head that may be a `Last-Event-ID`.
const IDS_SHARE: usize = 2;

/// What the path of an upgrade chose.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Route<'a> {
    pub dialect: Dialect,
    /// The rooms that the connection joins at once, and where in their messages it begins. What it is told of them goes out with
    /// the response.
    pub rooms: Vec<(Cow<'a, str>, Start)>,
    /// Whether it is told who is in these rooms.
    pub presence: bool,
}

/// What is at this path, with this query.
///
/// # Errors
/// `None` where no WebSocket is; else what is wrong with a room's name.
pub(super) fn route<'a>(
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
            let start = start(query).map_err(Some)?;
            return Ok(Route { dialect: Dialect::Broadcast, rooms: vec![(room, start)], presence: false });
        }
    };
    let rooms = match dialect {
        Dialect::Fanfare | Dialect::Classic => rooms(query, config),
        Dialect::Broadcast | Dialect::Echo => {
            dialect.own_rooms().iter().map(|room| Ok((Cow::Borrowed(*room), start(query)?))).collect()
        }
    };
    let rooms = rooms.map_err(Some)?;
    let presence = dialect.has_replies() && presence(query).map_err(Some)?;
    Ok(Route { dialect, rooms, presence })
}

/// Whether an event stream is at this path.
pub(super) fn is_of_events(path: &str) -> bool {
    without_trailing_slash(path) == "/sse"
}

/// What an event stream with this query is about.
///
/// # Errors
/// What is wrong with a room's name.
pub(super) fn events<'a>(query: &'a str, config: &Config) -> Result<Route<'a>, Cow<'static, str>> {
    Ok(Route { dialect: Dialect::Fanfare, rooms: rooms(query, config)?, presence: presence(query)? })
}

/// Whether an event stream can be about the rooms of its URL and those that its user joins anyway.
///
/// # Errors
/// It would be about none, or a browser could not repeat where it stands in all of them.
pub(super) fn check_events(
    rooms: &[(Cow<'_, str>, Start)],
    own_rooms: &[Cow<'_, str>],
    config: &Config,
) -> Result<(), Cow<'static, str>> {
    if rooms.is_empty() && own_rooms.is_empty() {
        return Err("an event stream is about rooms: name them, as in /sse?room=a&room=b".into());
    }
    let names = rooms.iter().map(|(room, _)| &**room).chain(own_rooms.iter().map(|room| &**room));
    let bytes_max = config.limits.request_head_bytes_max / IDS_SHARE;
    let bytes = sse::ids_bytes_max(names);
    if bytes > bytes_max {
        return Err(format!(
            "the names of the rooms are too many or too long: a Last-Event-ID about them may have {bytes} bytes, and {bytes_max} are \
             allowed, half of limits.request_head_bytes_max"
        )
        .into());
    }
    Ok(())
}

/// The path without the slash at its end, which means nothing: of a room's name it is one only if it is written as `%2F`.
pub(super) fn without_trailing_slash(path: &str) -> &str {
    path.strip_suffix('/').unwrap_or(path)
}

/// The room that this part of a URL names, percent-encoded.
fn room_name<'a>(encoded: &'a str, config: &Config) -> Result<Cow<'a, str>, Cow<'static, str>> {
    let room = percent_decode_str(encoded).decode_utf8().map_err(|_| "a room's name in the URL is not UTF-8")?;
    check_room_name(&room, config.limits.room_name_bytes_max)?;
    Ok(room)
}

/// The rooms that a query names, each as `room=`, in the form of `application/x-www-form-urlencoded`, which browsers' `URLSearchParams`
/// makes. `since=` and `history=` belong to the room before them.
fn rooms<'a>(query: &'a str, config: &Config) -> Result<Vec<(Cow<'a, str>, Start)>, Cow<'static, str>> {
    if query.is_empty() {
        return Ok(Vec::new());
    }
    let room = |name: &'a str| match name.contains('+') {
        true => room_name(&name.replace('+', "%20"), config).map(|room| Cow::Owned(room.into_owned())),
        false => room_name(name, config),
    };
    let most = usize::from(config.limits.rooms_per_connection_max);
    if query.split('&').filter(|pair| pair.starts_with("room=")).count() > most {
        return Err(format!("a connection is in at most {most} rooms").into());
    }
    let mut rooms = Vec::new();
    for pair in query.split('&') {
        if let Some(name) = pair.strip_prefix("room=") {
            rooms.push((room(name)?, Start::Live));
        } else if let (Some(start), Some((_, room))) = (parse_start(pair)?, rooms.last_mut()) {
            *room = start;
        }
    }
    Ok(rooms)
}

/// Where in its one room's messages a connection begins.
fn start(query: &str) -> Result<Start, Cow<'static, str>> {
    let mut starts = query.split('&').map(parse_start).filter_map(Result::transpose);
    starts.next_back().unwrap_or(Ok(Start::Live))
}

/// Whether a query says `presence=true`, which belongs to all of its rooms.
fn presence(query: &str) -> Result<bool, Cow<'static, str>> {
    match query.split('&').filter_map(|pair| pair.strip_prefix("presence=")).next_back() {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err("presence is true or false".into()),
    }
}

/// `since=EPOCH:OFFSET` or `history=N`; nothing where it is neither.
fn parse_start(pair: &str) -> Result<Option<Start>, Cow<'static, str>> {
    if let Some(since) = pair.strip_prefix("since=") {
        let since = percent_decode_str(since).decode_utf8().map_err(|_| "since in the URL is not UTF-8")?;
        let position = Position::of_text(&since).ok_or("since is an epoch, a colon and an offset")?;
        return Ok(Some(Start::Since(position)));
    }
    let Some(messages) = pair.strip_prefix("history=") else { return Ok(None) };
    let messages = messages.parse().map_err(|_| "history is a number of messages")?;
    Ok(Some(Start::Newest(messages)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(path: &str, query: &str, config: &Config) -> Result<(Dialect, Vec<String>), Option<Cow<'static, str>>> {
        let route = route(path, query, config)?;
        Ok((route.dialect, route.rooms.into_iter().map(|(room, _)| room.into_owned()).collect()))
    }

    #[test]
    fn a_path_names_as_many_rooms_as_a_connection_may_be_in() {
        let mut config = Config::default();
        config.limits.rooms_per_connection_max = 2;
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
        assert_eq!(chosen("/classic", "room=a&room=b"), Ok("a|b".into()));
        assert_eq!(chosen("/broadcast", "room=a"), Ok("global_chat".into()));
        assert_eq!(chosen("/echo", "room=&history=x"), Ok(String::new()));
        for wrong in ["room=", "room=%0A", "room=%FF", "room=a&room="] {
            for path in ["/", "/classic"] {
                assert!(matches!(chosen(path, wrong), Err(Some(_))), "{path} {wrong}");
            }
        }
    }

    #[test]
    fn where_a_room_begins_is_said_behind_it() {
        let config = Config::default();
        let starts = |path: &str, query: &str| {
            let route = route(path, query, &config).map_err(|error| error.is_some())?;
            Ok::<_, bool>(route.rooms.into_iter().map(|(_, start)| start).collect::<Vec<_>>())
        };
        let epoch = "3-00000000000000ff";
        let since = Start::Since(Position { epoch: epoch.parse().unwrap(), offset: 12 });
        let query = format!("since=1&room=a&since={epoch}:12&room=b&x=1&history=5&room=c");
        for path in ["/", "/classic"] {
            let starts = starts(path, &query.replacen("since=1&", "", 1));
            assert_eq!(starts, Ok(vec![since, Start::Newest(5), Start::Live]), "{path}");
        }
        assert_eq!(starts("/", "room=a&history=5&since=1-0000000000000001:1&history=7"), Ok(vec![Start::Newest(7)]));
        assert_eq!(starts("/broadcast/a", "history=5"), Ok(vec![Start::Newest(5)]));
        assert_eq!(starts("/broadcast", "room=a"), Ok(vec![Start::Live]));
        assert_eq!(starts("/", &format!("room=a&since={}%3A12", epoch)), Ok(vec![since]));
        for wrong in ["room=a&since=12", "room=a&since=x:y", "room=a&history=-1", "room=a&history=", "since=%FF"] {
            assert_eq!(starts("/", wrong), Err(true), "{wrong}");
        }
    }

    #[test]
    fn presence_belongs_to_all_rooms_of_the_query() {
        let config = Config { echo: true, ..Config::default() };
        let presence = |path: &str, query: &str| {
            route(path, query, &config).map(|route| route.presence).map_err(|error| error.is_some())
        };
        assert_eq!(presence("/", "room=a"), Ok(false));
        assert_eq!(presence("/", "presence=true&room=a&room=b"), Ok(true));
        assert_eq!(presence("/", "room=a&presence=true&presence=false"), Ok(false));
        assert_eq!(presence("/", "room=a&presence=1"), Err(true));
        for without in ["/classic", "/broadcast", "/broadcast/a", "/echo"] {
            assert_eq!(presence(without, "presence=true"), Ok(false), "{without} cannot be told");
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
