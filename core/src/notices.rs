//! What others are to be told of: who is connected, and which rooms have members. It is kept only where the configuration asks for it.

use crate::config::Config;
use crate::dialect::Dialect;
use crate::hash::{BySlot, Seeded};
use crate::id::ConnId;
use std::net::IpAddr;
use std::sync::Arc;

/// Notices that nobody has taken; further ones are lost. A turn makes some thousand at most.
const NOTICES_MAX: usize = 65_536;

/// Something that others are to be told of. Those of one connection, and those of one room, come in the order in which it happened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// A WebSocket or an event stream is open.
    Connected {
        /// Which one.
        conn: ConnId,
        /// Whose it is, if that is known from the start.
        user: Option<Box<str>>,
        /// Where it comes from, if that is known.
        address: Option<IpAddr>,
        /// What it speaks.
        dialect: Dialect,
    },
    /// It has become known whose connection it is.
    Identified {
        /// Which one.
        conn: ConnId,
        /// The user's name.
        user: Box<str>,
    },
    /// It is open no more. One for each that was.
    Disconnected {
        /// Which one.
        conn: ConnId,
        /// Whose it was, if that was known.
        user: Option<Box<str>>,
        /// Of the close frame, where there was one with a code.
        code: Option<u16>,
    },
    /// A room whose rule has [`Rule::occupancy`](crate::rules::Rule::occupancy) has its first member on this core.
    Occupied {
        /// Who is told: what the rule names.
        hook: Arc<str>,
        /// The room.
        room: Box<str>,
    },
    /// It has lost its last one.
    Vacated {
        /// Who is told: what the rule names.
        hook: Arc<str>,
        /// The room.
        room: Box<str>,
    },
}

/// The notices, and what has to be known for those to come.
#[derive(Debug)]
pub(crate) struct Notices {
    of_connections: bool,
    list: Vec<Notice>,
    open: BySlot<Open>,
}

#[derive(Debug, Default)]
struct Open {
    user: Option<Box<str>>,
    /// The code of the close frame, once there is one, with a code or without.
    end: Option<Option<u16>>,
}

impl Notices {
    pub fn new(config: &Config) -> Notices {
        let open = BySlot::with_hasher(Seeded::new(config.seed));
        Notices { of_connections: config.notices, list: Vec::new(), open }
    }

    fn push(&mut self, notice: Notice) {
        if self.list.len() < NOTICES_MAX {
            self.list.push(notice);
        }
    }

    pub fn opened(&mut self, conn: ConnId, dialect: Dialect, address: Option<IpAddr>) {
        if self.of_connections {
            self.open.insert(conn.slot() as u32, Open::default());
            self.push(Notice::Connected { conn, user: None, address, dialect });
        }
    }

    /// It is known whose connection it is, maybe for long.
    pub fn identified(&mut self, conn: ConnId, name: &str) {
        if !self.of_connections {
            return;
        }
        let Some(open) = self.open.get_mut(&(conn.slot() as u32)) else { return };
        if open.user.as_deref() == Some(name) {
            return;
        }
        open.user = Some(name.into());
        // Whose it is from the start is known a moment after.
        let connected = self.list.iter_mut().rev().find_map(|notice| match notice {
            Notice::Connected { conn: of, user, .. } if *of == conn => Some(user),
            _ => None,
        });
        match connected {
            Some(user) => *user = Some(name.into()),
            None => self.push(Notice::Identified { conn, user: name.into() }),
        }
    }

    /// It is about to be closed. The first reason counts.
    pub fn ends(&mut self, slot: u32, code: Option<u16>) {
        if self.of_connections
            && let Some(open) = self.open.get_mut(&slot)
        {
            open.end.get_or_insert(code);
        }
    }

    pub fn closed(&mut self, conn: ConnId) {
        if self.of_connections
            && let Some(Open { user, end }) = self.open.remove(&(conn.slot() as u32))
        {
            self.push(Notice::Disconnected { conn, user, code: end.flatten() });
        }
    }

    pub fn occupied(&mut self, hook: Arc<str>, room: &str) {
        self.push(Notice::Occupied { hook, room: room.into() });
    }

    pub fn vacated(&mut self, hook: Arc<str>, room: &str) {
        self.push(Notice::Vacated { hook, room: room.into() });
    }

    /// Takes the notices, in order.
    pub fn take(&mut self) -> impl Iterator<Item = Notice> + '_ {
        self.list.drain(..)
    }

    /// For checks: whose end will be told.
    pub fn tells_of(&self) -> Option<usize> {
        self.of_connections.then_some(self.open.len())
    }
}
