//! What the model knows of one client: where it is, and what it must be sent. Not how that reaches it.

use super::received::{Token, frames, ids_of, rooms_of};
use fanfare_core::ConnId;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Membership {
    /// A SUBSCRIBE waits for the broker.
    pub waiting: bool,
}

#[derive(Debug, Default)]
pub(super) struct Client {
    pub expected: BTreeMap<String, Vec<Token>>,
    pub rooms: BTreeMap<String, Membership>,
    /// What it waits for or was told: the ids of its commands.
    pub ids: BTreeSet<u64>,
    pub errors: u16,
    /// It gets messages alone.
    pub bare: bool,
    /// It has one room, and no commands.
    pub broadcasts: bool,
    /// Someone else reads and writes its frames.
    pub by_message: bool,
    /// It asked for its own end, or the server ended it: what was expected may not come any more.
    pub over: bool,
}

impl Client {
    pub fn expect(&mut self, room: &str, token: Token) {
        if !self.bare || matches!(token, Token::Message(_)) {
            self.expected.entry(room.to_owned()).or_default().push(token);
        }
    }

    /// What it received is the beginning of what was expected, in every room.
    pub fn check(&self, conn: ConnId, received: &[u8]) {
        let frames = frames(received);
        assert!(ids_of(&frames).is_subset(&self.ids), "{conn:?} is answered what it asked");
        for (room, got) in rooms_of(&frames) {
            let expected = self.expected.get(&room).map_or(&[][..], Vec::as_slice);
            assert_eq!(expected.get(..got.len()), Some(&got[..]), "{conn:?} in {room}");
        }
    }
}
