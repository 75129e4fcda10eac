//! The server's texts, appended to a buffer as JSON. Framing is not done here.
//!
//! Fields stand in the order shown, names of rooms are escaped, and an `id` is repeated as the client wrote it, or absent.

use super::{CommandId, ErrorCode};
use crate::history::{Epoch, Position, Removal};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Write;
use std::net::IpAddr;
use std::time::Duration;

/// Appends a string as JSON.
fn string(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("a Vec takes every write");
}

fn field(out: &mut Vec<u8>, name: &str, value: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
    string(out, value);
}

fn id_field(out: &mut Vec<u8>, id: Option<&CommandId>) {
    if let Some(id) = id {
        out.extend_from_slice(b",\"id\":");
        out.extend_from_slice(id.as_json().as_bytes());
    }
}

fn number_field(out: &mut Vec<u8>, name: &str, value: u64) {
    write!(out, ",\"{name}\":{value}").expect("a Vec takes every write");
}

fn epoch_field(out: &mut Vec<u8>, name: &str, epoch: Epoch) {
    write!(out, ",\"{name}\":\"{epoch}\"").expect("a Vec takes every write");
}

fn position_fields(out: &mut Vec<u8>, position: Option<Position>) {
    if let Some(Position { epoch, offset }) = position {
        epoch_field(out, "epoch", epoch);
        number_field(out, "offset", offset);
    }
}

/// Appends `{"type":"SUBSCRIBED","room":…,"id":…,"epoch":…,"offset":…,"recovered":…}`: the position of the last message before what
/// follows, if the room keeps history; and whether all that was asked for follows, if something was.
pub fn subscribed(
    out: &mut Vec<u8>,
    room: &str,
    id: Option<&CommandId>,
    position: Option<Position>,
    recovered: Option<bool>,
) {
    out.extend_from_slice(b"{\"type\":\"SUBSCRIBED\"");
    field(out, "room", room);
    id_field(out, id);
    position_fields(out, position);
    if let Some(recovered) = recovered {
        write!(out, ",\"recovered\":{recovered}").expect("a Vec takes every write");
    }
    out.push(b'}');
}

/// Appends `{"type":"DRAIN","after_ms":…}`: the client has to come back, to whatever server takes it, after so long.
pub fn drain(out: &mut Vec<u8>, after: Duration) {
    out.extend_from_slice(b"{\"type\":\"DRAIN\"");
    number_field(out, "after_ms", u64::try_from(after.as_millis()).unwrap_or(u64::MAX));
    out.push(b'}');
}

/// Messages of a room that a member will not get by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Gap {
    /// Those with these offsets, both included, are kept no more.
    Trimmed {
        /// The room's epoch.
        epoch: Epoch,
        /// The first of them.
        from: u64,
        /// The last of them.
        to: u64,
    },
    /// A new epoch has begun. Go on at (`epoch`, `fence`).
    Epoch {
        /// The new one.
        epoch: Epoch,
        /// The one that has ended.
        previous: Epoch,
        /// The last message of it that has not been lost.
        fence: u64,
        /// Whether the member has seen later ones, whose offsets others have now.
        lost: bool,
    },
    /// Some, of a room without history, while its instance had no connection to the broker.
    Interrupted,
}

impl Gap {
    /// Behind which position the member goes on, if the room has any.
    pub fn position(self) -> Option<Position> {
        match self {
            Gap::Trimmed { epoch, to, .. } => Some(Position { epoch, offset: to }),
            Gap::Epoch { epoch, fence, .. } => Some(Position { epoch, offset: fence }),
            Gap::Interrupted => None,
        }
    }
}

/// Appends `{"type":"GAP","room":…,…,"reason":…}`.
pub fn gap(out: &mut Vec<u8>, room: &str, gap: Gap) {
    out.extend_from_slice(b"{\"type\":\"GAP\"");
    field(out, "room", room);
    let reason = match gap {
        Gap::Trimmed { epoch, from, to } => {
            epoch_field(out, "epoch", epoch);
            number_field(out, "from", from);
            number_field(out, "to", to);
            "trimmed"
        }
        Gap::Epoch { epoch, previous, fence, lost } => {
            epoch_field(out, "epoch", epoch);
            epoch_field(out, "previous", previous);
            number_field(out, "fence", fence);
            if lost { "failover" } else { "epoch" }
        }
        Gap::Interrupted => "interrupted",
    };
    field(out, "reason", reason);
    out.push(b'}');
}

/// Appends the text of a `MESSAGE` with its offset.
pub fn with_offset(out: &mut Vec<u8>, message: &[u8], offset: u64) {
    let (end, start) = message.split_last().expect("an object has two braces");
    out.extend_from_slice(start);
    number_field(out, "offset", offset);
    out.push(*end);
}

/// Appends `{"type":"REMOVED","room":…,"epoch":…,"offset":…,"at":…}`, or `"through":…` in place of `"offset":…` where all up to there are
/// removed. The removal itself stands at `at`.
pub fn removed(out: &mut Vec<u8>, room: &str, removal: Removal, at: Position) {
    out.extend_from_slice(b"{\"type\":\"REMOVED\"");
    field(out, "room", room);
    epoch_field(out, "epoch", at.epoch);
    match removal {
        Removal::One(offset) => number_field(out, "offset", offset),
        Removal::All => number_field(out, "through", at.offset.saturating_sub(1)),
    }
    number_field(out, "at", at.offset);
    out.push(b'}');
}

/// What stands in a history.
#[derive(Clone, Copy, Debug)]
pub enum Told<'a> {
    /// A message.
    Message(Said<'a>),
    /// A removal.
    Removal(Removal),
}

/// Appends `{"type":"HISTORY","room":…,"id":…,"epoch":…,"messages":[{"offset":…,"time":…,"from":…,"message":…},…],"more":…}`. The messages
/// are given with offset and Unix time in milliseconds. `from` is there where a user has said it. A removal has in place of the message
/// `"removed":{"offset":…}`, or `"removed":{"through":…}`.
pub fn history<'a>(
    out: &mut Vec<u8>,
    room: &str,
    id: Option<&CommandId>,
    epoch: Epoch,
    messages: impl Iterator<Item = (u64, u64, Told<'a>)>,
    more: bool,
) {
    out.extend_from_slice(b"{\"type\":\"HISTORY\"");
    field(out, "room", room);
    id_field(out, id);
    epoch_field(out, "epoch", epoch);
    out.extend_from_slice(b",\"messages\":[");
    for (index, (offset, time_ms, told)) in messages.enumerate() {
        let comma = if index > 0 { "," } else { "" };
        write!(out, "{comma}{{\"offset\":{offset},\"time\":{time_ms}").expect("a Vec takes every write");
        let Said { from, message } = match told {
            Told::Message(said) => said,
            Told::Removal(Removal::One(one)) => {
                write!(out, ",\"removed\":{{\"offset\":{one}}}}}").expect("a Vec takes every write");
                continue;
            }
            Told::Removal(Removal::All) => {
                let through = offset.saturating_sub(1);
                write!(out, ",\"removed\":{{\"through\":{through}}}}}").expect("a Vec takes every write");
                continue;
            }
        };
        if let Some(from) = from {
            write!(out, ",\"from\":{}", from.get()).expect("a Vec takes every write");
        }
        write!(out, ",\"message\":{}}}", message.get()).expect("a Vec takes every write");
    }
    write!(out, "],\"more\":{more}}}").expect("a Vec takes every write");
}

/// Appends `{"type":"PRESENT","room":…,"id":…,"users":[{"user":…,"connections":…,"info":…},…],"total":…,"more":…}`. Users are given with
/// their connections and their `info`, which is JSON text that goes out as it is, or empty where there is none.
pub fn present<'a>(
    out: &mut Vec<u8>,
    room: &str,
    id: Option<&CommandId>,
    users: impl Iterator<Item = (&'a str, u32, &'a str)>,
    (total, more): (u32, bool),
) {
    out.extend_from_slice(b"{\"type\":\"PRESENT\"");
    field(out, "room", room);
    id_field(out, id);
    out.extend_from_slice(b",\"users\":[");
    for (index, (user, connections, info)) in users.enumerate() {
        out.extend_from_slice(if index > 0 { b",{\"user\":" } else { b"{\"user\":" });
        string(out, user);
        number_field(out, "connections", connections.into());
        info_field(out, info);
        out.push(b'}');
    }
    out.push(b']');
    number_field(out, "total", total.into());
    write!(out, ",\"more\":{more}}}").expect("a Vec takes every write");
}

/// Appends `{"type":"PRESENT","room":…,"id":…,"total":…}`: how many users there are, and not who they are.
pub fn present_total(out: &mut Vec<u8>, room: &str, id: Option<&CommandId>, total: u32) {
    out.extend_from_slice(b"{\"type\":\"PRESENT\"");
    field(out, "room", room);
    id_field(out, id);
    number_field(out, "total", total.into());
    out.push(b'}');
}

/// Appends `{"type":"JOINED","room":…,"user":…,"info":…}`; the `info` is JSON text, or empty where there is none.
pub fn joined(out: &mut Vec<u8>, room: &str, user: &str, info: &str) {
    out.extend_from_slice(b"{\"type\":\"JOINED\"");
    field(out, "room", room);
    field(out, "user", user);
    info_field(out, info);
    out.push(b'}');
}

/// Appends `{"type":"LEFT","room":…,"user":…}`.
pub fn left(out: &mut Vec<u8>, room: &str, user: &str) {
    out.extend_from_slice(b"{\"type\":\"LEFT\"");
    field(out, "room", room);
    field(out, "user", user);
    out.push(b'}');
}

fn info_field(out: &mut Vec<u8>, info: &str) {
    if !info.is_empty() {
        out.extend_from_slice(b",\"info\":");
        out.extend_from_slice(info.as_bytes());
    }
}

/// Appends `{"type":"UNSUBSCRIBED","room":…,"id":…,"code":…}`; the code is there when the server ends the subscription.
pub fn unsubscribed(out: &mut Vec<u8>, room: &str, id: Option<&CommandId>, code: Option<ErrorCode>) {
    out.extend_from_slice(b"{\"type\":\"UNSUBSCRIBED\"");
    field(out, "room", room);
    id_field(out, id);
    if let Some(code) = code {
        field(out, "code", code.as_str());
    }
    out.push(b'}');
}

/// Appends `{"type":"ACK","id":…,"epoch":…,"offset":…}`; the position is there where the message is stored, and
/// `"receivers":…` where the program that the core is a part of is told how many instances have it.
pub fn ack(out: &mut Vec<u8>, id: &CommandId, position: Option<Position>, receivers: Option<u32>) {
    out.extend_from_slice(b"{\"type\":\"ACK\"");
    id_field(out, Some(id));
    position_fields(out, position);
    if let Some(receivers) = receivers {
        number_field(out, "receivers", receivers.into());
    }
    out.push(b'}');
}

/// Appends `{"type":"HELD","room":…}`, for the program: it hears from now on what is said in this room of programs.
pub(crate) fn held(out: &mut Vec<u8>, room: &str) {
    out.extend_from_slice(b"{\"type\":\"HELD\"");
    field(out, "room", room);
    out.push(b'}');
}

/// Appends `{"type":"TOLD","room":…,"text":…}`, for the program: what has been said there.
pub(crate) fn told(out: &mut Vec<u8>, room: &str, text: &str) {
    out.extend_from_slice(b"{\"type\":\"TOLD\"");
    field(out, "room", room);
    field(out, "text", text);
    out.push(b'}');
}

/// Appends `{"type":"DONE","id":…,"connections":…}`, for the program: how many connections that has concerned.
pub(crate) fn done(out: &mut Vec<u8>, id: Option<&CommandId>, connections: usize) {
    out.extend_from_slice(b"{\"type\":\"DONE\"");
    id_field(out, id);
    number_field(out, "connections", connections as u64);
    out.push(b'}');
}

/// Appends `{"type":"ROOMS","id":…,"rooms":[{"room":…,"members":…},…],"more":…}`, for the program: as many as `limit` says.
pub(crate) fn rooms(out: &mut Vec<u8>, id: &CommandId, rooms: &BTreeMap<Box<str>, usize>, limit: usize) {
    out.extend_from_slice(b"{\"type\":\"ROOMS\"");
    id_field(out, Some(id));
    out.extend_from_slice(b",\"rooms\":[");
    for (index, (room, members)) in rooms.iter().take(limit).enumerate() {
        out.extend_from_slice(if index == 0 { b"{\"room\":" } else { b",{\"room\":" });
        string(out, room);
        number_field(out, "members", *members as u64);
        out.push(b'}');
    }
    let more = rooms.len() > limit;
    write!(out, "],\"more\":{more}}}").expect("a Vec takes every write");
}

/// A connection, for the program.
#[derive(Debug)]
pub(crate) struct Listed<'a> {
    pub connection: String,
    pub user: Option<&'a str>,
    pub dialect: &'static str,
    /// The client's.
    pub address: Option<IpAddr>,
    /// Some of the rooms that it is in.
    pub rooms: Vec<&'a str>,
    /// How many those are in all.
    pub room_count: usize,
}

/// Appends `{"type":"CONNECTIONS","id":…,"connections":[{"connection":…,"user":…,"dialect":…,"address":…,"rooms":[…],"room_count":…},…],
/// "total":…}`, for the program.
pub(crate) fn connections(out: &mut Vec<u8>, id: Option<&CommandId>, connections: &[Listed<'_>], total: usize) {
    out.extend_from_slice(b"{\"type\":\"CONNECTIONS\"");
    id_field(out, id);
    out.extend_from_slice(b",\"connections\":[");
    for (index, Listed { connection, user, dialect, address, rooms, room_count }) in connections.iter().enumerate() {
        out.extend_from_slice(if index == 0 { b"{\"connection\":" } else { b",{\"connection\":" });
        string(out, connection);
        if let Some(user) = user {
            field(out, "user", user);
        }
        field(out, "dialect", dialect);
        if let Some(address) = address {
            field(out, "address", &address.to_string());
        }
        out.extend_from_slice(b",\"rooms\":");
        serde_json::to_writer(&mut *out, rooms).expect("a Vec takes every write");
        number_field(out, "room_count", *room_count as u64);
        out.push(b'}');
    }
    out.push(b']');
    number_field(out, "total", total as u64);
    out.push(b'}');
}

/// Appends `{"type":"AUTHENTICATED","user":…,"expires":…,"id":…}`; when it expires, in Unix seconds, if it does.
pub fn authenticated(out: &mut Vec<u8>, user: &str, expires_s: Option<u64>, id: Option<&CommandId>) {
    out.extend_from_slice(b"{\"type\":\"AUTHENTICATED\"");
    field(out, "user", user);
    if let Some(expires_s) = expires_s {
        number_field(out, "expires", expires_s);
    }
    id_field(out, id);
    out.push(b'}');
}

/// Appends `{"type":"PONG","id":…}`.
pub fn pong(out: &mut Vec<u8>, id: Option<&CommandId>) {
    out.extend_from_slice(b"{\"type\":\"PONG\"");
    id_field(out, id);
    out.push(b'}');
}

/// Appends `{"type":"ERROR","code":…,"reason":…,"id":…,"room":…}`; the room is there where it is known.
pub fn error(out: &mut Vec<u8>, code: ErrorCode, reason: &str, id: Option<&CommandId>, room: Option<&str>) {
    out.extend_from_slice(b"{\"type\":\"ERROR\"");
    field(out, "code", code.as_str());
    field(out, "reason", reason);
    id_field(out, id);
    if let Some(room) = room {
        field(out, "room", room);
    }
    out.push(b'}');
}

/// Appends `{"type":"MESSAGE","room":…,"message":…}` around a message that is JSON text already, and is not looked at.
pub fn message(out: &mut Vec<u8>, room: &str, message: &str) {
    message_start(out, room);
    out.extend_from_slice(message.as_bytes());
    out.push(b'}');
}

/// Appends `{"type":"MESSAGE","room":…,"from":…,"time":…,"message":…}`: the user who says it, if it is one, and when it was taken (Unix,
/// ms), if that is known.
pub fn signed_message(out: &mut Vec<u8>, room: &str, (from, time_ms): (Option<&str>, Option<u64>), message: &str) {
    out.extend_from_slice(b"{\"type\":\"MESSAGE\"");
    field(out, "room", room);
    if let Some(from) = from {
        field(out, "from", from);
    }
    if let Some(time_ms) = time_ms {
        number_field(out, "time", time_ms);
    }
    out.extend_from_slice(b",\"message\":");
    out.extend_from_slice(message.as_bytes());
    out.push(b'}');
}

/// Appends the same around a plain text, which becomes a JSON string.
pub fn message_of_text(out: &mut Vec<u8>, room: &str, text: &str) {
    message_start(out, room);
    string(out, text);
    out.push(b'}');
}

fn message_start(out: &mut Vec<u8>, room: &str) {
    out.extend_from_slice(b"{\"type\":\"MESSAGE\"");
    field(out, "room", room);
    out.extend_from_slice(b",\"message\":");
}

/// Appends the publish of the Node room servers: `{"type":"SEND_MESSAGE","roomId":…,"message":…}`. `except`, which they ignore,
/// names the sender that shall not get its own message back.
pub fn classic(out: &mut Vec<u8>, room: &str, message: &str, except: Option<&str>) {
    out.extend_from_slice(b"{\"type\":\"SEND_MESSAGE\"");
    field(out, "roomId", room);
    out.extend_from_slice(b",\"message\":");
    out.extend_from_slice(message.as_bytes());
    if let Some(except) = except {
        field(out, "except", except);
    }
    out.push(b'}');
}

/// What the text of a `MESSAGE` says, and whose word it is.
#[derive(Clone, Copy, Debug, serde::Deserialize)]
pub struct Said<'a> {
    #[serde(borrow)]
    from: Option<&'a RawValue>,
    #[serde(borrow)]
    message: &'a RawValue,
}

/// What the text of a `MESSAGE` says. `None` where the text is no such object.
pub fn said(text: &[u8]) -> Option<Said<'_>> {
    // serde would take an array for the fields in their order.
    text.starts_with(b"{").then(|| serde_json::from_slice(text).ok())?
}

/// The `message` in the text of a `MESSAGE`, as JSON. `None` where the text is no such object.
pub fn message_json(text: &[u8]) -> Option<&str> {
    #[derive(serde::Deserialize)]
    struct Message<'a> {
        #[serde(borrow)]
        message: &'a RawValue,
    }
    Some(text.starts_with(b"{").then(|| serde_json::from_slice::<Message<'_>>(text).ok())??.message.get())
}

/// The message in the text of a `MESSAGE`: a string's text, or any other value's JSON. `None` where the text is no such object.
pub fn parse_message(text: &[u8]) -> Option<Cow<'_, str>> {
    let message = message_json(text)?;
    if message.starts_with('"') {
        // What is no string after all, for instance half a surrogate pair, is forwarded as it is written.
        return Some(serde_json::from_str(message).map_or(Cow::Borrowed(message), Cow::Owned));
    }
    Some(Cow::Borrowed(message))
}

/// The parts of a classic publish, if `text` is one: what [`classic`] writes, or a Node server did.
pub fn parse_classic(text: &str) -> Option<Classic<'_>> {
    if !text.trim_ascii_start().starts_with('{') {
        return None;
    }
    serde_json::from_str::<Classic<'_>>(text).ok().filter(|classic| classic.kind == "SEND_MESSAGE")
}

/// A classic publish.
#[derive(Debug, serde::Deserialize)]
pub struct Classic<'a> {
    #[serde(rename = "type")]
    kind: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    message: &'a RawValue,
    #[serde(default)]
    except: Option<std::borrow::Cow<'a, str>>,
}

impl Classic<'_> {
    /// The message's JSON text.
    pub fn message(&self) -> &str {
        self.message.get()
    }

    /// The sender that shall not get it, if another Fanfare instance named one.
    pub fn except(&self) -> Option<&str> {
        self.except.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_there_is_told_in_the_order_given() {
        let id = CommandId::new("7");
        let users = [("a\"b", 2, r#"{"n":1}"#), ("c", 1, "")];
        let text = |write: &dyn Fn(&mut Vec<u8>)| {
            let mut out = Vec::new();
            write(&mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(
            text(&|out| present(out, "r\"", Some(&id), users.into_iter(), (3, true))),
            r#"{"type":"PRESENT","room":"r\"","id":7,"users":[{"user":"a\"b","connections":2,"info":{"n":1}},{"user":"c","connections":1}],"total":3,"more":true}"#
        );
        assert_eq!(
            text(&|out| present(out, "r", None, std::iter::empty(), (0, false))),
            r#"{"type":"PRESENT","room":"r","users":[],"total":0,"more":false}"#
        );
        assert_eq!(text(&|out| present_total(out, "r", None, 9)), r#"{"type":"PRESENT","room":"r","total":9}"#);
        assert_eq!(text(&|out| joined(out, "r", "u", "[1]")), r#"{"type":"JOINED","room":"r","user":"u","info":[1]}"#);
        assert_eq!(text(&|out| joined(out, "r", "u", "")), r#"{"type":"JOINED","room":"r","user":"u"}"#);
        assert_eq!(text(&|out| left(out, "r", "u")), r#"{"type":"LEFT","room":"r","user":"u"}"#);
    }
}
