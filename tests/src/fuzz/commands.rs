//! A client's text to a command: what is accepted means what `serde_json` finds in it, and every text that is made of it is
//! JSON again.

use super::json::is_json;
use fanfare_core::protocol::command::{Command, HistoryFrom, Refusal, Request, Start, parse};
use fanfare_core::protocol::{CommandId, ErrorCode, reply};
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// Small, so that names reach it.
const ROOM_NAME_BYTES_MAX: usize = 12;

/// Longer than any reason: none repeats what was sent.
const REASON_BYTES_MAX: usize = 200;

/// The fields of an object as the text of each.
type Fields<'a> = BTreeMap<String, &'a RawValue>;

/// The bytes are one text frame.
pub fn commands(data: &[u8]) {
    let Ok(frame) = std::str::from_utf8(data) else { return };
    let fields: Option<Fields<'_>> =
        frame.trim_ascii_start().starts_with('{').then(|| serde_json::from_str(frame).ok()).flatten();
    assert!(fields.is_none() || is_json(data), "serde_json reads what is no JSON");
    match parse(frame, ROOM_NAME_BYTES_MAX) {
        Ok(command) => accepted(&command, &fields.expect("an object is accepted")),
        Err(refusal) => refused(&refusal, fields.as_ref()),
    }
}

/// A field that is there; `null` counts as absent.
fn field<'a>(fields: &Fields<'a>, name: &str) -> Option<&'a str> {
    fields.get(name).map(|value| value.get()).filter(|value| *value != "null")
}

fn string(fields: &Fields<'_>, name: &str) -> Option<String> {
    field(fields, name).map(|value| serde_json::from_str(value).expect("a string"))
}

fn accepted(command: &Command<'_>, fields: &Fields<'_>) {
    let kind = string(fields, "type").expect("a type");
    assert_eq!(command.id.as_ref().map(CommandId::as_json), field(fields, "id"));
    if let Some(id) = &command.id {
        match serde_json::from_str(id.as_json()) {
            Ok(Value::String(id)) => assert!(id.len() <= 64, "{id}"),
            Ok(Value::Number(id)) => assert!(id.is_i64() || id.is_u64(), "{id}"),
            other => panic!("no id: {other:?}"),
        }
    }
    let id = command.id.as_ref();
    match &command.request {
        Request::Ping => {
            assert_eq!(kind, "PING");
            is_reply(|out| reply::pong(out, id), "PONG", None, id);
        }
        Request::Auth { token } => {
            assert_eq!(kind, "AUTH");
            assert_eq!(string(fields, "token").as_deref(), Some(&**token));
            is_reply(|out| reply::authenticated(out, token, Some(1), id), "AUTHENTICATED", None, id);
        }
        Request::Subscribe { room, start, presence } => {
            assert_eq!(kind, "SUBSCRIBE");
            assert_eq!(*presence, field(fields, "presence") == Some("true"));
            is_room(room, fields);
            begins(*start, fields);
            is_reply(|out| reply::subscribed(out, room, id, None, None), "SUBSCRIBED", Some(room), id);
        }
        Request::Unsubscribe { room } => {
            assert_eq!(kind, "UNSUBSCRIBE");
            is_room(room, fields);
            is_reply(|out| reply::unsubscribed(out, room, id, None), "UNSUBSCRIBED", Some(room), id);
        }
        Request::SendMessage { room, message, echo, store, key } => {
            assert_eq!(kind, "SEND_MESSAGE");
            is_room(room, fields);
            assert_eq!(fields.get("message").map(|message| message.get()), Some(*message));
            assert_eq!(
                field(fields, "echo"),
                if *echo { field(fields, "echo").and(Some("true")) } else { Some("false") }
            );
            assert_eq!(*store, field(fields, "store") != Some("false"));
            assert_eq!(key.as_deref(), string(fields, "key").as_deref());
            assert!(key.as_ref().is_none_or(|key| *store && (1..=128).contains(&key.len())));
            travels(room, message);
        }
        Request::History { room, from, epoch, limit } => {
            assert_eq!(kind, "HISTORY");
            is_room(room, fields);
            assert!((1..=1_000).contains(limit));
            assert_eq!(epoch.is_some(), field(fields, "epoch").is_some());
            let number = |name| field(fields, name).and_then(|number| number.parse::<u64>().ok());
            let expected = match *from {
                HistoryFrom::Newest => (None, None),
                HistoryFrom::After(offset) => (Some(offset), None),
                HistoryFrom::Before(offset) => (None, Some(offset)),
            };
            assert_eq!((number("after"), number("before")), expected);
            let name = [string(fields, "room"), string(fields, "roomId")];
            assert!(name.iter().flatten().any(|name| name == room));
        }
        Request::Presence { room, limit, after } => {
            assert_eq!(kind, "PRESENCE");
            is_room(room, fields);
            let asked = field(fields, "limit").map_or(100, |limit| limit.parse::<u64>().expect("a number"));
            assert_eq!(u64::from(*limit), asked.min(1_000));
            assert_eq!(after.as_deref(), string(fields, "after").as_deref());
            let users = [(after.as_deref().unwrap_or("u"), 1, "{}")];
            is_reply(|out| reply::present(out, room, id, users.into_iter(), (1, false)), "PRESENT", Some(room), id);
            is_reply(|out| reply::present_total(out, room, id, 1), "PRESENT", Some(room), id);
        }
    }
}

/// Where the member begins is what it said.
fn begins(start: Start, fields: &Fields<'_>) {
    match start {
        Start::Live => assert_eq!((field(fields, "since"), field(fields, "history")), (None, None)),
        Start::Newest(messages) => {
            let asked: u64 = field(fields, "history").and_then(|number| number.parse().ok()).expect("a number");
            assert_eq!(u64::from(messages), asked.min(u32::MAX.into()));
        }
        Start::Since(place) => {
            let since: Value = serde_json::from_str(field(fields, "since").expect("it is there")).expect("an object");
            assert_eq!(since["offset"].as_u64(), Some(place.offset));
            let epoch = since["epoch"].as_str().expect("a string");
            assert!(epoch == place.epoch.to_string() || place.epoch.ordinal == 0, "{epoch}");
        }
    }
}

fn is_room(room: &str, fields: &Fields<'_>) {
    let names = [string(fields, "room"), string(fields, "roomId")];
    assert!(names.iter().any(Option::is_some) && names.iter().flatten().all(|name| name == room), "{names:?} {room}");
    assert!((1..=ROOM_NAME_BYTES_MAX).contains(&room.len()) && !room.chars().any(char::is_control), "{room:?}");
}

/// The message comes out as it went in, to the letter, in each of its forms.
fn travels(room: &str, message: &str) {
    let (mut text, mut classic) = (Vec::new(), Vec::new());
    reply::message(&mut text, room, message);
    reply::classic(&mut classic, room, message, Some("an except"));
    for (text, kind, name) in [(&text, "MESSAGE", "room"), (&classic, "SEND_MESSAGE", "roomId")] {
        assert!(is_json(text), "{}", text.escape_ascii());
        let fields: Fields<'_> = serde_json::from_slice(text).expect("an object");
        assert_eq!(string(&fields, "type").as_deref(), Some(kind));
        assert_eq!(string(&fields, name).as_deref(), Some(room));
        assert_eq!(fields["message"].get(), message);
    }
    let bare = reply::parse_message(&text).expect("a message");
    // Half a surrogate pair is no string to Rust; such a message stays as it is written.
    assert_eq!(bare, serde_json::from_str::<String>(message).unwrap_or_else(|_| message.to_owned()));
    let classic = reply::parse_classic(std::str::from_utf8(&classic).expect("UTF-8")).expect("a publish");
    assert_eq!((classic.message(), classic.except()), (message, Some("an except")));
}

fn is_reply(write: impl FnOnce(&mut Vec<u8>), kind: &str, room: Option<&str>, id: Option<&CommandId>) {
    let mut text = Vec::new();
    write(&mut text);
    let value: Value = serde_json::from_slice(&text).expect("JSON");
    assert_eq!(value["type"], kind);
    assert_eq!(value["room"].as_str(), room);
    let fields: Fields<'_> = serde_json::from_slice(&text).expect("an object");
    assert_eq!(field(&fields, "id"), id.map(CommandId::as_json));
}

fn refused(refusal: &Refusal<'_>, fields: Option<&Fields<'_>>) {
    let Refusal { code, reason, id, room, .. } = refusal;
    assert!(reason.len() <= REASON_BYTES_MAX, "{reason}");
    is_reply(
        |out| reply::error(out, *code, reason, id.as_ref(), room.as_deref()),
        "ERROR",
        room.as_deref(),
        id.as_ref(),
    );
    match (code, fields) {
        (ErrorCode::BadJson, None) => assert!(id.is_none() && room.is_none()),
        (ErrorCode::BadJson, Some(_)) => assert!(reason.contains("duplicate field"), "an object is refused: {reason}"),
        (_, None) => panic!("{code:?} for what is no object"),
        (_, Some(fields)) => {
            assert!(id.is_none() || id.as_ref().map(CommandId::as_json) == field(fields, "id"));
            assert!(
                room.is_none() || [string_or_none(fields, "room"), string_or_none(fields, "roomId")].contains(room)
            );
        }
    }
}

fn string_or_none<'a>(fields: &Fields<'_>, name: &str) -> Option<std::borrow::Cow<'a, str>> {
    field(fields, name).and_then(|value| serde_json::from_str(value).ok()).map(std::borrow::Cow::Owned)
}
