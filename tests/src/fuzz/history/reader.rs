//! What a client has heard, and what it must hear.

use crate::Frame;
use fanfare_core::broker::envelope::open_sent;
use fanfare_core::history::{Epoch, Position, RoomLog};
use fanfare_wire::head_bytes;
use serde_json::Value;
use std::collections::BTreeMap;

/// Everything that was ever stored, by room, epoch and offset; and for each epoch, out of which it began and where.
#[derive(Debug, Default)]
pub struct Lives {
    texts: BTreeMap<(String, Position), String>,
    parents: BTreeMap<(String, Epoch), (Option<Epoch>, u64)>,
}

impl Lives {
    pub fn stored(&mut self, room: &str, before: &RoomLog, position: Position, payload: &[u8]) {
        self.began(room, before, position);
        let text = open_sent(room, payload).expect("instances publish messages").text;
        let message: Value = serde_json::from_slice(text).expect("a message");
        let text = message["message"].as_str().expect("a text").to_owned();
        self.texts.insert((room.to_owned(), position), text);
    }

    /// The room has this epoch now.
    pub fn began(&mut self, room: &str, before: &RoomLog, now: Position) {
        let before = before.position();
        let parent = (before.map(|before| before.epoch), before.map_or(0, |before| before.offset));
        self.parents.entry((room.to_owned(), now.epoch)).or_insert(parent);
    }

    /// What was stored at this place of this epoch, or of one that it went on from.
    fn text(&self, room: &str, mut place: Position) -> Option<&String> {
        loop {
            if let Some(text) = self.texts.get(&(room.to_owned(), place)) {
                return Some(text);
            }
            let (parent, fence) = self.parents.get(&(room.to_owned(), place.epoch))?;
            if place.offset > *fence {
                return None;
            }
            place.epoch = (*parent)?;
        }
    }
}

/// How a client stands with a room.
#[derive(Debug, Default)]
struct Membership {
    /// What it has seen, and been told of.
    at: Option<Position>,
    /// Its last SUBSCRIBE, if the answer has yet to come: with what id and what place.
    asked: Option<(u64, Option<Position>)>,
    is_member: bool,
    /// It was told of a gap since its SUBSCRIBED, before any message.
    recovered: Option<bool>,
}

#[derive(Debug, Default)]
pub struct Reader {
    rooms: BTreeMap<String, Membership>,
    bytes: Vec<u8>,
    is_upgraded: bool,
    /// How often it has asked to join a room.
    asked: u64,
}

impl Reader {
    /// The command by which it joins the room, from where it was.
    pub fn subscribe(&mut self, room: &str, how: usize) -> String {
        let membership = self.rooms.entry(room.to_owned()).or_default();
        if membership.asked.is_some() || membership.is_member {
            return format!(r#"{{"type":"SUBSCRIBE","room":"{room}"}}"#);
        }
        self.asked += 1;
        let (id, mut since, mut start) = (self.asked, None, String::new());
        match membership.at {
            Some(at) if how % 4 != 3 => {
                since = Some(at);
                start = format!(r#","since":{{"epoch":"{}","offset":{}}}"#, at.epoch, at.offset);
            }
            _ if how % 4 == 1 => start = format!(r#","history":{how}"#),
            _ => {}
        }
        membership.asked = Some((id, since));
        format!(r#"{{"type":"SUBSCRIBE","room":"{room}","id":{id}{start}}}"#)
    }

    /// It has sent an UNSUBSCRIBE. What it is told until the answer counts.
    pub fn leaves(&mut self, room: &str) {
        self.rooms.entry(room.to_owned()).or_default().asked = None;
    }

    /// Its connection is gone.
    pub fn is_cut_off(&mut self) {
        (self.bytes, self.is_upgraded) = (Vec::new(), false);
        for membership in self.rooms.values_mut() {
            (membership.is_member, membership.asked) = (false, None);
        }
    }

    /// The rooms that it was in.
    pub fn rooms(&self) -> Vec<String> {
        self.rooms.iter().filter(|(_, membership)| membership.at.is_some()).map(|(room, _)| room.clone()).collect()
    }

    pub fn hears(&mut self, bytes: &[u8], lives: &Lives) {
        self.bytes.extend_from_slice(bytes);
        if !self.is_upgraded {
            let Some(head) = head_bytes(&self.bytes) else { return };
            self.bytes.drain(..head);
            self.is_upgraded = true;
        }
        while let Some((frame, taken)) = Frame::parse(&self.bytes) {
            self.bytes.drain(..taken);
            if let Ok(said) = serde_json::from_slice::<Value>(&frame.payload) {
                self.is_told(&said, lives);
            }
        }
    }

    fn is_told(&mut self, said: &Value, lives: &Lives) {
        let kind = said["type"].as_str().expect("a type");
        let Some(room) = said["room"].as_str() else { return };
        let membership = self.rooms.entry(room.to_owned()).or_default();
        let epoch = |name: &str| said[name].as_str().map(|epoch| epoch.parse::<Epoch>().expect("an epoch"));
        let number = |name: &str| said[name].as_u64();
        match kind {
            "SUBSCRIBED" => {
                let (Some(epoch), Some(offset)) = (epoch("epoch"), number("offset")) else {
                    panic!("a room with history: {said}");
                };
                let place = Position { epoch, offset };
                if membership.is_member {
                    assert_eq!(membership.at, Some(place), "nothing has changed: {said}");
                    return;
                }
                let recovered = said["recovered"].as_bool();
                // One that it has taken back with an UNSUBSCRIBE since is answered too, where its socket took the answer late.
                let asked = membership.asked.take_if(|(id, _)| said["id"] == *id);
                if let Some((_, Some(since))) = asked {
                    assert!(recovered.is_some(), "it wants to know: {said}");
                    if recovered == Some(true) {
                        assert_eq!(offset, since.offset, "all that it missed follows: {said}, since {since:?}");
                        assert_eq!(
                            lives.text(room, Position { epoch, offset }),
                            lives.text(room, since),
                            "it has seen nothing that is lost: {said}, since {since:?}"
                        );
                    }
                }
                membership.is_member = true;
                (membership.at, membership.recovered) = (Some(place), recovered);
            }
            "UNSUBSCRIBED" => membership.is_member = false,
            "MESSAGE" => {
                assert!(membership.is_member, "it is no member: {said}");
                let Some(offset) = number("offset") else {
                    assert_eq!(said["message"], "foreign");
                    return;
                };
                let at = membership.at.as_mut().expect("a member has a place");
                assert_eq!(offset, at.offset + 1, "each follows the one before: {said}, at {at:?}");
                at.offset = offset;
                let stored = lives.text(room, *at);
                assert_eq!(said["message"].as_str(), stored.map(String::as_str), "what was stored there: {said}");
            }
            "GAP" => {
                assert!(membership.is_member, "it is no member: {said}");
                let now = epoch("epoch").expect("a gap names its epoch");
                let at = membership.at.as_mut().expect("a member has a place");
                match (number("from"), number("to"), number("fence")) {
                    (Some(from), Some(to), None) => {
                        assert_eq!(now, at.epoch, "{said}, at {at:?}");
                        // One that comes right after SUBSCRIBED tells what that passed over.
                        let is_behind = membership.recovered == Some(false) && to == at.offset;
                        assert!(from <= to && (from == at.offset + 1 || is_behind), "{said}, at {at:?}");
                        at.offset = to;
                    }
                    (None, None, Some(fence)) => {
                        if membership.recovered == Some(false) && now == at.epoch {
                            // So does this.
                            return;
                        }
                        assert_eq!(epoch("previous"), Some(at.epoch), "{said}, at {at:?}");
                        assert!(fence <= at.offset, "{said}, at {at:?}");
                        *at = Position { epoch: now, offset: fence };
                    }
                    _ => panic!("no such gap: {said}"),
                }
            }
            "ERROR" => {
                if matches!(said["code"].as_str(), Some("history_unavailable" | "cancelled" | "broker_refused")) {
                    membership.asked.take_if(|(id, _)| said["id"] == *id);
                }
            }
            _ => {}
        }
    }

    /// It has seen all, or been told what it has not.
    pub fn has_all(&self, room: &str, last: Option<Position>) {
        let Some(membership) = self.rooms.get(room) else { return };
        assert!(membership.asked.is_none(), "its SUBSCRIBE of {room} is answered");
        if membership.is_member && last.is_some() {
            assert_eq!(membership.at, last, "{room}");
        }
    }
}
