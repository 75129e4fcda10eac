//! What the model knows of one client: where it is, and what it must be sent. Not how that reaches it.

use super::received::{Token, frames, ids_of, rooms_of};
use fanfare_core::ConnId;
use fanfare_core::time::Time;
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
    /// Not forgiven, as a leaky bucket: microseconds that make good for all of them.
    pub errors_us: u64,
    pub errors_at: Time,
    /// It sent one error too many.
    pub errs: bool,
    /// It gets messages alone.
    pub bare: bool,
    /// It has one room, and no commands.
    pub broadcasts: bool,
    /// It reads an event stream, and has nothing to say.
    pub reads: bool,
    /// Someone else reads and writes its frames.
    pub by_message: bool,
    /// It asked for its own end, or the server ended it: what was expected may not come any more.
    pub over: bool,
}

/// Malformed commands that are borne at once; small, so that the limit is met.
pub(super) const ERRORS_MAX: u16 = 2;
/// How many of them a minute forgives.
pub(super) const ERRORS_PER_MINUTE: u32 = 60;
const US_PER_ERROR: u64 = 60_000_000 / ERRORS_PER_MINUTE as u64;

impl Client {
    /// A command that is none. Returns whether that is one too many.
    pub fn err(&mut self, now: Time) -> bool {
        self.errors_us = self.errors_us.saturating_sub(now.since(self.errors_at).as_micros() as u64);
        self.errors_at = now;
        if self.errors_us.div_ceil(US_PER_ERROR) >= u64::from(ERRORS_MAX) {
            self.errs = true;
            return true;
        }
        self.errors_us += US_PER_ERROR;
        false
    }

    /// A good command.
    pub fn forgive(&mut self) {
        self.errors_us = self.errors_us.saturating_sub(US_PER_ERROR);
    }

    pub fn expect(&mut self, room: &str, token: Token) {
        if !self.bare || matches!(token, Token::Message(_)) {
            self.expected.entry(room.to_owned()).or_default().push(token);
        }
    }

    /// Whether a SUBSCRIBE of its own has no answer.
    pub fn waits_for_a_room(&self) -> bool {
        self.rooms.values().any(|room| room.waiting)
    }

    /// What it received is the beginning of what was expected, in every room.
    pub fn check(&self, conn: ConnId, received: &[u8]) {
        let frames = frames(received);
        assert!(ids_of(&frames).is_subset(&self.ids), "{conn:?} is answered what it asked");
        for (room, got) in rooms_of(&frames) {
            let expected = without_repeated(self.expected.get(&room).map_or(&[], Vec::as_slice));
            let got = without_repeated(&got);
            assert_eq!(expected.get(..got.len()), Some(&got[..]), "{conn:?} in {room}");
        }
    }
}

/// What is said to who is a member already, and subscribes again, has no place in the order of the room: messages come at its pace.
pub(super) fn without_repeated(tokens: &[Token]) -> Vec<Token> {
    let (mut is_member, mut kept) = (false, Vec::new());
    for token in tokens {
        let repeats = matches!(token, Token::Subscribed) && is_member;
        is_member = match token {
            Token::Subscribed => true,
            Token::Unsubscribed => false,
            _ => is_member,
        };
        if !repeats {
            kept.push(token.clone());
        }
    }
    kept
}
