//! A client that makes much work: what it says, each message with a number, and what of it the core is seen to have acted upon.

use crate::{COMPRESSED, Frame, deflated, opcode};
use fanfare_core::ConnId;
use fanfare_core::time::Time;
use std::collections::{BTreeMap, BTreeSet};

/// More than a command has beside its message.
const COMMAND_BYTES_MAX: usize = 400;

/// What it speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tongue {
    /// Commands with replies.
    Fanfare,
    /// Commands without.
    Classic,
    /// Texts to the one room.
    Broadcast,
}

/// One kind of message that makes more work than its bytes tell.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// To the large room, so long, compressed or not.
    Send {
        /// Of the message.
        bytes: usize,
        /// Whether it is.
        compressed: bool,
    },
    /// To a room with a long name.
    SendFar,
    /// A command that inflates to so much, and asks for nothing but a reply.
    Padded {
        /// Of blanks.
        bytes: usize,
    },
    /// A text of characters that JSON escapes.
    Escaped {
        /// Of such characters.
        bytes: usize,
    },
    /// As short as a text can be that is told from others.
    Tiny,
    /// A SUBSCRIBE, to one of several rooms.
    Subscribe(usize),
    /// An UNSUBSCRIBE.
    Unsubscribe(usize),
    /// A ping frame.
    Ping,
    /// A message in two frames, and a ping between them.
    Fragments,
    /// What inflates to more than a message may have.
    TooBig,
}

/// A message on its way, or what became of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sent {
    /// How many more bytes than its own it inflates to, where it is compressed.
    pub inflates_by: usize,
    /// Bytes of the message as members get it, as JSON.
    pub json_bytes: usize,
    /// Members that have been given it.
    pub given: usize,
}

/// The client, and its bill.
#[derive(Debug)]
pub struct Sender {
    /// Its connection.
    pub conn: ConnId,
    /// What it speaks.
    pub tongue: Tongue,
    /// Since when it is connected.
    pub since: Time,
    /// It has been told to go, or a close has been carried out.
    pub is_over: bool,
    /// All its messages.
    pub sent: BTreeMap<u64, Sent>,
    /// Those that have to be seen to be acted upon.
    pub awaited: BTreeSet<u64>,
    /// Bytes that were read of it.
    pub read: usize,
    /// Bytes that have been inflated for it beyond those that were read: those of the last message that the core has been seen to act
    /// upon, and of all before.
    pub inflated: usize,
    /// Bytes published for it.
    pub published: usize,
    /// Messages published.
    pub publishes: usize,
    /// Bytes said to it alone.
    pub said: usize,
    /// Deliveries, as they are charged.
    pub deliveries: usize,
    seen: u64,
    number: u64,
    next: u64,
}

impl Sender {
    /// A client with this number.
    pub fn new(number: u64, conn: ConnId, tongue: Tongue, since: Time) -> Sender {
        Sender {
            conn,
            tongue,
            since,
            is_over: false,
            sent: BTreeMap::new(),
            awaited: BTreeSet::new(),
            read: 0,
            inflated: 0,
            published: 0,
            publishes: 0,
            said: 0,
            deliveries: 0,
            seen: 0,
            number,
            next: 0,
        }
    }

    /// For people.
    pub fn bill(&self) -> String {
        let Sender { number, tongue, read, inflated, said, published, publishes, deliveries, .. } = self;
        format!(
            "client {number} ({tongue:?}): {read} bytes read, {inflated} more inflated, {said} said, {published} published in \
             {publishes}, {deliveries} deliveries; last seen {} of {}, awaited {:?}",
            self.seen, self.next, self.awaited
        )
    }

    /// The core has been seen to act upon this message, and so has read all before it.
    pub fn see(&mut self, message: u64) {
        self.awaited.remove(&message);
        if message > self.seen {
            let newer = self.sent.range(self.seen + 1..=message);
            self.inflated += newer.map(|(_, sent)| sent.inflates_by).sum::<usize>();
            self.seen = message;
        }
    }

    /// The bytes of one message of this kind.
    pub fn say(&mut self, kind: Kind, message_bytes_max: usize) -> Vec<u8> {
        self.next += 1;
        let (number, token) = (self.next, format!("#{}:{}#", self.number, self.next));
        let replies = self.tongue == Tongue::Fanfare;
        match kind {
            Kind::Ping => {
                self.awaited.insert(number);
                self.sent.insert(number, Sent::default());
                return Frame::new(opcode::PING, &token).masked();
            }
            Kind::TooBig => {
                // Nothing is seen of it but the close.
                let payload = deflated("x".repeat(message_bytes_max + 1));
                return Frame::text(payload).with_rsv(COMPRESSED).masked();
            }
            _ => {}
        }
        let room_for = |bytes: usize| bytes.min(message_bytes_max - COMMAND_BYTES_MAX);
        let (text, json_bytes) = match (self.tongue, kind) {
            (Tongue::Broadcast, Kind::Escaped { bytes }) => {
                let bytes = room_for(bytes);
                (format!("{token}{}", "\u{1}".repeat(bytes)), token.len() + 2 + 6 * bytes)
            }
            (Tongue::Broadcast, kind) => {
                let bytes = match kind {
                    Kind::Send { bytes, .. } | Kind::Padded { bytes } => room_for(bytes),
                    _ => 0,
                };
                (format!("{token}{}", "x".repeat(bytes)), token.len() + 2 + bytes)
            }
            (_, Kind::Subscribe(room)) => (self.command("SUBSCRIBE", &room_name(room), "", number), 0),
            (_, Kind::Unsubscribe(room)) => (self.command("UNSUBSCRIBE", &room_name(room), "", number), 0),
            (Tongue::Fanfare, Kind::Padded { bytes }) => {
                (self.command("PING", "", &" ".repeat(room_for(bytes)), number), 0)
            }
            (_, Kind::Padded { bytes }) => {
                let more = format!(r#","message":"{token}"{}"#, " ".repeat(room_for(bytes)));
                (self.command("SEND_MESSAGE", LARGE, &more, number), token.len() + 2)
            }
            (_, Kind::Tiny) => (token.clone(), 0),
            (_, kind) => {
                let (room, bytes) = match kind {
                    Kind::Send { bytes, .. } | Kind::Escaped { bytes } => (LARGE.to_owned(), room_for(bytes)),
                    _ => (room_name(0), 0),
                };
                let message = format!("{token}{}", "x".repeat(bytes));
                let more = format!(r#","message":"{message}""#);
                (self.command("SEND_MESSAGE", &room, &more, number), message.len() + 2)
            }
        };
        assert!(text.len() <= message_bytes_max, "{} bytes are too many for a message", text.len());
        // What is no command is answered without its number, or not at all.
        let publishes = self.tongue == Tongue::Broadcast || json_bytes > 0 && text.starts_with('{');
        let is_seen = publishes || replies && text.starts_with('{');
        if is_seen {
            self.awaited.insert(number);
        }
        let is_compressed = !matches!(kind, Kind::Send { compressed: false, .. } | Kind::Tiny | Kind::Fragments);
        let payload = if is_compressed { deflated(&text) } else { Vec::new() };
        let inflates_by = if is_compressed && is_seen { text.len().saturating_sub(payload.len()) } else { 0 };
        self.sent.insert(number, Sent { inflates_by, json_bytes, given: 0 });
        match kind {
            Kind::Fragments => {
                let (first, last) = text.split_at(text.len() / 2);
                let ping = self.say(Kind::Ping, message_bytes_max);
                [Frame::text(first).unfinished().masked(), ping, Frame::new(opcode::CONTINUATION, last).masked()]
                    .concat()
            }
            _ if is_compressed => Frame::text(payload).with_rsv(COMPRESSED).masked(),
            _ => Frame::text(text).masked(),
        }
    }

    fn command(&self, kind: &str, room: &str, more: &str, number: u64) -> String {
        let room =
            if room.is_empty() { String::new() } else { format!(r#","room":{}"#, serde_json::Value::from(room)) };
        format!(r#"{{"type":"{kind}","id":{number}{room}{more}}}"#)
    }
}

/// The room with many members.
pub const LARGE: &str = "large";

/// A room with a long name, which JSON makes longer still.
pub fn room_name(number: usize) -> String {
    format!("{}{number}", "\"".repeat(100))
}
