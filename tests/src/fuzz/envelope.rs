//! Whatever is found on a channel: members get UTF-8 in whole frames, in the form of their dialect, and what no reader of JSON
//! takes for anything but a `MESSAGE` of their room.

use super::json::is_json;
use crate::lone_core::{LoneCore, Said};
use crate::{config, upgrade_request};
use fanfare_core::ConnId;
use fanfare_core::broker::BrokerEvent;
use fanfare_core::broker::envelope::{Dropped, Except, Opened, open, write_header};
use fanfare_core::protocol::reply;
use fanfare_core::ws::encode;
use serde_json::Value;

/// Names that need escaping, names that look like something else, and a plain one.
const ROOMS: [&str; 4] = ["r", "\"\\", "é😀", "null"];

/// This instance. Its first connection is [`Members::fanfare`], so `F1 …0f 0000000000000000` spares that.
const NODE: u64 = 15;

/// The first byte chooses the room; the payload follows.
pub fn envelope(data: &[u8]) {
    let [room, payload @ ..] = data else { return };
    let room = ROOMS[usize::from(room % 4)];
    let mut scratch = Vec::new();
    let opened = open(room, payload, &mut scratch);
    match opened {
        Ok(_) => {}
        Err(Dropped::NotUtf8) => assert!(std::str::from_utf8(payload).is_err()),
        Err(_) => assert!(payload.starts_with(b"F") && payload.contains(&b' '), "any other text is delivered"),
    }
    if let Ok(Opened { text, .. }) = opened {
        check_text(room, payload, text);
        is_forwarded(room, text);
    }
    reaches_members(room, payload, opened);
}

fn check_text(room: &str, payload: &[u8], text: &[u8]) {
    assert!(std::str::from_utf8(text).is_ok());
    // Only the message may be beyond what serde makes a value of.
    if let Ok(value) = serde_json::from_slice::<Value>(text) {
        assert_eq!((&value["type"], &value["room"]), (&"MESSAGE".into(), &room.into()));
        assert_eq!(value.as_object().map(serde_json::Map::len), Some(3));
    }
    // The text of an instance is forwarded unparsed, so that its message is JSON is the word of whoever can write to the channel.
    if payload.starts_with(b"F1 ") || payload.starts_with(b"F2 ") {
        return;
    }
    assert!(is_json(text), "{}", text.escape_ascii());
    if let Ok(value) = serde_json::from_slice::<Value>(text) {
        assert!(
            value["message"].as_str().is_none_or(|message| message.as_bytes() == payload) || payload.contains(&b'{')
        );
    }
    assert!(reply::parse_message(text).is_some(), "it has a bare form");
}

/// What is published comes out unchanged.
fn is_forwarded(room: &str, text: &[u8]) {
    for conn in [None, Some(ConnId::new(3, u32::MAX))] {
        let mut payload = Vec::new();
        write_header(&mut payload, NODE, conn);
        payload.extend_from_slice(text);
        let except = conn.map(|conn| Except { node: NODE, conn });
        assert_eq!(
            open(room, &payload, &mut Vec::new()),
            Ok(Opened { text, except, position: None, is_foreign: false })
        );
    }
}

/// One member of each form; two of the bare one, for the dialects differ.
struct Members {
    lone: LoneCore,
    fanfare: ConnId,
    classic: ConnId,
    broadcast: ConnId,
}

impl Members {
    fn of(room: &str) -> Members {
        let mut lone = LoneCore::new(config(|config| config.node = NODE));
        let [fanfare, classic, broadcast] = [(); 3].map(|()| lone.connect());
        let name: String = room.bytes().map(|byte| format!("%{byte:02x}")).collect();
        lone.bytes(fanfare, upgrade_request("/fanfare", ""));
        lone.bytes(classic, upgrade_request("/classic", ""));
        lone.bytes(broadcast, upgrade_request(&format!("/broadcast/{name}"), ""));
        let name = serde_json::to_string(room).expect("a string");
        for conn in [fanfare, classic] {
            lone.command(conn, &format!(r#"{{"type":"SUBSCRIBE","room":{name}}}"#));
        }
        lone.broker(BrokerEvent::Subscribed { room });
        assert_eq!(lone.core.metrics().memberships_now, 3);
        Members { lone, fanfare, classic, broadcast }
    }
}

fn reaches_members(room: &str, payload: &[u8], opened: Result<Opened<'_>, Dropped>) {
    let mut members = Members::of(room);
    let said = members.lone.broker(BrokerEvent::Message { room, payload });
    let Opened { text, except, .. } = match opened {
        Ok(opened) => opened,
        Err(dropped) => {
            let metrics = members.lone.core.metrics();
            let counted = match dropped {
                Dropped::NotUtf8 => metrics.messages_not_utf8,
                Dropped::Version => metrics.messages_of_other_versions,
                _ => metrics.messages_forged,
            };
            assert_eq!((said, counted), (vec![], 1));
            return;
        }
    };
    let bare = reply::parse_message(text);
    let bare = bare.as_ref().map(|bare| bare.as_bytes());
    let spared = except.filter(|except| except.node == NODE).map(|except| except.conn);
    for (conn, payload) in [(members.fanfare, Some(text)), (members.classic, bare), (members.broadcast, bare)] {
        let mut frame = Vec::new();
        if let Some(payload) = payload.filter(|_| spared != Some(conn)) {
            assert!(std::str::from_utf8(payload).is_ok());
            encode::text(&mut frame, payload);
        }
        let sent = said.iter().find_map(|said| match said {
            Said::Sent(to, bytes) if *to == conn => Some(&bytes[..]),
            _ => None,
        });
        assert_eq!(sent.unwrap_or_default(), frame, "{conn:?}");
    }
}
