//! What the model knows of messages on their way to the broker: a message waits while a SUBSCRIBE of its sender for the room does
//! that was sent before it; messages of one sender to one room are published in their order; and none is lost.

use super::World;
use super::received::message_of;
use fanfare_core::ConnId;
use fanfare_core::broker::PublishId;
use fanfare_core::time::Time;
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

/// A core may give up waiting when it has waited for so long.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It may not be published yet.
    Waits,
    /// It has been or will be published.
    Due,
    /// Its sender is told that it is not published, or else it is.
    Uncertain,
    /// Its sender is told that it is not published.
    Refused,
    Published,
}

#[derive(Debug)]
struct Sent {
    conn: ConnId,
    room: String,
    at: Time,
    /// Whether its sender can be told that it is not published.
    is_told: bool,
    fate: Fate,
}

/// All that were sent, by their numbers.
#[derive(Debug, Default)]
pub(super) struct Publishes {
    sent: BTreeMap<u64, Sent>,
    /// The last published of each sender to each room.
    last: BTreeMap<(ConnId, String), u64>,
}

impl Publishes {
    /// A message is sent. With `waits`, behind a SUBSCRIBE that waits for a broker which is up; `None` if that is away.
    pub fn send(&mut self, number: u64, conn: ConnId, room: &str, at: Time, is_told: bool, waits: Option<bool>) {
        let fate = match waits {
            Some(true) => Fate::Waits,
            None if is_told => Fate::Refused,
            Some(false) | None => Fate::Due,
        };
        self.sent.insert(number, Sent { conn, room: room.to_owned(), at, is_told, fate });
    }

    fn end(&mut self, which: impl Fn(&Sent) -> bool, told: Fate) {
        for sent in self.sent.values_mut().filter(|sent| sent.fate == Fate::Waits && which(sent)) {
            sent.fate = if sent.is_told { told } else { Fate::Due };
        }
    }

    /// The broker has answered the SUBSCRIBEs for a room.
    pub fn answered(&mut self, room: &str) {
        self.end(|sent| sent.room == room, Fate::Due);
    }

    /// A client has left a room.
    pub fn left(&mut self, conn: ConnId, room: &str) {
        self.end(|sent| sent.conn == conn && sent.room == room, Fate::Due);
    }

    /// The broker is away. What a sender had to wait with that is over has been asked for.
    pub fn outage(&mut self, is_over: impl Fn(ConnId) -> bool) {
        self.end(|sent| is_over(sent.conn), Fate::Uncertain);
        self.end(|_| true, Fate::Refused);
    }

    /// Time has passed: what waits for long, and whatever waits with it, may be given up.
    pub fn pass(&mut self, now: Time) {
        let unpublished = self.sent.values().filter(|sent| !matches!(sent.fate, Fate::Published | Fate::Refused));
        let old = unpublished.filter(|sent| sent.at + PATIENCE <= now);
        let old: Vec<_> = old.map(|sent| (sent.conn, sent.room.clone())).collect();
        self.end(|sent| old.iter().any(|(conn, room)| *conn == sent.conn && *room == sent.room), Fate::Uncertain);
    }

    /// The core hands a message to the broker. A sender that is over has been closed, or may have been.
    pub fn publish(&mut self, number: u64, is_over: impl Fn(ConnId) -> bool) {
        let Some(sent) = self.sent.get_mut(&number) else { return };
        let early = sent.fate == Fate::Waits && !is_over(sent.conn);
        assert!(!early, "message {number} overtakes the SUBSCRIBE before it: {sent:?}");
        assert!(!matches!(sent.fate, Fate::Refused | Fate::Published), "message {number} is published: {sent:?}");
        sent.fate = Fate::Published;
        let last = self.last.insert((sent.conn, sent.room.clone()), number);
        assert!(last.is_none_or(|last| last < number), "message {number} is published behind {last:?}");
    }

    /// Whether the core is about to ask the broker to publish something of this client's, of which it will tell it, or may be.
    pub fn is_due(&self, conn: ConnId) -> bool {
        self.is_told_of(conn, Fate::Due) || self.is_uncertain(conn)
    }

    /// Whether nobody knows if this client is yet to be told of something.
    pub fn is_uncertain(&self, conn: ConnId) -> bool {
        self.is_told_of(conn, Fate::Uncertain)
    }

    fn is_told_of(&self, conn: ConnId, fate: Fate) -> bool {
        self.sent.values().any(|sent| sent.conn == conn && sent.is_told && sent.fate == fate)
    }

    /// The sender of a message, if it is told what becomes of it.
    pub fn told_sender(&self, number: u64) -> Option<ConnId> {
        self.sent.get(&number).filter(|sent| sent.is_told).map(|sent| sent.conn)
    }

    /// Everything has come to rest: all was published of those who were certainly listened to.
    pub fn check_all(&self, was_heard: impl Fn(ConnId) -> bool) {
        for (number, sent) in self.sent.iter().filter(|(_, sent)| was_heard(sent.conn)) {
            assert!(!matches!(sent.fate, Fate::Waits | Fate::Due), "message {number} is lost: {sent:?}");
        }
    }
}

impl World {
    /// A client that is still listened to has sent a message.
    pub(super) fn note_send(&mut self, conn: ConnId, room: &str, has_id: bool) {
        let model = &self.model[&conn];
        if model.over || self.drained_at.is_some() {
            return;
        }
        let waits = model.rooms.get(room).is_some_and(|membership| membership.waiting);
        let waits = (self.up || !waits).then_some(waits);
        self.publishes.send(self.sent, conn, room, self.now, has_id && !model.bare, waits);
    }

    /// The core asks the broker to publish a message; one that is none of the model's own is of no interest to it.
    pub(super) fn note_publish(&mut self, payload: &[u8], id: Option<PublishId>) {
        let Some(number) = published_message(payload)[0].as_u64() else { return };
        let (model, lagged) = (&self.model, &self.lagged);
        self.publishes.publish(number, |conn| model[&conn].over || lagged.contains(&conn));
        if let (Some(id), Some(conn)) = (id, self.publishes.told_sender(number)) {
            self.owed.insert(id, conn);
        }
    }
}

/// The array in what is published of one of the model's messages.
pub(super) fn published_message(payload: &[u8]) -> Value {
    let text = std::str::from_utf8(payload).expect("UTF-8").split_once('\n').expect("a header line").1;
    message_of(&serde_json::from_str(text).expect("JSON"))
}
