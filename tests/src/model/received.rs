//! A client's bytes, read back: frames, inflated where they are compressed, replies, and what was said about each room.

use crate::event_stream::{EventStream, StreamEvent};
use crate::{Frame, head_bytes, inflated, opcode};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// What a client is sent about one room, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    Subscribed,
    Unsubscribed,
    Message(u64),
    /// Some messages did not come.
    Gap,
}

/// The whole frames behind the response head; a frame that is not there to its end is left out. Those of an event stream are what a WebSocket
/// would have been sent.
pub(super) fn frames(received: &[u8]) -> Vec<Frame> {
    if received.starts_with(b"HTTP/1.1 200 ") {
        return head_bytes(received).map_or_else(Vec::new, |head| frames_of_events(&received[head..]));
    }
    if !received.starts_with(b"HTTP/1.1 101 ") {
        return Vec::new();
    }
    let Some(head) = head_bytes(received) else { return Vec::new() };
    let mut rest = &received[head..];
    let mut frames = Vec::new();
    while let Some((frame, bytes)) = Frame::parse(rest) {
        let frame = inflated(frame);
        assert!(matches!(frame.opcode, opcode::TEXT | opcode::CLOSE), "an unexpected frame: {frame:?}");
        if frame.opcode == opcode::TEXT
            && let Err(error) = serde_json::from_slice::<Value>(&frame.payload)
        {
            panic!("every text is JSON, so every frame is whole; {error}: {}", String::from_utf8_lossy(&frame.payload));
        }
        frames.push(frame);
        rest = &rest[bytes..];
    }
    frames
}

fn frames_of_events(body: &[u8]) -> Vec<Frame> {
    let frame = |event: StreamEvent| {
        let text: Value = serde_json::from_str(&event.data).expect("every text is JSON, so every event is whole");
        assert_eq!(text["type"], event.kind, "an event has the type of its text");
        match text["code"].as_u64().filter(|_| event.kind == "CLOSED") {
            Some(code) => Frame::close(code.try_into().expect("a code"), text["reason"].as_str().expect("a reason")),
            None => Frame::text(&event.data),
        }
    };
    EventStream::read(body).events.into_iter().map(frame).collect()
}

/// The ids in the replies; none comes twice.
pub(super) fn ids_of(frames: &[Frame]) -> BTreeSet<u64> {
    let mut ids = BTreeSet::new();
    for frame in frames.iter().filter(|frame| frame.opcode == opcode::TEXT) {
        let value: Value = serde_json::from_slice(&frame.payload).expect("checked before");
        if let Some(id) = value["id"].as_u64() {
            assert!(ids.insert(id), "a second reply to {id}: {value}");
        }
    }
    ids
}

/// The array in a `MESSAGE`: what a broadcaster sent is the text of it.
pub(super) fn message_of(value: &Value) -> Value {
    let text = value["message"].as_str().and_then(|text| serde_json::from_str(text).ok());
    text.unwrap_or_else(|| value["message"].clone())
}

pub(super) fn rooms_of(frames: &[Frame]) -> BTreeMap<String, Vec<Token>> {
    let mut rooms: BTreeMap<String, Vec<Token>> = BTreeMap::new();
    for frame in frames.iter().filter(|frame| frame.opcode == opcode::TEXT) {
        let value: Value = serde_json::from_slice(&frame.payload).expect("checked before");
        // A bare message; the model's own name their rooms.
        if let Some([number, _, room]) = value.as_array().map(Vec::as_slice) {
            let room = room.as_str().expect("a room").to_owned();
            rooms.entry(room).or_default().push(Token::Message(number.as_u64().expect("a number")));
            continue;
        }
        let token = match value["type"].as_str() {
            Some("SUBSCRIBED") => Token::Subscribed,
            Some("UNSUBSCRIBED") => Token::Unsubscribed,
            Some("GAP") => Token::Gap,
            Some("MESSAGE") => Token::Message(message_of(&value)[0].as_u64().unwrap_or(0)),
            _ => continue,
        };
        rooms.entry(value["room"].as_str().expect("a room").to_owned()).or_default().push(token);
    }
    rooms
}
