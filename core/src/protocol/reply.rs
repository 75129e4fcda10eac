//! The server's texts, appended to a buffer as JSON. Framing is not done here.
//!
//! Fields stand in the order shown, names of rooms are escaped, and an `id` is repeated as the client wrote it, or absent.

use super::{CommandId, ErrorCode};
use serde_json::value::RawValue;
use std::borrow::Cow;

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

/// Appends `{"type":"SUBSCRIBED","room":…,"id":…}`.
pub fn subscribed(out: &mut Vec<u8>, room: &str, id: Option<&CommandId>) {
    out.extend_from_slice(b"{\"type\":\"SUBSCRIBED\"");
    field(out, "room", room);
    id_field(out, id);
    out.push(b'}');
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

/// Appends `{"type":"ACK","id":…}`.
pub fn ack(out: &mut Vec<u8>, id: &CommandId) {
    out.extend_from_slice(b"{\"type\":\"ACK\"");
    id_field(out, Some(id));
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

/// The message in the text of a `MESSAGE`: a string's text, or any other value's JSON. `None` where the text is no such object.
pub fn parse_message(text: &[u8]) -> Option<Cow<'_, str>> {
    #[derive(serde::Deserialize)]
    struct Message<'a> {
        #[serde(borrow)]
        message: &'a RawValue,
    }
    // serde would take an array for the fields in their order.
    let message = text.starts_with(b"{").then(|| serde_json::from_slice::<Message<'_>>(text).ok())??.message.get();
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
