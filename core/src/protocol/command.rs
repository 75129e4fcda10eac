//! A client's text frame to a command. Fields are read one by one, so that a refusal still carries the id.

use super::{CommandId, ErrorCode};
use crate::history::{Epoch, Position};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use std::borrow::Cow;

/// Decoded bytes of a string used as `id`.
const ID_BYTES_MAX: usize = 64;
/// Of the `key` of somebody who is no user, whose keys are everybody's. 22 characters in base 64 are 128 bits: nobody meets a stranger's
/// key by chance, nor guesses one.
pub(crate) const KEY_BYTES_MIN: usize = 22;
const KEY_BYTES_MAX: usize = 128;
/// Messages of a `HISTORY` that names no limit, and of any.
const HISTORY_LIMIT: u32 = 50;
const HISTORY_LIMIT_MAX: u32 = 1_000;
/// Users in the answer to a `PRESENCE` that names no limit, and to any.
const PRESENCE_LIMIT: u32 = 100;
const PRESENCE_LIMIT_MAX: u32 = 1_000;
/// Bytes of the name behind which it begins: it may wait for a while, and others with it.
const AFTER_BYTES_MAX: usize = 1_024;

/// A well-formed command and the id that its reply carries.
#[derive(Debug, PartialEq)]
#[non_exhaustive]
pub struct Command<'a> {
    /// The client's correlation id, if it sent one.
    pub id: Option<CommandId>,
    /// What the client wants.
    pub request: Request<'a>,
}

/// What a client can ask for. Not `#[non_exhaustive]`, because a command that is passed over leaves a client without an answer.
#[derive(Debug, PartialEq)]
pub enum Request<'a> {
    /// Join a room.
    Subscribe {
        /// Its name.
        room: Cow<'a, str>,
        /// Where in its messages to begin.
        start: Start,
        /// Whether it wants to be told who is there, and who comes and goes.
        presence: bool,
    },
    /// Leave a room.
    Unsubscribe {
        /// Its name.
        room: Cow<'a, str>,
    },
    /// Publish to a room.
    SendMessage {
        /// Its name.
        room: Cow<'a, str>,
        /// The message: one JSON value, exactly as the client wrote it.
        message: &'a str,
        /// Whether the sender gets it too, if it is a member.
        echo: bool,
        /// Whether it is stored where the room keeps history.
        store: bool,
        /// What tells a repetition of it.
        key: Option<Cow<'a, str>>,
    },
    /// Read a part of a room's history.
    History {
        /// Its name.
        room: Cow<'a, str>,
        /// From where on.
        from: HistoryFrom,
        /// The epoch that the offset is of, where the client says so.
        epoch: Option<Epoch>,
        /// Messages at most.
        limit: u32,
    },
    /// Ask who is in a room.
    Presence {
        /// Its name.
        room: Cow<'a, str>,
        /// Users at most; with 0, how many there are is all that is told.
        limit: u32,
        /// Only users whose names are behind this one, in the order of their bytes.
        after: Option<Cow<'a, str>>,
    },
    /// Show a credential.
    Auth {
        /// The credential.
        token: Cow<'a, str>,
    },
    /// Be answered with `PONG`.
    Ping,
}

/// Where in a room's messages a member begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// With what comes.
    #[default]
    Live,
    /// With what came after this place. An epoch that can be none has the ordinal 0.
    Since(Position),
    /// With the last messages, at most this many.
    Newest(u32),
}

/// Which part of a room's history is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HistoryFrom {
    /// What came after the message with this offset, the oldest first.
    After(u64),
    /// What came before the message with this offset.
    Before(u64),
    /// The newest.
    Newest,
}

impl Request<'_> {
    /// The room that it is about.
    pub fn room(&self) -> Option<&str> {
        match self {
            Request::Subscribe { room, .. }
            | Request::Unsubscribe { room }
            | Request::SendMessage { room, .. }
            | Request::History { room, .. }
            | Request::Presence { room, .. } => Some(room),
            Request::Auth { .. } | Request::Ping => None,
        }
    }
}

/// A command that is refused, with what is known of it.
#[derive(Debug, PartialEq)]
#[non_exhaustive]
pub struct Refusal<'a> {
    /// The stable code.
    pub code: ErrorCode,
    /// What is wrong, for people.
    pub reason: Cow<'static, str>,
    /// The client's correlation id, where it could be read.
    pub id: Option<CommandId>,
    /// The room, where it could be read; of a name that is too long, its beginning.
    pub room: Option<Cow<'a, str>>,
}

/// All fields of all commands, each as the JSON text that came. `null` means absent, but for `message`, where it is a
/// value like any other.
#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    room: Option<&'a RawValue>,
    #[serde(borrow, rename = "roomId")]
    room_id: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    message: Option<&'a RawValue>,
    #[serde(borrow)]
    echo: Option<&'a RawValue>,
    #[serde(borrow)]
    key: Option<&'a RawValue>,
    #[serde(borrow)]
    since: Option<&'a RawValue>,
    #[serde(borrow)]
    history: Option<&'a RawValue>,
    #[serde(borrow)]
    store: Option<&'a RawValue>,
    #[serde(borrow)]
    presence: Option<&'a RawValue>,
}

/// Those of `HISTORY` alone, which are read a second time: no other command pays for them.
#[derive(Deserialize)]
struct HistoryFields<'a> {
    #[serde(borrow)]
    limit: Option<&'a RawValue>,
    #[serde(borrow)]
    after: Option<&'a RawValue>,
    #[serde(borrow)]
    before: Option<&'a RawValue>,
    #[serde(borrow)]
    epoch: Option<&'a RawValue>,
}

/// Those of `PRESENCE` alone.
#[derive(Deserialize)]
struct PresenceFields<'a> {
    #[serde(borrow)]
    limit: Option<&'a RawValue>,
    #[serde(borrow)]
    after: Option<&'a RawValue>,
}

/// That of `AUTH` alone.
#[derive(Deserialize)]
struct AuthFields<'a> {
    #[serde(borrow)]
    token: Option<&'a RawValue>,
}

fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// The value of a JSON string; `None` of any other value. A string without escapes is not read a second time: it stands there as
/// it is, and its characters have been checked.
fn text(json: &RawValue) -> Option<Cow<'_, str>> {
    let text = json.get().strip_prefix('"')?.strip_suffix('"')?;
    match text.as_bytes().contains(&b'\\') {
        false => Some(Cow::Borrowed(text)),
        true => serde_json::from_str(json.get()).ok().map(Cow::Owned),
    }
}

type Fault = (ErrorCode, Cow<'static, str>);

fn fault(code: ErrorCode, reason: &'static str) -> Fault {
    (code, Cow::Borrowed(reason))
}

/// Parses one text frame.
///
/// # Errors
/// What to answer with `ERROR`.
pub fn parse(frame: &str, room_name_bytes_max: usize) -> Result<Command<'_>, Refusal<'_>> {
    let bad_json = |reason| Refusal { code: ErrorCode::BadJson, reason, id: None, room: None };
    // serde takes an array for the fields in their order, and repeats any other value in its error, however long.
    if !frame.trim_ascii_start().starts_with('{') {
        if bare(frame).eq_ignore_ascii_case("ping") {
            return Ok(Command { id: None, request: Request::Ping });
        }
        return Err(bad_json("a command is one JSON object".into()));
    }
    let fields: Fields<'_> = serde_json::from_str(frame)
        .map_err(|error| bad_json(format!("a command is one JSON object: {error}").into()))?;
    let (id, mut refused) = match fields.id.map(parse_id).transpose() {
        Ok(id) => (id, None),
        Err(fault) => (None, Some(fault)),
    };
    let room = fields.room();
    let request = match refused.take() {
        Some(fault) => Err(fault),
        None => fields.request(frame, &room, room_name_bytes_max),
    };
    match request {
        Ok(request) => Ok(Command { id, request }),
        Err((code, reason)) => {
            let room = room.ok().flatten().map(|room| shortened(room, room_name_bytes_max));
            Err(Refusal { code, reason, id, room })
        }
    }
}

/// Whether this text is `pong`, in capitals or not, or nothing but line ends: the other half of heartbeats of clients that speak to
/// many kinds of servers. It is no command, and asks for nothing.
pub(crate) fn is_bare_pong(frame: &str) -> bool {
    let is_line_end = !frame.is_empty() && frame.bytes().all(|byte| matches!(byte, b'\r' | b'\n'));
    is_line_end || bare(frame).eq_ignore_ascii_case("pong")
}

/// A text without white space around it, and without the quotes of a JSON string.
fn bare(frame: &str) -> &str {
    let text = frame.trim_ascii();
    text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text)
}

impl<'a> Fields<'a> {
    /// The value of `room`, or of its synonym `roomId`.
    fn room(&self) -> Result<Option<Cow<'a, str>>, Fault> {
        let read = |field: Option<&'a RawValue>| match field {
            None => Ok(None),
            Some(json) => text(json).map(Some).ok_or(fault(ErrorCode::BadField, "the room's name must be a string")),
        };
        match (read(self.room)?, read(self.room_id)?) {
            (Some(room), Some(room_id)) if room != room_id => {
                Err(fault(ErrorCode::BadField, "room and roomId are synonyms, and differ here"))
            }
            (room, room_id) => Ok(room.or(room_id)),
        }
    }

    fn request(
        &self,
        frame: &'a str,
        room: &Result<Option<Cow<'a, str>>, Fault>,
        room_name_bytes_max: usize,
    ) -> Result<Request<'a>, Fault> {
        let kind = self.kind.ok_or(fault(ErrorCode::MissingField, "type is missing"))?;
        let kind = text(kind).ok_or(fault(ErrorCode::BadField, "type must be a string"))?;
        let room = || {
            let room = room.clone()?.ok_or(fault(ErrorCode::MissingField, "room is missing"))?;
            match check_room_name(&room, room_name_bytes_max) {
                Ok(()) => Ok(room),
                Err(reason) => Err((ErrorCode::RoomInvalid, reason)),
            }
        };
        match &*kind {
            "SUBSCRIBE" => Ok(Request::Subscribe {
                room: room()?,
                start: self.start()?,
                presence: switch(self.presence, "presence must be true or false")?.unwrap_or(false),
            }),
            "UNSUBSCRIBE" => Ok(Request::Unsubscribe { room: room()? }),
            "SEND_MESSAGE" => self.send_message(room()?),
            // In small letters as well: it is what most clients send that know nothing of this server.
            "PING" | "ping" => Ok(Request::Ping),
            "HISTORY" => history(frame, room()?),
            "AUTH" => auth(frame),
            "PRESENCE" => presence(frame, room()?),
            _ => Err(fault(
                ErrorCode::UnknownType,
                "type must be SUBSCRIBE, UNSUBSCRIBE, SEND_MESSAGE, HISTORY, PRESENCE, AUTH or PING",
            )),
        }
    }

    fn send_message(&self, room: Cow<'a, str>) -> Result<Request<'a>, Fault> {
        let message = self.message.ok_or(fault(ErrorCode::MissingField, "message is missing"))?.get();
        let echo = switch(self.echo, "echo must be true or false")?.unwrap_or(true);
        let store = switch(self.store, "store must be true or false")?.unwrap_or(true);
        let key = match self.key.map(text) {
            None => None,
            Some(Some(key)) if (1..=KEY_BYTES_MAX).contains(&key.len()) => Some(key),
            Some(_) => return Err(fault(ErrorCode::BadField, "key must be a string of 1 to 128 bytes")),
        };
        if key.is_some() && !store {
            return Err(fault(ErrorCode::BadField, "key needs a message that is stored"));
        }
        Ok(Request::SendMessage { room, message, echo, store, key })
    }

    fn start(&self) -> Result<Start, Fault> {
        #[derive(Deserialize)]
        struct Since<'a> {
            #[serde(borrow)]
            epoch: &'a RawValue,
            offset: u64,
        }
        match (self.since, self.history) {
            (None, None) => Ok(Start::Live),
            (Some(_), Some(_)) => Err(fault(ErrorCode::BadField, "since and history exclude each other")),
            (Some(since), None) => {
                let since = Some(since.get()).filter(|since| since.starts_with('{'));
                let since = since.and_then(|since| serde_json::from_str::<Since<'_>>(since).ok());
                let since = since.and_then(|Since { epoch, offset }| Some((text(epoch)?, offset)));
                let (epoch, offset) = since.ok_or(fault(
                    ErrorCode::BadField,
                    r#"since must be an object such as {"epoch":"1-0123456789abcdef","offset":12}"#,
                ))?;
                Ok(Start::Since(Position { epoch: Epoch::of_text(&epoch), offset }))
            }
            (None, Some(history)) => number(history)
                .map(Start::Newest)
                .ok_or(fault(ErrorCode::BadField, "history must be a number of messages")),
        }
    }
}

/// The value of a field that is true or false, where it is there.
fn switch(field: Option<&RawValue>, reason: &'static str) -> Result<Option<bool>, Fault> {
    match field.map(RawValue::get) {
        None => Ok(None),
        Some("true") => Ok(Some(true)),
        Some("false") => Ok(Some(false)),
        Some(_) => Err(fault(ErrorCode::BadField, reason)),
    }
}

/// The rest of a `PRESENCE`.
fn presence<'a>(frame: &'a str, room: Cow<'a, str>) -> Result<Request<'a>, Fault> {
    let fields: PresenceFields<'a> =
        serde_json::from_str(frame).map_err(|_| fault(ErrorCode::BadField, "a field stands there twice"))?;
    let limit = match fields.limit {
        None => PRESENCE_LIMIT,
        Some(limit) => number(limit).ok_or(fault(ErrorCode::BadField, "limit must be a number of users"))?,
    };
    let after = match fields.after.map(text) {
        None => None,
        Some(Some(after)) if after.len() <= AFTER_BYTES_MAX => Some(after),
        Some(_) => return Err(fault(ErrorCode::BadField, "after must be a user's name, of at most 1024 bytes")),
    };
    Ok(Request::Presence { room, limit: limit.min(PRESENCE_LIMIT_MAX), after })
}

/// The rest of an `AUTH`.
fn auth(frame: &str) -> Result<Request<'_>, Fault> {
    let fields: AuthFields<'_> =
        serde_json::from_str(frame).map_err(|_| fault(ErrorCode::BadField, "a field stands there twice"))?;
    let token = fields.token.ok_or(fault(ErrorCode::MissingField, "token is missing"))?;
    let token = text(token).ok_or(fault(ErrorCode::BadField, "token must be a string"))?;
    Ok(Request::Auth { token })
}

/// The rest of a `HISTORY`.
fn history<'a>(frame: &'a str, room: Cow<'a, str>) -> Result<Request<'a>, Fault> {
    let fields: HistoryFields<'a> =
        serde_json::from_str(frame).map_err(|_| fault(ErrorCode::BadField, "a field stands there twice"))?;
    let offset = |field: &'a RawValue, reason| {
        serde_json::from_str::<u64>(field.get()).map_err(|_| fault(ErrorCode::BadField, reason))
    };
    let from = match (fields.after, fields.before) {
        (None, None) => HistoryFrom::Newest,
        (Some(after), None) => HistoryFrom::After(offset(after, "after must be an offset")?),
        (None, Some(before)) => HistoryFrom::Before(offset(before, "before must be an offset")?),
        (Some(_), Some(_)) => return Err(fault(ErrorCode::BadField, "after and before exclude each other")),
    };
    let epoch = match fields.epoch.map(text) {
        None => None,
        Some(Some(epoch)) => Some(Epoch::of_text(&epoch)),
        Some(None) => return Err(fault(ErrorCode::BadField, "epoch must be a string")),
    };
    let limit = match fields.limit {
        None => HISTORY_LIMIT,
        Some(limit) => number(limit)
            .filter(|limit| *limit > 0)
            .ok_or(fault(ErrorCode::BadField, "limit must be a number of messages, at least 1"))?,
    };
    Ok(Request::History { room, from, epoch, limit: limit.min(HISTORY_LIMIT_MAX) })
}

/// A number; what is more than fits counts as much as does.
fn number(json: &RawValue) -> Option<u32> {
    serde_json::from_str::<u64>(json.get()).ok().map(|number| u32::try_from(number).unwrap_or(u32::MAX))
}

fn parse_id(json: &RawValue) -> Result<CommandId, Fault> {
    let raw = json.get();
    let valid = match raw.as_bytes() {
        [b'"', ..] => text(json).is_some_and(|id| id.len() <= ID_BYTES_MAX),
        _ => serde_json::from_str::<i64>(raw).is_ok() || serde_json::from_str::<u64>(raw).is_ok(),
    };
    if !valid {
        return Err(fault(ErrorCode::BadField, "id must be an integer of 64 bits or a string of at most 64 bytes"));
    }
    Ok(CommandId::new(raw))
}

/// As much of a text as a room's name may have, because a reply repeats an invalid name.
fn shortened(room: Cow<'_, str>, bytes_max: usize) -> Cow<'_, str> {
    let end = room.floor_char_boundary(bytes_max);
    match room {
        Cow::Borrowed(room) => Cow::Borrowed(&room[..end]),
        Cow::Owned(mut room) => {
            room.truncate(end);
            Cow::Owned(room)
        }
    }
}

/// What is wrong with a room's name, for people.
pub(crate) fn check_room_name(room: &str, bytes_max: usize) -> Result<(), Cow<'static, str>> {
    if room.is_empty() {
        return Err("a room's name has at least one byte".into());
    }
    if room.len() > bytes_max {
        return Err(format!("a room's name has at most {bytes_max} bytes").into());
    }
    if room.chars().any(char::is_control) {
        return Err("a room's name has no control characters".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(frame: &str) -> &'static str {
        parse(frame, 128).map(|_| "ok").unwrap_or_else(|refusal| refusal.code.as_str())
    }

    #[test]
    fn the_message_is_kept_to_the_letter() {
        let frame = r#"{"message": {"a" : [1.0, "é"] } ,"roomId":"r","type":"SEND_MESSAGE","extra":[{}]}"#;
        let command = parse(frame, 128).unwrap();
        let message = r#"{"a" : [1.0, "é"] }"#;
        let request = Request::SendMessage { room: "r".into(), message, echo: true, store: true, key: None };
        assert_eq!(command.request, request);
        assert_eq!(command.id, None);
    }

    #[test]
    fn names_mean_the_same_with_escapes_and_without() {
        let since = Position { epoch: Epoch::of_text("1-0123456789abcdef"), offset: 3 };
        for (kind, room, epoch) in
            [("SUBSCRIBE", "a/é", "1-0123456789abcdef"), (r"\u0053UBSCRIBE", r"a\/\u00e9", r"\u0031-0123456789abcdef")]
        {
            let frame = format!(r#"{{"type":"{kind}","room":"{room}","since":{{"epoch":"{epoch}","offset":3}}}}"#);
            let request = Request::Subscribe { room: "a/é".into(), start: Start::Since(since), presence: false };
            assert_eq!(parse(&frame, 128), Ok(Command { id: None, request }), "{frame}");
        }
    }

    #[test]
    fn null_is_a_message_and_absence_is_not() {
        assert_eq!(code(r#"{"type":"SEND_MESSAGE","room":"r","message":null}"#), "ok");
        assert_eq!(code(r#"{"type":"SEND_MESSAGE","room":"r"}"#), "missing_field");
    }

    #[test]
    fn each_fault_has_its_code() {
        let cases = [
            ("", "bad_json"),
            ("pings", "bad_json"),
            ("\"\"ping\"\"", "bad_json"),
            ("[]", "bad_json"),
            ("1", "bad_json"),
            (r#"["PING",7,null,null,0,null,null,null,null,null,null]"#, "bad_json"),
            (r#"{"type":"PING"} x"#, "bad_json"),
            (r#"{"type":"PING","type":"PING"}"#, "bad_json"),
            ("{}", "missing_field"),
            (r#"{"type":1}"#, "bad_field"),
            (r#"{"type":"JUMP"}"#, "unknown_type"),
            (r#"{"type":"SUBSCRIBE"}"#, "missing_field"),
            (r#"{"type":"SUBSCRIBE","room":7}"#, "bad_field"),
            (r#"{"type":"SUBSCRIBE","room":"a","roomId":"b"}"#, "bad_field"),
            (r#"{"type":"SUBSCRIBE","room":"a","roomId":"a"}"#, "ok"),
            (r#"{"type":"SUBSCRIBE","room":""}"#, "room_invalid"),
            (r#"{"type":"SUBSCRIBE","room":"a\nb"}"#, "room_invalid"),
            (r#"{"type":"SUBSCRIBE","room":"a\u0085b"}"#, "room_invalid"),
            (r#"{"type":"SUBSCRIBE","room":"r","history":5}"#, "ok"),
            (r#"{"type":"SUBSCRIBE","room":"r","history":99999999999}"#, "ok"),
            (r#"{"type":"SUBSCRIBE","room":"r","history":-1}"#, "bad_field"),
            (r#"{"type":"SUBSCRIBE","room":"r","history":"5"}"#, "bad_field"),
            (r#"{"type":"SUBSCRIBE","room":"r","since":{"epoch":"x","offset":0}}"#, "ok"),
            (r#"{"type":"SUBSCRIBE","room":"r","since":{"epoch":"x"}}"#, "bad_field"),
            (r#"{"type":"SUBSCRIBE","room":"r","since":["x",0]}"#, "bad_field"),
            (r#"{"type":"SUBSCRIBE","room":"r","since":{"epoch":7,"offset":0}}"#, "bad_field"),
            (r#"{"type":"SUBSCRIBE","room":"\ud800"}"#, "bad_field"),
            (r#"{"type":"SUBSCRIBE","room":"r","since":{"epoch":"x","offset":0},"history":1}"#, "bad_field"),
            (r#"{"type":"SEND_MESSAGE","room":"r","message":1,"echo":"no"}"#, "bad_field"),
            (r#"{"type":"SEND_MESSAGE","room":"r","message":1,"store":0}"#, "bad_field"),
            (r#"{"type":"SEND_MESSAGE","room":"r","message":1,"key":""}"#, "bad_field"),
            (r#"{"type":"SEND_MESSAGE","room":"r","message":1,"key":"k"}"#, "ok"),
            (r#"{"type":"AUTH"}"#, "missing_field"),
            (r#"{"type":"AUTH","token":1}"#, "bad_field"),
            (r#"{"type":"AUTH","token":"a","token":"b"}"#, "bad_field"),
            (r#"{"type":"AUTH","token":"a"}"#, "ok"),
            (r#"{"type":"SEND_MESSAGE","room":"r","message":1,"key":"0123456789012345678901"}"#, "ok"),
            (
                r#"{"type":"SEND_MESSAGE","room":"r","message":1,"key":"0123456789012345678901","store":false}"#,
                "bad_field",
            ),
            (r#"{"type":"HISTORY","room":"r"}"#, "ok"),
            (r#"{"type":"HISTORY"}"#, "missing_field"),
            (r#"{"type":"HISTORY","room":"r","after":3,"limit":10,"epoch":"1-0"}"#, "ok"),
            (r#"{"type":"HISTORY","room":"r","after":3,"before":9}"#, "bad_field"),
            (r#"{"type":"HISTORY","room":"r","after":-3}"#, "bad_field"),
            (r#"{"type":"HISTORY","room":"r","limit":0}"#, "bad_field"),
            (r#"{"type":"HISTORY","room":"r","limit":1,"limit":2}"#, "bad_field"),
            (r#"{"type":"HISTORY","room":"r","epoch":1}"#, "bad_field"),
            (r#"{"type":"SUBSCRIBE","room":"r","presence":true}"#, "ok"),
            (r#"{"type":"SUBSCRIBE","room":"r","presence":null}"#, "ok"),
            (r#"{"type":"SUBSCRIBE","room":"r","presence":1}"#, "bad_field"),
            (r#"{"type":"SUBSCRIBE","room":"r","presence":"true"}"#, "bad_field"),
            (r#"{"type":"PRESENCE"}"#, "missing_field"),
            (r#"{"type":"PRESENCE","room":""}"#, "room_invalid"),
            (r#"{"type":"PRESENCE","room":"r","limit":-1}"#, "bad_field"),
            (r#"{"type":"PRESENCE","room":"r","limit":"1"}"#, "bad_field"),
            (r#"{"type":"PRESENCE","room":"r","limit":1,"limit":1}"#, "bad_field"),
            (r#"{"type":"PRESENCE","room":"r","after":1}"#, "bad_field"),
            (r#"{"type":"PING","id":1.5}"#, "bad_field"),
            (r#"{"type":"PING","id":{}}"#, "bad_field"),
            (r#"{"type":"PING","id":18446744073709551615}"#, "ok"),
            (r#"{"type":"PING","id":-5}"#, "ok"),
        ];
        for (frame, expected) in cases {
            assert_eq!(code(frame), expected, "{frame}");
        }
        assert_eq!(code(&format!(r#"{{"type":"SUBSCRIBE","room":"{}"}}"#, "é".repeat(64))), "ok");
        assert_eq!(code(&format!(r#"{{"type":"SUBSCRIBE","room":"{}x"}}"#, "é".repeat(64))), "room_invalid");
        assert_eq!(code(&format!(r#"{{"type":"PING","id":"{}"}}"#, "x".repeat(64))), "ok");
        assert_eq!(code(&format!(r#"{{"type":"PING","id":"{}"}}"#, "x".repeat(65))), "bad_field");
    }

    #[test]
    fn presence_is_asked_for_as_far_as_the_client_says() {
        let request = |fields: &str| {
            let frame = format!(r#"{{"type":"PRESENCE","room":"r"{fields}}}"#);
            match parse(&frame, 128).unwrap().request {
                Request::Presence { room, limit, after } => {
                    (room.into_owned(), limit, after.map(|after| after.into_owned()))
                }
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(request(""), ("r".into(), 100, None));
        assert_eq!(request(r#","limit":0,"after":"b\u00e9""#), ("r".into(), 0, Some("bé".into())));
        assert_eq!(request(r#","after":"","limit":99999999999"#), ("r".into(), 1_000, Some("".into())));
        for (fields, wanted) in [("", false), (r#","presence":false"#, false), (r#","presence":true"#, true)] {
            let frame = format!(r#"{{"type":"SUBSCRIBE","room":"r"{fields}}}"#);
            let request = Request::Subscribe { room: "r".into(), start: Start::Live, presence: wanted };
            assert_eq!(parse(&frame, 128).unwrap().request, request, "{fields}");
        }
    }

    #[test]
    fn a_heartbeat_of_any_client_is_a_ping() {
        for frame in ["ping", "PING", " Ping\r\n", "\"ping\"", r#"{"type":"ping"}"#, r#"{"type":"PING"}"#] {
            assert_eq!(parse(frame, 128), Ok(Command { id: None, request: Request::Ping }), "{frame:?}");
        }
        for (frame, is_pong) in [
            ("pong", true),
            (" \"PONG\"", true),
            ("\n", true),
            ("\r\n", true),
            ("", false),
            (" ", false),
            ("ponk", false),
            ("2", false),
        ] {
            assert_eq!((code(frame), is_bare_pong(frame)), ("bad_json", is_pong), "{frame:?}");
        }
    }

    #[test]
    fn a_reason_does_not_repeat_what_was_sent() {
        for frame in [format!("\"{}\"", "x".repeat(10_000)), format!("{{\"type\":{}", "x".repeat(10_000))] {
            assert!(parse(&frame, 128).unwrap_err().reason.len() < 200);
        }
    }

    #[test]
    fn a_refusal_repeats_no_more_of_a_name_than_one_may_have() {
        for (name, shown) in [
            ("x".repeat(65_000), "x".repeat(129)),
            ("é".repeat(65), "é".repeat(64)),
            ("\\u00e9".repeat(65), "é".repeat(64)),
        ] {
            let frame = format!(r#"{{"type":"SUBSCRIBE","room":"{name}"}}"#);
            let refusal = parse(&frame, 129).unwrap_err();
            assert_eq!((refusal.code, refusal.room.as_deref()), (ErrorCode::RoomInvalid, Some(&*shown)));
        }
    }

    #[test]
    fn a_refusal_carries_what_could_be_read() {
        let refusal = parse(r#"{"type":"JUMP","id":"a\"b","roomId":"r"}"#, 128).unwrap_err();
        assert_eq!(refusal.id.unwrap().as_json(), r#""a\"b""#);
        assert_eq!(refusal.room.as_deref(), Some("r"));
    }
}
