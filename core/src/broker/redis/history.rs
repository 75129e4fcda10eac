//! The history of rooms in Redis: the commands that run its scripts, and what they reply. No state; nothing is sent here.
//!
//! What a room has in Redis, beside its channel `<prefix><room>`, is called `<prefix>`, the character U+0001, a kind, `:` and the room:
//!
//! | kind | type | what |
//! |---|---|---|
//! | `meta` | hash | the epoch, its offset, how the epochs before it ended |
//! | `log` | stream | the messages that are kept, and removals, with ids `<offset>-<Unix ms>` |
//! | `keys0`, `keys1` | hash | two generations of idempotency keys, where the room has any |
//!
//! What is said there stands in `scripts/room.lua` and `scripts/store.lua`. A script is run by its [`Script::sha1`]; to
//! [`HistoryError::NoScript`] the answer is [`load`], and the same command again.
//!
//! In a Cluster, they are called as [`Names`] has it.
//!
//! What is published of a stored message is `F2 <epoch> <offset> ` and its payload.

use std::hash::Hasher;
use std::time::Duration;

use siphasher::sip::SipHasher13;

use super::RedisConfig;
use super::command;
use super::names::Names;
use super::resp::{Items, Reply};
use crate::broker::Store;
use crate::history::{
    Continuity, Epoch, IdempotencyKey, Page, Part, Position, Query, Removal, Remove, Retention, Stored, StoredAt,
    millis,
};

/// What is run in Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Script {
    /// Stores a message, or removes some, and publishes that.
    Store,
    /// The same where channels belong to the slots of a Cluster.
    StoreSharded,
    /// Reads a part of a room's history.
    Read,
}

impl Script {
    /// All of them.
    pub const ALL: [Script; 3] = [Script::Store, Script::StoreSharded, Script::Read];

    /// The one that stores where rooms are called so.
    pub fn storing(names: &Names<'_>) -> Script {
        if names.is_sharded() { Script::StoreSharded } else { Script::Store }
    }

    /// Those that are run where rooms are called so. The last one tells.
    pub fn of(names: &Names<'_>) -> [Script; 2] {
        [Script::storing(names), Script::Read]
    }

    /// Its text.
    pub const fn source(self) -> &'static str {
        match self {
            Script::Store => {
                concat!(
                    "local ANNOUNCE = 'PUBLISH'\n",
                    include_str!("scripts/room.lua"),
                    include_str!("scripts/store.lua")
                )
            }
            Script::StoreSharded => {
                concat!(
                    "local ANNOUNCE = 'SPUBLISH'\n",
                    include_str!("scripts/room.lua"),
                    include_str!("scripts/store.lua")
                )
            }
            Script::Read => concat!(include_str!("scripts/room.lua"), include_str!("scripts/read.lua")),
        }
    }

    /// The name under which Redis knows it: the SHA-1 of its text.
    pub const fn sha1(self) -> &'static str {
        match self {
            Script::Store => "a071bcc0b121418cca73b5e65c6d011c7d2e43b0",
            Script::StoreSharded => "53c75e738c011a30c5d0d4b2f93413d24942415f",
            Script::Read => "dab608b5eab44dd26b54507b60d3ca9f7b9a1ad3",
        }
    }
}

/// A room whose messages are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room<'a> {
    /// What rooms are called in Redis.
    pub names: Names<'a>,
    /// Its name.
    pub name: &'a str,
    /// How much is kept.
    pub retention: Retention,
    /// For how long its position is known when no message is kept any more; at least a second.
    pub meta_age_max: Duration,
}

impl<'a> Room<'a> {
    /// The room of this name, as this session has it.
    pub fn new(name: &'a str, retention: Retention, config: &'a RedisConfig) -> Room<'a> {
        Room { names: config.names(), name, retention, meta_age_max: config.history_meta_age_max }
    }
}

/// Redis's answer to [`store`] or [`remove`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreReply<'a> {
    /// Where the message is.
    pub at: StoredAt,
    /// Unix milliseconds, by Redis's clock.
    pub time_ms: u64,
    /// Whether it was published where it had to be. If not, it is stored all the same, and whoever reads finds it.
    pub is_announced: bool,
    /// What Redis refused after the message was stored, and why; empty if nothing.
    pub trouble: &'a [u8],
}

/// Redis's answer to [`read`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadReply {
    /// What is there.
    pub page: Page,
    /// Unix milliseconds, by Redis's clock.
    pub time_ms: u64,
}

/// Why there is no such answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HistoryError<'a> {
    /// Redis does not know the script.
    NoScript,
    /// The idempotency key belongs to another message. Nothing was stored.
    KeyReused,
    /// What is to be removed is not there.
    NoMessage,
    /// What is to be removed is of another epoch.
    EpochUnknown,
    /// This Redis cannot keep histories, for the reason that follows: it does not say which data it has.
    Unavailable(&'a [u8]),
    /// Another error of Redis. Nothing was stored.
    Refused(&'a [u8]),
    /// A list, and none of those that the scripts reply.
    Malformed,
    /// Neither a list nor an error.
    NoList,
}

/// Times longer than a hundred years are as good as these: Redis refuses an expiry that overflows.
const TTL_MS_MAX: u64 = 3_155_760_000_000;

/// A number for an epoch that may begin in this room: none that anybody else draws, where each has a seed of its own and counts up what it
/// has drawn.
pub(super) fn draw(seed: u64, number: u64, room: &str) -> u64 {
    let mut hasher = SipHasher13::new_with_keys(seed, number);
    hasher.write(room.as_bytes());
    hasher.finish()
}

/// Appends the command that makes a script known.
pub fn load(out: &mut Vec<u8>, script: Script) {
    command::command(out, &[b"SCRIPT", b"LOAD", script.source().as_bytes()]);
}

/// Appends the command that stores and publishes a message. `drawn` is random, for an epoch that begins.
pub fn store(out: &mut Vec<u8>, room: &Room<'_>, drawn: u64, key: Option<&IdempotencyKey<'_>>, payload: &[u8]) {
    let (keys, arguments) = if key.is_some() { (4, 11) } else { (2, 7) };
    begin(out, Script::storing(&room.names), keys, arguments);
    let kinds = ["meta", "log", "keys0", "keys1"];
    for kind in &kinds[..keys] {
        command::key(out, &room.names, kind, room.name);
    }
    life(out, room, drawn);
    command::channel(out, &room.names, room.name);
    command::number(out, room.retention.messages_max.into());
    command::number(out, room.retention.bytes_max);
    command::argument(out, payload);
    if let Some(key) = key {
        command::argument(out, key.text.as_bytes());
        command::hex(out, key.digest);
        command::number(out, millis(key.age_max));
        command::number(out, key.keys_max.into());
    }
}

/// Appends the command that removes messages and publishes that. `payload` is what stands in their place.
pub fn remove(out: &mut Vec<u8>, room: &Room<'_>, drawn: u64, remove: &Remove, payload: &[u8]) {
    begin(out, Script::storing(&room.names), 2, 9);
    for kind in ["meta", "log"] {
        command::key(out, &room.names, kind, room.name);
    }
    life(out, room, drawn);
    command::channel(out, &room.names, room.name);
    command::number(out, room.retention.messages_max.into());
    command::number(out, room.retention.bytes_max);
    command::argument(out, payload);
    match remove.what {
        Removal::One(offset) => command::number(out, offset),
        Removal::All => command::argument(out, b""),
    }
    command::argument(out, remove.epoch.map_or(String::new(), |epoch| epoch.to_string()).as_bytes());
}

/// Appends the one or the other.
pub(super) fn store_or_remove(out: &mut Vec<u8>, room: &Room<'_>, drawn: u64, asked: &Store<'_>, payload: &[u8]) {
    match asked.removes {
        None => store(out, room, drawn, asked.key.as_ref(), payload),
        Some(asked) => remove(out, room, drawn, asked, payload),
    }
}

/// No command of [`store`] for these is longer, nor of [`remove`].
pub(super) fn store_bytes_max(room: &Room<'_>, key: Option<&IdempotencyKey<'_>>, payload: &[u8]) -> usize {
    // Three words, four keys and eleven arguments with the framing of each, and what does not depend on the room: the words, kinds of
    // keys, and numbers of at most 20 digits.
    const FIXED: usize = 19 * command::BULK_FRAMING_BYTES_MAX + 48 + 4 * 7 + 8 * 20;
    let names = 5 * (room.names.more_bytes_max() + room.name.len());
    FIXED + names + payload.len() + key.map_or(0, |key| key.text.len())
}

/// Appends the command that reads a part of a room's history. `drawn` is random, for an epoch that begins.
pub fn read(out: &mut Vec<u8>, room: &Room<'_>, drawn: u64, query: &Query) {
    begin(out, Script::Read, 2, 8);
    for kind in ["meta", "log"] {
        command::key(out, &room.names, kind, room.name);
    }
    life(out, room, drawn);
    match query.part {
        Part::After(Position { epoch, offset }) => {
            command::argument(out, b"after");
            command::argument(out, epoch.to_string().as_bytes());
            command::number(out, offset);
        }
        Part::Before(offset) => {
            command::argument(out, b"before");
            command::argument(out, b"");
            command::number(out, offset);
        }
        Part::Newest => {
            command::argument(out, b"newest");
            command::argument(out, b"");
            command::argument(out, b"");
        }
    }
    command::number(out, query.messages_max.into());
    command::number(out, query.bytes_max);
}

fn begin(out: &mut Vec<u8>, script: Script, keys: usize, arguments: usize) {
    command::begin(out, 3 + keys + arguments);
    command::argument(out, b"EVALSHA");
    command::argument(out, script.sha1().as_bytes());
    command::number(out, keys as u64);
}

/// What both scripts have to know.
fn life(out: &mut Vec<u8>, room: &Room<'_>, drawn: u64) {
    command::hex(out, drawn);
    command::number(out, millis(room.retention.age_max));
    command::number(out, millis(room.meta_age_max).clamp(1_000, TTL_MS_MAX));
}

/// What a reply to [`store`] or [`remove`] says.
///
/// # Errors
/// Why nothing was stored, or that it is not known.
pub fn parse_stored<'a>(reply: &Reply<'a>) -> Result<StoreReply<'a>, HistoryError<'a>> {
    stored(list(reply)?).ok_or(HistoryError::Malformed)
}

/// What a reply to [`read`] says.
///
/// # Errors
/// Why there is no page.
pub fn parse_page<'a>(reply: &Reply<'a>) -> Result<ReadReply, HistoryError<'a>> {
    page(list(reply)?).ok_or(HistoryError::Malformed)
}

fn list<'a>(reply: &Reply<'a>) -> Result<Items<'a>, HistoryError<'a>> {
    match *reply {
        Reply::Array(items) => Ok(items),
        Reply::Error(text) => Err(HistoryError::of(text)),
        _ => Err(HistoryError::NoList),
    }
}

impl<'a> HistoryError<'a> {
    /// What this error text, in reply to a script, means.
    fn of(text: &'a [u8]) -> HistoryError<'a> {
        let code = text.split(|byte| *byte == b' ').next().unwrap_or_default();
        match code {
            b"NOSCRIPT" => HistoryError::NoScript,
            b"KEYREUSED" => HistoryError::KeyReused,
            b"NOMESSAGE" => HistoryError::NoMessage,
            b"EPOCHUNKNOWN" => HistoryError::EpochUnknown,
            b"NOHISTORY" => HistoryError::Unavailable(text[code.len()..].trim_ascii()),
            _ => HistoryError::Refused(text),
        }
    }
}

fn stored<'a>(mut items: Items<'a>) -> Option<StoreReply<'a>> {
    let position = position(&mut items)?;
    let is_new = flag(items.next()?)?;
    let time_ms = integer(items.next()?)?;
    let is_announced = flag(items.next()?)?;
    let trouble = bulk(items.next()?)?;
    let is_message = position.offset > 0 && items.next().is_none();
    is_message.then_some(StoreReply { at: StoredAt { position, is_new }, time_ms, is_announced, trouble })
}

fn page<'a>(mut items: Items<'a>) -> Option<ReadReply> {
    let last = position(&mut items)?;
    let first = integer(items.next()?)?;
    let word = bulk(items.next()?)?;
    let fence = integer(items.next()?)?;
    let continuity = match word {
        b"exact" => Continuity::Exact,
        b"trimmed" => Continuity::Trimmed,
        b"fenced" => Continuity::Fenced(fence),
        b"unknown" => Continuity::Unknown,
        _ => return None,
    };
    let time_ms = integer(items.next()?)?;
    let removed = integer(items.next()?)?;
    // Whoever follows these numbers must not be led astray by data that somebody else wrote: they count up, and miss no more than was
    // removed.
    let mut entries: Vec<Stored> = Vec::new();
    let mut missing = 0;
    while let Some(id) = items.next() {
        let id = std::str::from_utf8(bulk(id)?).ok()?;
        let (offset, time_ms) = id.split_once('-')?;
        let entry = Stored {
            offset: offset.parse().ok()?,
            time_ms: time_ms.parse().ok()?,
            payload: bulk(items.next()?)?.into(),
        };
        let next = entries.last().map_or(Some(entry.offset), |before| before.offset.checked_add(1))?;
        missing += entry.offset.checked_sub(next)?;
        if missing > removed || entry.offset < first || entry.offset > last.offset {
            return None;
        }
        entries.push(entry);
    }
    let is_sound = first >= 1 && first <= last.offset.checked_add(1)? && fence <= last.offset;
    is_sound.then_some(ReadReply { page: Page { last, first, continuity, entries }, time_ms })
}

fn position(items: &mut Items<'_>) -> Option<Position> {
    let epoch: Epoch = std::str::from_utf8(bulk(items.next()?)?).ok()?.parse().ok()?;
    Some(Position { epoch, offset: integer(items.next()?)? })
}

fn integer(reply: Reply<'_>) -> Option<u64> {
    match reply {
        Reply::Integer(number) => u64::try_from(number).ok(),
        _ => None,
    }
}

fn flag(reply: Reply<'_>) -> Option<bool> {
    match integer(reply)? {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}

fn bulk(reply: Reply<'_>) -> Option<&[u8]> {
    match reply {
        Reply::Bulk(text) => Some(text),
        _ => None,
    }
}
