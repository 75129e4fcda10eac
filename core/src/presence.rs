//! Who is in a room, as the instances tell each other through the broker. What a core knows of it stands in `hub/presence`.
//!
//! Of a room whose rule says so, the broker keeps how many connections each user has there, on all instances. Each change has a *version*,
//! one more than the last, within an *epoch* that lasts while the broker forgets nothing. Changes are published to a channel of their own,
//! which is subscribed to as the room [`name_of`].

use serde::de::IgnoredAny;
use std::fmt::Write;

/// Before the name of a room: what changes in its presence is published to the room of this name. No client's room has such a name.
const PREFIX: &str = "\u{1}presence:";
/// The version of what is published.
const VERSION: &str = "F3 ";

/// The name under which the changes of a room's presence are subscribed to.
pub fn name_of(room: &str) -> String {
    format!("{PREFIX}{room}")
}

/// The name under which it is kept how many connections a user has, where that is limited: a room that nobody but the user is in, and that
/// no client can join.
pub fn crowd_of(user: &str) -> String {
    format!("\u{1}connections:{user}")
}

/// The room whose changes are subscribed to under this name.
pub fn room_of(name: &str) -> Option<&str> {
    name.strip_prefix(PREFIX)
}

/// Which state of a room's presence it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Version {
    /// Drawn at random when the broker begins to count.
    pub epoch: u64,
    /// How many changes there have been since.
    pub number: u64,
}

/// A user has another number of connections in a room, or another `info`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change<'a> {
    /// With this one.
    pub version: Version,
    /// How many users are there now.
    pub total: u32,
    /// How many connections this one has there now: with 0 it has left.
    pub connections: u32,
    /// The user's name.
    pub user: &'a str,
    /// A JSON value, or nothing.
    pub info: &'a str,
}

impl<'a> Change<'a> {
    /// Appends what is published: `F3 <epoch> <version> <users> <connections> <length of the user's name>`, a line feed, the user's name and
    /// the `info`. The epoch has 16 hexadecimal digits, the length is in bytes.
    pub fn write(&self, out: &mut Vec<u8>) {
        let Change { version: Version { epoch, number }, total, connections, user, info } = self;
        let mut text = String::new();
        let length = user.len();
        write!(text, "{VERSION}{epoch:016x} {number} {total} {connections} {length}\n{user}{info}")
            .expect("a String takes every write");
        out.extend_from_slice(text.as_bytes());
    }

    /// What was published. `None` where this is nothing that an instance of this version writes.
    pub fn parse(payload: &'a [u8]) -> Option<Change<'a>> {
        let text = std::str::from_utf8(payload).ok()?.strip_prefix(VERSION)?;
        let (head, rest) = text.split_once('\n')?;
        let mut fields = head.split(' ');
        let epoch = fields.next().filter(|digits| digits.len() == 16)?;
        let version = Version { epoch: u64::from_str_radix(epoch, 16).ok()?, number: fields.next()?.parse().ok()? };
        let (total, connections) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        let length: usize = fields.next()?.parse().ok()?;
        let (user, info) = rest.split_at_checked(length)?;
        let is_sound = fields.next().is_none() && !user.is_empty();
        is_sound.then_some(Change { version, total, connections, user, info })
    }
}

/// The same info, or nothing where it is no JSON: what others write to Redis would make what clients are told unreadable.
pub(crate) fn sound_info(info: &str) -> &str {
    if serde_json::from_str::<IgnoredAny>(info).is_ok() { info } else { "" }
}

/// A user who is in a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Present {
    /// The user's name.
    pub user: Box<str>,
    /// How many connections of it are there, on all instances: one at least.
    pub connections: u32,
    /// A JSON value of the credential that came last, or nothing.
    pub info: Box<str>,
}

/// A part of those who are in a room. Users that come or go while the parts are read may be in none of them; those who are there all the time
/// are in at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RosterPage {
    /// The state that the part is of.
    pub version: Version,
    /// How many users there are.
    pub total: u32,
    /// Some of them, in no order, each maybe more than once.
    pub users: Vec<Present>,
    /// Where the next part begins; `None` if this was the last.
    pub next: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_read_as_it_was_written() {
        let version = Version { epoch: 0xabc, number: 7 };
        for (user, info) in [("bob", ""), ("a b\nü", r#"{"name":"B\nob"}"#)] {
            let change = Change { version, total: 3, connections: 0, user, info };
            let mut out = Vec::new();
            change.write(&mut out);
            assert_eq!(Change::parse(&out), Some(change));
            assert!(out.starts_with(b"F3 0000000000000abc 7 3 0 "));
        }
        for wrong in
            ["", "F3 ", "F3 0000000000000abc 7 3 0 9\nbob", "F3 abc 7 3 0 3\nbob", "F3 0000000000000abc 7 3 0 0\n"]
        {
            assert_eq!(Change::parse(wrong.as_bytes()), None, "{wrong:?}");
        }
        assert_eq!(room_of(&name_of("a:b")), Some("a:b"));
        for (info, sound) in [("", ""), ("{\"a\":[1]}", "{\"a\":[1]}"), ("1},{\"user\":2", ""), ("x", "")] {
            assert_eq!(sound_info(info), sound);
        }
        assert_eq!(room_of("presence:a"), None);
    }
}
