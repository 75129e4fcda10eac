//! A connection that asks a real Redis for rooms' histories and for who is there, with the commands and the readers of the core.

use std::io::{Read, Write};
use std::net::TcpStream;

use fanfare_core::broker::redis::history::{self, HistoryError, ReadReply, Room, Script};
use fanfare_core::broker::redis::presence::commands::{self as presence, Done, Kind, PresenceError};
use fanfare_core::broker::redis::resp::{Limits, Reply, Scan, scan};
use fanfare_core::history::{IdempotencyKey, Query, Remove, StoredAt};

use crate::{DEADLINE, Redis};

const LIMITS: Limits = Limits { message_bytes_max: 16 << 20, reply_bytes_max: 16 << 20 };

/// What became of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Where the message is.
    pub at: StoredAt,
    /// Redis's clock.
    pub time_ms: u64,
    /// Whether it was published.
    pub is_announced: bool,
    /// What went wrong after it was stored.
    pub trouble: String,
}

/// [`HistoryError`], which can be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Redis does not know the script.
    NoScript,
    /// The key is another message's.
    KeyReused,
    /// What is to be removed is not there.
    NoMessage,
    /// What is to be removed is of another epoch.
    EpochUnknown,
    /// Redis cannot keep histories, and why.
    Unavailable(String),
    /// Another error.
    Refused(String),
    /// Not what a script replies.
    Malformed,
}

impl From<HistoryError<'_>> for Failure {
    fn from(error: HistoryError<'_>) -> Failure {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match error {
            HistoryError::NoScript => Failure::NoScript,
            HistoryError::KeyReused => Failure::KeyReused,
            HistoryError::NoMessage => Failure::NoMessage,
            HistoryError::EpochUnknown => Failure::EpochUnknown,
            HistoryError::Unavailable(reason) => Failure::Unavailable(text(reason)),
            HistoryError::Refused(reason) => Failure::Refused(text(reason)),
            _ => Failure::Malformed,
        }
    }
}

/// The connection. Redis knows the scripts.
pub struct HistoryLink {
    stream: TcpStream,
    received: Vec<u8>,
}

impl HistoryLink {
    /// Connects as a user, or as the default one if that has no password.
    ///
    /// # Panics
    ///
    /// If Redis does not do what it is told.
    pub fn connect(redis: &Redis, credentials: Option<[&str; 2]>) -> HistoryLink {
        let stream = TcpStream::connect(("127.0.0.1", redis.port())).expect("redis listens");
        stream.set_read_timeout(Some(DEADLINE)).expect("a socket");
        stream.set_nodelay(true).expect("a socket");
        let mut link = HistoryLink { stream, received: Vec::new() };
        // As servers do.
        let login = credentials.map_or(String::new(), |[user, password]| format!(" AUTH {user} {password}"));
        link.ask(format!("HELLO 3{login}\r\n").as_bytes(), |reply| {
            assert!(matches!(reply, Reply::Map(_)), "{reply:?}")
        });
        for script in Script::ALL {
            let mut command = Vec::new();
            history::load(&mut command, script);
            link.ask(&command, |reply| assert_eq!(*reply, Reply::Bulk(script.sha1().as_bytes())));
        }
        link
    }

    /// Stores a message.
    ///
    /// # Errors
    ///
    /// What Redis says.
    pub fn store(
        &mut self,
        room: &Room<'_>,
        drawn: u64,
        key: Option<&IdempotencyKey<'_>>,
        payload: &[u8],
    ) -> Result<Kept, Failure> {
        let mut command = Vec::new();
        history::store(&mut command, room, drawn, key, payload);
        self.write(&command)
    }

    /// Removes messages.
    ///
    /// # Errors
    ///
    /// What Redis says.
    pub fn remove(&mut self, room: &Room<'_>, drawn: u64, remove: &Remove) -> Result<Kept, Failure> {
        let mut command = Vec::new();
        history::remove(&mut command, room, drawn, remove, remove.what.payload().as_bytes());
        self.write(&command)
    }

    fn write(&mut self, command: &[u8]) -> Result<Kept, Failure> {
        self.ask(command, |reply| {
            let stored = history::parse_stored(reply)?;
            let trouble = String::from_utf8_lossy(stored.trouble).into_owned();
            Ok(Kept { at: stored.at, time_ms: stored.time_ms, is_announced: stored.is_announced, trouble })
        })
    }

    /// Reads a part of a room's history.
    ///
    /// # Errors
    ///
    /// What Redis says.
    pub fn read(&mut self, room: &Room<'_>, drawn: u64, query: &Query) -> Result<ReadReply, Failure> {
        let mut command = Vec::new();
        history::read(&mut command, room, drawn, query);
        self.ask(&command, |reply| Ok(history::parse_page(reply)?))
    }

    /// Makes the scripts of presence known.
    ///
    /// # Panics
    ///
    /// If Redis does not do what it is told.
    pub fn load_presence(&mut self) {
        for script in presence::Script::ALL {
            let source = script.source();
            let command = format!("*3\r\n$6\r\nSCRIPT\r\n$4\r\nLOAD\r\n${}\r\n{source}\r\n", source.len());
            self.ask(command.as_bytes(), |reply| assert_eq!(*reply, Reply::Bulk(script.sha1().as_bytes())));
        }
    }

    /// Runs a command of presence.
    ///
    /// # Errors
    ///
    /// What Redis says.
    pub fn presence(&mut self, kind: Kind, command: &[u8]) -> Result<Done, String> {
        self.ask(command, |reply| match presence::parse(kind, reply) {
            Ok((done, b"")) => Ok(done),
            Ok((_, trouble)) => Err(String::from_utf8_lossy(trouble).into_owned()),
            Err(PresenceError::Refused(error) | PresenceError::Unavailable(error)) => {
                Err(String::from_utf8_lossy(error).into_owned())
            }
            Err(error) => Err(format!("{error:?}")),
        })
    }

    fn ask<T>(&mut self, command: &[u8], answer: impl FnOnce(&Reply<'_>) -> T) -> T {
        self.stream.write_all(command).expect("redis takes commands");
        loop {
            match scan(&self.received, &LIMITS).expect("RESP") {
                Scan::Reply { reply, len } => {
                    let answer = answer(&reply);
                    self.received.drain(..len);
                    return answer;
                }
                Scan::Incomplete { .. } => {
                    let mut chunk = [0; 16 * 1024];
                    let count = self.stream.read(&mut chunk).expect("a reply within the deadline");
                    assert!(count > 0, "redis closes the connection");
                    self.received.extend_from_slice(&chunk[..count]);
                }
                other => panic!("no reply: {other:?}"),
            }
        }
    }
}
