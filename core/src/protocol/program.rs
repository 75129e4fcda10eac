//! Commands of the program that the core is a part of, beside those of clients: about connections, about all rooms, and for rooms in
//! which programs speak to each other. Clients have no words for them.

use super::ErrorCode;
use super::command::check_room_name;
use crate::id::ConnId;
use serde::Deserialize;

/// Bytes of the reason in a close frame (RFC 6455 §5.5).
const REASON_BYTES_MAX: usize = 123;
/// Where the program says none: the client is not to come back by itself.
pub(crate) const CLOSE_CODE: u16 = 4_500;
const CLOSE_REASON: &str = "the backend has ended the connection";
/// Connections or rooms in one answer, where the program says nothing, and at most.
const LIMIT: usize = 100;
const LIMIT_MAX: usize = 1_000;

/// What a program can ask for.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(tag = "type", rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum Order {
    /// Hear what programs say in this room.
    Hold {
        /// Its name, among the rooms of programs.
        room: Box<str>,
    },
    /// Say something to the programs that hold a room.
    Tell {
        /// Its name.
        room: Box<str>,
        /// What is said.
        text: Box<str>,
    },
    /// Tell which connections somebody has here.
    Connections {
        #[serde(flatten)]
        whose: Named,
        #[serde(default = "usual_limit")]
        limit: usize,
    },
    /// End connections.
    Disconnect {
        #[serde(flatten)]
        whose: Named,
        #[serde(default = "usual_code")]
        code: u16,
        #[serde(default = "usual_reason")]
        reason: Box<str>,
    },
    /// Take connections out of a room.
    Expel {
        #[serde(flatten)]
        whose: Named,
        room: Box<str>,
    },
    /// Tell which rooms have members here, in the order of their names.
    Rooms {
        /// Only those whose names begin so.
        #[serde(default)]
        prefix: Box<str>,
        /// Only those whose names are behind this one.
        #[serde(default)]
        after: Box<str>,
        #[serde(default = "usual_limit")]
        limit: usize,
    },
    /// Remove a message of a room that keeps them, or all of them.
    Remove {
        room: Box<str>,
        /// Where it stands; without it, all are removed.
        offset: Option<u64>,
        /// What the room's epoch has to be.
        epoch: Option<Box<str>>,
    },
    /// Let a share of the connections go.
    Shed {
        /// From 0 to 1.
        share: f64,
    },
}

/// Whose connections: a user's, or one. With neither, everybody's.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Named {
    user: Option<Box<str>>,
    connection: Option<Box<str>>,
}

/// The same, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whose<'a> {
    /// A user's.
    User(&'a str),
    /// This one; of another core if there is no id.
    One(Option<ConnId>),
    /// Everybody's.
    All,
}

fn usual_limit() -> usize {
    LIMIT
}

fn usual_code() -> u16 {
    CLOSE_CODE
}

fn usual_reason() -> Box<str> {
    CLOSE_REASON.into()
}

/// Why a command of the program is refused: its code, and what is wrong, for people.
type Fault = (ErrorCode, String);

impl Named {
    /// Whose connections of the core with this `node`.
    ///
    /// # Errors
    /// It names two things, or a connection by what is no name of one.
    pub fn of(&self, node: u64) -> Result<Whose<'_>, Fault> {
        let wrong = |what: &str| (ErrorCode::BadField, what.to_owned());
        match (&self.user, &self.connection) {
            (Some(_), Some(_)) => Err(wrong("either a user or a connection")),
            (Some(user), None) => Ok(Whose::User(user)),
            (None, Some(name)) => {
                let (of, conn) = ConnId::parse_public(name).ok_or_else(|| wrong("this is no name of a connection"))?;
                Ok(Whose::One((of == node).then_some(conn)))
            }
            (None, None) => Ok(Whose::All),
        }
    }
}

/// Parses a command that is no client's.
///
/// # Errors
/// What to answer with `ERROR`.
pub(crate) fn parse(text: &str, room_name_bytes_max: usize) -> Result<Order, Fault> {
    let wrong = |what: String| (ErrorCode::BadField, what);
    let order = serde_json::from_str(text).map_err(|error| (ErrorCode::UnknownType, error.to_string()))?;
    match &order {
        Order::Disconnect { code, reason, .. } => {
            // Those that a server may use as it likes (RFC 6455 §7.4.2).
            if !(4_000..=4_999).contains(code) {
                return Err(wrong("code is from 4000 to 4999".to_owned()));
            }
            if reason.len() > REASON_BYTES_MAX {
                return Err(wrong(format!("reason has at most {REASON_BYTES_MAX} bytes")));
            }
        }
        Order::Connections { limit, .. } | Order::Rooms { limit, .. } if !(1..=LIMIT_MAX).contains(limit) => {
            return Err(wrong(format!("limit is from 1 to {LIMIT_MAX}")));
        }
        Order::Remove { room, .. } => {
            check_room_name(room, room_name_bytes_max)
                .map_err(|reason| (ErrorCode::RoomInvalid, reason.into_owned()))?;
        }
        Order::Shed { share } if !(0.0..=1.0).contains(share) => return Err(wrong("share is from 0 to 1".to_owned())),
        _ => {}
    }
    Ok(order)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Order, Fault> {
        parse(text, 128)
    }

    #[test]
    fn what_is_not_said_is_the_usual() {
        let order = parsed(r#"{"type":"DISCONNECT","id":1,"user":"bob"}"#).unwrap();
        let Order::Disconnect { whose, code, reason } = &order else { panic!("{order:?}") };
        assert_eq!((whose.of(1), *code, &**reason), (Ok(Whose::User("bob")), CLOSE_CODE, CLOSE_REASON));
        let order = parsed(r#"{"type":"ROOMS"}"#).unwrap();
        assert_eq!(order, Order::Rooms { prefix: "".into(), after: "".into(), limit: LIMIT });
        let order = parsed(r#"{"type":"REMOVE","room":"é"}"#).unwrap();
        assert_eq!(order, Order::Remove { room: "é".into(), offset: None, epoch: None });
        let name = ConnId::new(3, 4).public(7);
        let order = parsed(&format!(r#"{{"type":"CONNECTIONS","connection":"{name}"}}"#)).unwrap();
        let Order::Connections { whose, .. } = &order else { panic!("{order:?}") };
        assert_eq!(whose.of(7), Ok(Whose::One(Some(ConnId::new(3, 4)))));
        assert_eq!(whose.of(8), Ok(Whose::One(None)), "another core's");
    }

    #[test]
    fn what_is_wrong_is_refused() {
        for (text, code) in [
            (r#"{"type":"SUBSCRIBE","room":"a"}"#, ErrorCode::UnknownType),
            (r#"{"type":"HOLD"}"#, ErrorCode::UnknownType),
            (r#"{"type":"DISCONNECT","user":"a","code":1000}"#, ErrorCode::BadField),
            (r#"{"type":"CONNECTIONS","user":"a","limit":0}"#, ErrorCode::BadField),
            (r#"{"type":"ROOMS","limit":1001}"#, ErrorCode::BadField),
            (r#"{"type":"SHED","share":1.5}"#, ErrorCode::BadField),
            (r#"{"type":"REMOVE","room":"r","offset":-1}"#, ErrorCode::UnknownType),
            (r#"{"type":"REMOVE","room":""}"#, ErrorCode::RoomInvalid),
        ] {
            assert_eq!(parsed(text).map_err(|(code, _)| code), Err(code), "{text}");
        }
        let long = format!(r#"{{"type":"DISCONNECT","reason":"{}"}}"#, "x".repeat(124));
        assert!(parsed(&long).is_err() && parsed(&long.replacen('x', "", 1)).is_ok());
        let both = Named { user: Some("a".into()), connection: Some("b".into()) };
        let none = Named { user: None, connection: Some("b".into()) };
        assert!(both.of(1).is_err() && none.of(1).is_err());
    }
}
