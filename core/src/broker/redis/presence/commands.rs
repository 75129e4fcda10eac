//! Who is in a room, in Redis: the commands that run its scripts, and what they reply. No state; nothing is sent here.
//!
//! Keys are called as those of [histories](super::super::history), by these kinds. An *incarnation* is an instance for as long as it has told
//! of its users without a break; it has a name of 16 hexadecimal digits.
//!
//! | key | type | what |
//! |---|---|---|
//! | `present:<room>` | hash | user to the number of its connections at all instances, a space and `info` |
//! | `changes:<room>` | hash | the epoch, and the number of the last change |
//! | `at:<incarnation>:<room>` | hash | user to the number of its connections at that instance |
//! | `rooms:<incarnation>`, in each partition | set | the rooms there in which it has anybody |
//! | `gone:<incarnation>`, in each partition | string | it is dead: nothing that it says is taken any more |
//! | `tellers`, in each partition | set | the incarnations that have anybody there |
//! | `instances`, in partition 0 | sorted set | incarnation to the Unix milliseconds until which its lease lasts |
//! | `dead`, in partition 0 | sorted set | incarnation to the Unix milliseconds until which somebody clears up after it |
//! | `about`, in partition 0 | hash | incarnation to what is known of its instance |
//!
//! What each script does and replies stands at its head.

use super::super::command;
use super::super::names::Names;
use super::super::resp::{Items, Reply};
use crate::presence::{Present, RosterPage, Version, name_of};
use std::fmt;

/// Users in one part of a roster, about.
const ROSTER_COUNT: u64 = 500;
/// Users of a dead incarnation that one command takes out of a room: some 10 ms of Redis.
const LEAVE_MAX: u64 = 500;
/// Incarnations that have anybody in a partition and are named at a time: as many as there are instances that `renew` tells of.
const TELLERS_MAX: u64 = 1_024;
/// Rooms of a dead incarnation that are named at a time.
const GONE_ROOMS_MAX: u64 = 64;
/// For how long an incarnation is known to be dead: longer than any connection keeps what was written to it.
const GONE_MS: u64 = 24 * 3_600 * 1_000;

/// No reply is longer, in bytes: a part of a roster has some more users than asked for, each with a name and an `info` of one KiB, and `renew`
/// tells of a thousand instances.
pub(in super::super) const REPLY_BYTES_MAX: usize = 4 * 1024 * 1024;

/// What is run in Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Script {
    /// Notes how many connections of a user an instance has in a room.
    Present,
    /// The same where channels belong to the slots of a Cluster.
    PresentSharded,
    /// Takes users of a dead incarnation out of a room.
    Leave,
    /// The same where channels belong to the slots of a Cluster.
    LeaveSharded,
    /// Reads a part of those who are in a room.
    Roster,
    /// Says that an incarnation is dead.
    Gone,
    /// Extends the lease of an incarnation.
    Renew,
    /// Looks whether what an incarnation has noted is there still, and who else has noted anything.
    Check,
}

macro_rules! source {
    ($($file:literal),*) => { concat!($(include_str!(concat!("../scripts/", $file, ".lua"))),*) };
    ($announce:literal: $file:literal) => {
        concat!("local ANNOUNCE = '", $announce, "'\n", source!("replid", "presence", $file))
    };
}

impl Script {
    /// All of them.
    pub const ALL: [Script; 8] = [
        Script::Present,
        Script::PresentSharded,
        Script::Leave,
        Script::LeaveSharded,
        Script::Roster,
        Script::Gone,
        Script::Renew,
        Script::Check,
    ];

    /// Those that are run where rooms are called so.
    pub fn of(names: &Names<'_>) -> [Script; 6] {
        let [present, leave] = match names.is_sharded() {
            true => [Script::PresentSharded, Script::LeaveSharded],
            false => [Script::Present, Script::Leave],
        };
        [present, leave, Script::Roster, Script::Gone, Script::Renew, Script::Check]
    }

    /// Its text.
    pub const fn source(self) -> &'static str {
        match self {
            Script::Present => source!("PUBLISH": "present"),
            Script::PresentSharded => source!("SPUBLISH": "present"),
            Script::Leave => source!("PUBLISH": "leave"),
            Script::LeaveSharded => source!("SPUBLISH": "leave"),
            Script::Roster => source!("replid", "presence", "roster"),
            Script::Gone => source!("replid", "gone"),
            Script::Renew => source!("replid", "renew"),
            Script::Check => source!("replid", "check"),
        }
    }

    /// The name under which Redis knows it: the SHA-1 of its text.
    pub const fn sha1(self) -> &'static str {
        match self {
            Script::Present => "b274d69dbb468a3b6b142baaf4a14de28cfddb43",
            Script::PresentSharded => "40783fb782a95e8d8e8c2cf1b9b174411faf701c",
            Script::Leave => "0ffa50fa4cdd97bdb2f6d3b5ee150b072b17b0e2",
            Script::LeaveSharded => "e0f0863c85bc99363e4d98ca2657d6cd359c9eb5",
            Script::Roster => "0fde9603f840cb8f16fb4db41a07c6814416156d",
            Script::Gone => "d7fb709928aeffc768316ffe4498db4d15f3ed33",
            Script::Renew => "9c28e5ee0fe23160e3a6c5ff37096d32ed14e8dc",
            Script::Check => "70f1c422a37aa7774af2774b1d0fa9f7f67c2854",
        }
    }
}

/// An instance for as long as it has told of its users without a break.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation(pub u64);

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl Incarnation {
    fn parse(text: &[u8]) -> Option<Incarnation> {
        let digits = std::str::from_utf8(text).ok().filter(|text| text.len() == 16)?;
        u64::from_str_radix(digits, 16).ok().map(Incarnation)
    }
}

/// The replication id of a Redis.
pub type Replid = [u8; 40];

/// Appends the command that notes how many connections of a user an incarnation has in a room. `drawn` is random, for an epoch that begins.
pub fn present(
    out: &mut Vec<u8>,
    names: &Names<'_>,
    (incarnation, drawn): (Incarnation, u64),
    (room, user, info): (&str, &str, &str),
    connections: u32,
) {
    let partition = names.partition(room).unwrap_or(0);
    begin(out, Script::of(names)[0], 6, 7);
    of_room(out, names, room);
    command::argument(out, names.key(&format!("at:{incarnation}"), room).as_bytes());
    for kind in ["rooms", "gone"] {
        command::argument(out, names.key_in(partition, kind, &incarnation.to_string()).as_bytes());
    }
    command::argument(out, names.key_of_part(partition, "tellers").as_bytes());
    change(out, names, drawn, room);
    for argument in [room, user] {
        command::argument(out, argument.as_bytes());
    }
    command::number(out, connections.into());
    command::argument(out, info.as_bytes());
    command::argument(out, incarnation.to_string().as_bytes());
}

/// Appends the command that takes users of a dead incarnation out of a room.
pub fn leave(out: &mut Vec<u8>, names: &Names<'_>, (incarnation, drawn): (Incarnation, u64), room: &str) {
    let partition = names.partition(room).unwrap_or(0);
    begin(out, Script::of(names)[1], 5, 5);
    of_room(out, names, room);
    command::argument(out, names.key(&format!("at:{incarnation}"), room).as_bytes());
    command::argument(out, names.key_in(partition, "rooms", &incarnation.to_string()).as_bytes());
    command::argument(out, names.key_of_part(partition, "tellers").as_bytes());
    change(out, names, drawn, room);
    command::argument(out, room.as_bytes());
    command::number(out, LEAVE_MAX);
    command::argument(out, incarnation.to_string().as_bytes());
}

/// Appends the command that reads a part of those who are in a room, from `from` on.
pub fn roster(out: &mut Vec<u8>, names: &Names<'_>, drawn: u64, room: &str, from: u64) {
    begin(out, Script::Roster, 2, 4);
    of_room(out, names, room);
    change(out, names, drawn, room);
    command::number(out, from);
    command::number(out, ROSTER_COUNT);
}

/// Appends the command that says in a partition that an incarnation is dead.
pub fn gone(out: &mut Vec<u8>, names: &Names<'_>, incarnation: Incarnation, partition: u16) {
    begin(out, Script::Gone, 3, 3);
    for kind in ["gone", "rooms"] {
        command::argument(out, names.key_in(partition, kind, &incarnation.to_string()).as_bytes());
    }
    command::argument(out, names.key_of_part(partition, "tellers").as_bytes());
    command::number(out, GONE_MS);
    command::number(out, GONE_ROOMS_MAX);
    command::argument(out, incarnation.to_string().as_bytes());
}

/// Appends the command that looks whether what an incarnation has noted in a partition is there still, and who else has noted anything.
pub fn check(out: &mut Vec<u8>, names: &Names<'_>, incarnation: Incarnation, partition: u16) {
    begin(out, Script::Check, 2, 1);
    command::argument(out, names.key_in(partition, "rooms", &incarnation.to_string()).as_bytes());
    command::argument(out, names.key_of_part(partition, "tellers").as_bytes());
    command::number(out, TELLERS_MAX);
}

/// What [`renew`] says.
#[derive(Clone, Copy, Debug)]
pub struct Renewal<'a> {
    /// Whose lease it is.
    pub incarnation: Incarnation,
    /// It has none yet.
    pub is_new: bool,
    /// For how long, in milliseconds.
    pub lease_ms: u64,
    /// What others are told of the instance.
    pub about: &'a str,
    /// How many dead incarnations are taken on at most.
    pub takes_max: usize,
    /// Those after which it has been cleared up.
    pub cleared: &'a [Incarnation],
    /// Which Redis handed them out.
    pub handed_out_by: Option<Replid>,
    /// Those that the instance has given up itself.
    pub retired: &'a [Incarnation],
    /// Those that have users somewhere, and of which it knows no lease.
    pub suspects: &'a [Incarnation],
}

/// Appends the command that extends a lease.
pub fn renew(out: &mut Vec<u8>, names: &Names<'_>, renewal: &Renewal<'_>) {
    let Renewal { incarnation, is_new, lease_ms, about, takes_max, cleared, handed_out_by, retired, suspects } =
        renewal;
    begin(out, Script::Renew, 3, 8 + cleared.len() + retired.len() + suspects.len());
    for kind in ["instances", "dead", "about"] {
        command::argument(out, names.key_of_all(kind).as_bytes());
    }
    command::argument(out, incarnation.to_string().as_bytes());
    command::number(out, *lease_ms);
    command::argument(out, about.as_bytes());
    for number in [u64::from(*is_new), *takes_max as u64, cleared.len() as u64] {
        command::number(out, number);
    }
    command::argument(out, handed_out_by.as_ref().map_or(&[], |replid| &replid[..]));
    command::number(out, retired.len() as u64);
    for incarnation in cleared.iter().chain(*retired).chain(*suspects) {
        command::argument(out, incarnation.to_string().as_bytes());
    }
}

fn begin(out: &mut Vec<u8>, script: Script, keys: usize, arguments: usize) {
    command::begin(out, 3 + keys + arguments);
    command::argument(out, b"EVALSHA");
    command::argument(out, script.sha1().as_bytes());
    command::number(out, keys as u64);
}

fn of_room(out: &mut Vec<u8>, names: &Names<'_>, room: &str) {
    for kind in ["present", "changes"] {
        command::key(out, names, kind, room);
    }
}

/// What a script has to know that may begin an epoch.
fn change(out: &mut Vec<u8>, names: &Names<'_>, drawn: u64, room: &str) {
    command::hex(out, drawn);
    command::channel(out, names, &name_of(room));
}

/// What a reply answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// [`present`].
    Present,
    /// [`leave`].
    Leave,
    /// [`roster`].
    Roster,
    /// [`gone`].
    Gone,
    /// [`renew`].
    Renew,
    /// [`check`].
    Check,
}

impl Kind {
    /// Whether nobody waits for its answer who has asked.
    pub(in super::super) fn is_in_background(self) -> bool {
        matches!(self, Kind::Leave | Kind::Gone | Kind::Check)
    }
}

/// An instance, as the others know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Its incarnation.
    pub incarnation: Incarnation,
    /// What it says of itself: [`RedisConfig::about`](super::super::RedisConfig::about).
    pub about: Box<str>,
    /// Until when its lease lasts: Unix milliseconds, by Redis's clock.
    pub until_ms: u64,
}

/// What a script did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    /// [`present`].
    Present {
        /// The user's connections at all instances.
        connections: u32,
        /// In how many rooms of the partition the incarnation has anybody.
        rooms: u64,
        /// Where.
        replid: Replid,
    },
    /// [`leave`]; `is_more` users are left.
    Leave {
        /// Whether.
        is_more: bool,
    },
    /// [`roster`].
    Roster {
        /// What was read.
        page: RosterPage,
        /// Where.
        replid: Replid,
    },
    /// [`gone`]: rooms in which it has anybody.
    Gone {
        /// Those.
        rooms: Vec<Box<str>>,
    },
    /// [`renew`].
    Renew {
        /// Whether the lease is extended; it is lost otherwise.
        is_kept: bool,
        /// Where.
        replid: Replid,
        /// Dead incarnations that are to be cleared up.
        taken: Vec<Incarnation>,
        /// All instances.
        instances: Vec<Instance>,
    },
    /// [`check`].
    Check {
        /// Whether it has anybody in any room of the partition.
        is_there: bool,
        /// Where.
        replid: Replid,
        /// The incarnations that have.
        tellers: Vec<Incarnation>,
    },
}

/// Why nothing was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PresenceError<'a> {
    /// Redis does not know the script.
    NoScript,
    /// The incarnation is dead.
    Gone,
    /// This Redis cannot keep presence, for the reason that follows: it does not say which data it has.
    Unavailable(&'a [u8]),
    /// Another error of Redis.
    Refused(&'a [u8]),
    /// A list, and none of those that the scripts reply.
    Malformed,
    /// Neither a list nor an error.
    NoList,
}

/// What a reply says, and what went wrong after that was done; empty if nothing.
///
/// # Errors
/// Why it was not done, or that it is not known.
pub fn parse<'a>(kind: Kind, reply: &Reply<'a>) -> Result<(Done, &'a [u8]), PresenceError<'a>> {
    let items = match *reply {
        Reply::Array(items) => items,
        Reply::Error(text) => return Err(PresenceError::of(text)),
        _ => return Err(PresenceError::NoList),
    };
    let parsed = match kind {
        Kind::Present => have_noted(items),
        Kind::Leave => have_left(items),
        Kind::Roster => page(items).map(|done| (done, &[] as &[u8])),
        Kind::Gone => rooms(items).map(|rooms| (Done::Gone { rooms }, &[] as &[u8])),
        Kind::Renew => renewed(items).map(|done| (done, &[] as &[u8])),
        Kind::Check => checked(items).map(|done| (done, &[] as &[u8])),
    };
    parsed.ok_or(PresenceError::Malformed)
}

impl<'a> PresenceError<'a> {
    fn of(text: &'a [u8]) -> PresenceError<'a> {
        let code = text.split(|byte| *byte == b' ').next().unwrap_or_default();
        match code {
            b"NOSCRIPT" => PresenceError::NoScript,
            b"GONE" => PresenceError::Gone,
            b"NOPRESENCE" => PresenceError::Unavailable(text[code.len()..].trim_ascii()),
            _ => PresenceError::Refused(text),
        }
    }
}

fn have_noted<'a>(mut items: Items<'a>) -> Option<(Done, &'a [u8])> {
    let connections = integer(items.next()?)?.try_into().ok()?;
    integer(items.next()?)?;
    let rooms = integer(items.next()?)?;
    let replid = replid(items.next()?)?;
    integer(items.next()?)?;
    let trouble = bulk(items.next()?)?;
    items.next().is_none().then_some((Done::Present { connections, rooms, replid }, trouble))
}

fn have_left<'a>(mut items: Items<'a>) -> Option<(Done, &'a [u8])> {
    let is_more = integer(items.next()?)? > 0;
    integer(items.next()?)?;
    replid(items.next()?)?;
    integer(items.next()?)?;
    let trouble = bulk(items.next()?)?;
    items.next().is_none().then_some((Done::Leave { is_more }, trouble))
}

fn page(mut items: Items<'_>) -> Option<Done> {
    let epoch = text(items.next()?)?;
    let epoch = u64::from_str_radix(epoch, 16).ok().filter(|_| epoch.len() == 16)?;
    let version = Version { epoch, number: integer(items.next()?)? };
    let total = integer(items.next()?)?.try_into().ok()?;
    let next: u64 = text(items.next()?)?.parse().ok()?;
    let replid = replid(items.next()?)?;
    let mut users = Vec::new();
    while let Some(user) = items.next() {
        let user = text(user)?;
        // What somebody else has written there costs the room no one but that user.
        let kept = text(items.next()?)?.split_once(' ');
        let known =
            kept.and_then(|(connections, info)| Some((connections.parse().ok().filter(|many| *many > 0)?, info)));
        if let Some((connections, info)) = known {
            users.push(Present { user: user.into(), connections, info: info.into() });
        }
    }
    let next = (next > 0).then_some(next);
    Some(Done::Roster { page: RosterPage { version, total, users, next }, replid })
}

fn rooms(items: Items<'_>) -> Option<Vec<Box<str>>> {
    items.map(|room| text(room).map(Box::from)).collect()
}

fn renewed(mut items: Items<'_>) -> Option<Done> {
    let is_kept = integer(items.next()?)? > 0;
    integer(items.next()?)?;
    let replid = replid(items.next()?)?;
    let taken = incarnations(items.next()?)?;
    let mut instances = Vec::new();
    while let Some(incarnation) = items.next() {
        let incarnation = Incarnation::parse(bulk(incarnation)?)?;
        let until_ms = text(items.next()?)?.parse().ok()?;
        instances.push(Instance { incarnation, until_ms, about: text(items.next()?)?.into() });
    }
    Some(Done::Renew { is_kept, replid, taken, instances })
}

fn checked(mut items: Items<'_>) -> Option<Done> {
    let is_there = integer(items.next()?)? > 0;
    let replid = replid(items.next()?)?;
    let tellers = incarnations(items.next()?)?;
    items.next().is_none().then_some(Done::Check { is_there, replid, tellers })
}

fn incarnations(reply: Reply<'_>) -> Option<Vec<Incarnation>> {
    let Reply::Array(items) = reply else { return None };
    items.map(|incarnation| Incarnation::parse(bulk(incarnation)?)).collect()
}

fn replid(reply: Reply<'_>) -> Option<Replid> {
    bulk(reply)?.try_into().ok()
}

fn text(reply: Reply<'_>) -> Option<&str> {
    std::str::from_utf8(bulk(reply)?).ok()
}

fn integer(reply: Reply<'_>) -> Option<u64> {
    match reply {
        Reply::Integer(number) => u64::try_from(number).ok(),
        _ => None,
    }
}

fn bulk(reply: Reply<'_>) -> Option<&[u8]> {
    match reply {
        Reply::Bulk(text) => Some(text),
        _ => None,
    }
}
