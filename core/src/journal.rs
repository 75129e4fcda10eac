//! What becomes of connections, for a log. It is kept only if [`Config::journal`](crate::Config::journal) asks for it: an entry for
//! each connection and each change of its rooms, never one for a message.

use crate::dialect::Dialect;
use crate::hash::Seeded;
use crate::id::ConnId;
use crate::time::Time;
use crate::ws::handshake::Response;
use hashbrown::HashMap;
use std::time::Duration;

/// Entries that nobody has taken; further ones are lost. A turn makes some thousand at most.
const ENTRIES_MAX: usize = 65_536;
/// Of a text of the client's or the broker's.
const TEXT_CHARS_MAX: usize = 200;

/// Something that became of a connection. Texts may be of the client's own choice: they are cut at 200 characters, and may hold any.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Entry {
    /// A WebSocket is open.
    Opened {
        /// Which one.
        conn: ConnId,
        /// What it speaks.
        dialect: Dialect,
    },
    /// A request was answered with something else than a WebSocket: a refusal, or a page.
    Answered {
        /// Whose request.
        conn: ConnId,
        /// The status of HTTP.
        status: u16,
        /// The text of the answer; empty for a page.
        text: Box<str>,
        /// Of the page that was refused, where it was because of that.
        origin: Option<Box<str>>,
    },
    /// It is known whose connection it is.
    Identified {
        /// Which one.
        conn: ConnId,
        /// The user's name.
        user: Box<str>,
    },
    /// It is a member of the room from now on.
    Joined {
        /// Who.
        conn: ConnId,
        /// Where.
        room: Box<str>,
    },
    /// It is no member any more, by its own wish or the broker's. A connection that is closed leaves all its rooms without an
    /// entry.
    Left {
        /// Who.
        conn: ConnId,
        /// Where.
        room: Box<str>,
    },
    /// A command was refused, whether or not the dialect has a word for it.
    Refused {
        /// Whose command.
        conn: ConnId,
        /// As in `ERROR`.
        code: &'static str,
        /// The room, where it was known.
        room: Option<Box<str>>,
    },
    /// A WebSocket is closed, or being closed.
    Closed {
        /// Which one.
        conn: ConnId,
        /// Of the close frame, where there was one with a code.
        code: Option<u16>,
        /// Why.
        reason: Box<str>,
        /// How long it was open.
        age: Duration,
        /// Text and binary messages that it sent.
        messages: u64,
    },
}

/// The entries, and what has to be known for those to come.
#[derive(Debug)]
pub(crate) struct Journal {
    is_kept: bool,
    entries: Vec<Entry>,
    /// Open WebSockets by slot.
    lives: HashMap<u32, Life, Seeded>,
    // What follows is kept in any case.
    /// The last one that was refused.
    refused_origin: Option<Box<str>>,
    /// The last one that the broker refused, and what it said.
    refused_room: Option<(Box<str>, Box<str>)>,
    /// The last one with history for which another program has published something. Kept in place, because it may change with every message.
    not_stored_room: String,
}

#[derive(Debug)]
struct Life {
    opened: Time,
    messages: u64,
    end: Option<(Option<u16>, Box<str>)>,
}

fn cut(text: &str) -> Box<str> {
    beginning(text).into()
}

fn beginning(text: &str) -> &str {
    text.char_indices().nth(TEXT_CHARS_MAX).map_or(text, |(end, _)| &text[..end])
}

impl Journal {
    pub fn new(is_kept: bool, seed: u64) -> Journal {
        Journal {
            is_kept,
            entries: Vec::new(),
            lives: HashMap::with_hasher(Seeded::new(seed)),
            refused_origin: None,
            refused_room: None,
            not_stored_room: String::new(),
        }
    }

    fn push(&mut self, entry: impl FnOnce() -> Entry) {
        if self.is_kept && self.entries.len() < ENTRIES_MAX {
            self.entries.push(entry());
        }
    }

    pub fn opened(&mut self, conn: ConnId, dialect: Dialect, now: Time) {
        if self.is_kept {
            self.lives.insert(conn.slot() as u32, Life { opened: now, messages: 0, end: None });
            self.push(|| Entry::Opened { conn, dialect });
        }
    }

    /// A message came.
    pub fn heard(&mut self, slot: u32) {
        if self.is_kept
            && let Some(life) = self.lives.get_mut(&slot)
        {
            life.messages += 1;
        }
    }

    /// Why a WebSocket is about to be closed. The first reason counts.
    pub fn ends(&mut self, slot: u32, code: Option<u16>, reason: &str) {
        if self.is_kept
            && let Some(life) = self.lives.get_mut(&slot)
        {
            life.end.get_or_insert_with(|| (code, cut(reason)));
        }
    }

    pub fn closed(&mut self, conn: ConnId, now: Time) {
        if let Some(Life { opened, messages, end }) =
            self.is_kept.then(|| self.lives.remove(&(conn.slot() as u32))).flatten()
        {
            let (code, reason) = end.unwrap_or_else(|| (None, "it ended without a close frame".into()));
            self.push(|| Entry::Closed { conn, code, reason, age: now.since(opened), messages });
        }
    }

    pub fn answered(&mut self, conn: ConnId, response: &Response<'_>) {
        self.answered_page(conn, response, None);
    }

    /// A page was refused because of its origin.
    pub fn refused_page(&mut self, conn: ConnId, response: &Response<'_>, origin: &str) {
        self.answered_page(conn, response, Some(cut(origin)));
        self.refused_origin = Some(cut(origin));
    }

    fn answered_page(&mut self, conn: ConnId, response: &Response<'_>, origin: Option<Box<str>>) {
        self.push(|| {
            let is_text = response.content_type.starts_with("text/plain");
            let text = if is_text { String::from_utf8_lossy(response.body) } else { "".into() };
            let status = response.status.split(' ').next().and_then(|status| status.parse().ok());
            Entry::Answered { conn, status: status.unwrap_or_default(), text: cut(text.trim()), origin }
        });
    }

    pub fn identified(&mut self, conn: ConnId, user: &str) {
        self.push(|| Entry::Identified { conn, user: cut(user) });
    }

    pub fn joined(&mut self, conn: ConnId, room: &str) {
        self.push(|| Entry::Joined { conn, room: cut(room) });
    }

    pub fn left(&mut self, conn: ConnId, room: &str) {
        self.push(|| Entry::Left { conn, room: cut(room) });
    }

    pub fn refused(&mut self, conn: ConnId, code: &'static str, room: Option<&str>) {
        self.push(|| Entry::Refused { conn, code, room: room.map(cut) });
    }

    /// The broker refused the subscription of a room.
    pub fn refused_room(&mut self, room: &str, reason: &str) {
        self.refused_room = Some((cut(room), cut(reason)));
    }

    /// Another program has published something for a room with history, which is not stored.
    pub fn not_stored(&mut self, room: &str) {
        self.not_stored_room.clear();
        self.not_stored_room.push_str(beginning(room));
    }

    /// The `Origin` of the page that was refused last because of it.
    pub fn last_refused_origin(&self) -> Option<&str> {
        self.refused_origin.as_deref()
    }

    /// The room whose subscription the broker refused last, and what the broker said.
    pub fn last_refused_room(&self) -> Option<(&str, &str)> {
        self.refused_room.as_ref().map(|(room, reason)| (&**room, &**reason))
    }

    /// The room with history for which another program has published something last; empty before that.
    pub fn last_not_stored_room(&self) -> &str {
        &self.not_stored_room
    }

    /// Takes the entries, in order.
    pub fn take(&mut self) -> impl Iterator<Item = Entry> + '_ {
        self.entries.drain(..)
    }

    /// For checks: whose end will be told.
    pub fn tells_of(&self) -> Option<usize> {
        self.is_kept.then_some(self.lives.len())
    }
}
