//! The scripts of rooms' histories, as the server runs them: each room's log is the core's own `RoomLog`, which a test of the core holds
//! against the scripts in a real redis-server. What stands here is what is around it: which scripts are known, whose data they are, and
//! what a replica has of them.

use super::presence::Present;
use super::{Redis, purpose};
use crate::cluster::Surroundings;
use crate::lives::Entry;
use crate::network::WireId;
use crate::options::{Options, rng};
use crate::reference::{ROOMS, Reference};
use crate::resp;
use crate::timeline::Happening;
use crate::trace;
use fanfare_core::broker::redis::history::Script;
use fanfare_core::broker::redis::presence::commands;
use fanfare_core::history::{Continuity, Epoch, Moment, Part, Position, Query, Removal, Remove, Retention, RoomLog};
use fastrand::Rng;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// When the virtual clock began, in Unix milliseconds.
const BEGAN_MS: u64 = 1_800_000_000_000;

/// What the server has in memory.
#[derive(Debug)]
pub(super) struct Data {
    pub(super) kept: Kept,
    /// What its replica has of that.
    replica: Kept,
    pub(super) replica_lag: u64,
    /// Scripts that are known, by their names.
    scripts: BTreeSet<&'static str>,
    /// Numbers the replication ids.
    incarnation: u64,
    pub(super) rng: Rng,
    /// Whether the replica is there when it is waited for. `None`: always.
    replies: Option<Rng>,
}

impl Data {
    pub fn new(options: &Options, number: usize) -> Data {
        Data {
            kept: Kept::default(),
            replica: Kept::default(),
            replica_lag: options.histories.replica_lag,
            scripts: BTreeSet::new(),
            incarnation: 1,
            rng: rng(options.seed, &purpose("replica", number)),
            replies: (!options.is_quiet()).then(|| rng(options.seed, &purpose("replies of the replica", number))),
        }
    }
}

/// What is left of what the server had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// All data. Their replication id is another.
    Data,
    /// What the replica had, which takes its place.
    Replica,
    /// Nothing.
    Nothing,
}

/// All that a server keeps.
#[derive(Clone, Debug, Default)]
pub struct Kept {
    /// Of rooms.
    logs: BTreeMap<usize, RoomLog>,
    /// What the instances of a Cluster have agreed on.
    pub(super) layout: Option<Vec<u8>>,
    /// Who is in which room.
    pub(super) present: Present,
}

/// A key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeyOf {
    /// What the instances of a Cluster have agreed on.
    Layout,
    /// The hash of a room.
    Meta(usize),
    /// The stream of a room.
    Log(usize),
}

impl Kept {
    /// The keys of a room that there are: the stream is there from its first message on.
    pub(super) fn keys_of(&self, room: usize) -> impl Iterator<Item = KeyOf> + use<> {
        let last = self.logs.get(&room).and_then(RoomLog::position);
        let log = last.filter(|last| last.offset > 0).map(|_| KeyOf::Log(room));
        last.map(|_| KeyOf::Meta(room)).into_iter().chain(log)
    }

    /// Takes a room out, or what the instances have agreed on.
    pub(super) fn take(&mut self, key: KeyOf) -> Kept {
        let mut taken = Kept::default();
        match key {
            KeyOf::Layout => taken.layout = self.layout.take(),
            KeyOf::Meta(room) | KeyOf::Log(room) => {
                taken.logs.extend(self.logs.remove(&room).map(|log| (room, log)));
            }
        }
        taken
    }

    /// Adds what was taken out elsewhere.
    pub(super) fn put(&mut self, taken: Kept) {
        self.logs.extend(taken.logs);
        self.layout = taken.layout.or(self.layout.take());
    }
}

/// The arguments of both scripts.
struct Call<'a> {
    room: usize,
    drawn: u64,
    age_max: Duration,
    arguments: &'a [&'a [u8]],
}

impl Redis {
    /// Another server is there, or the same one anew.
    pub fn begin_anew(&mut self, left: Left) {
        self.forget_scripts();
        self.data.incarnation += 1;
        match left {
            Left::Data => {}
            Left::Replica => self.data.kept = self.data.replica.clone(),
            Left::Nothing => self.flush_all(),
        }
    }

    /// It becomes a replica, or a master again: in either case its replication id is another then.
    pub fn demote(&mut self, is_replica: bool) {
        if std::mem::replace(&mut self.is_replica, is_replica) != is_replica {
            self.data.incarnation += 1;
        }
    }

    /// What its replica has.
    pub fn left_to_replica(&self) -> Kept {
        self.data.replica.clone()
    }

    /// From a replica it becomes the master, with what it has of the data. Its replication id is another one, also where it has not learned
    /// yet that it was no master any more.
    pub fn promote(&mut self, kept: Kept) {
        self.is_replica = false;
        self.data.incarnation += 1;
        (self.data.kept, self.data.replica) = (kept.clone(), kept);
    }

    /// `FLUSHALL`. The replica gets what was stored, and that it is deleted, in this order.
    pub fn delete_all(&mut self, around: &mut Surroundings<'_>) {
        self.replicate(around);
        self.flush_all();
    }

    fn flush_all(&mut self) {
        (self.data.kept, self.data.replica) = (Kept::default(), Kept::default());
        if let Some(node) = &mut self.node {
            node.forget_moved();
        }
    }

    /// `SCRIPT FLUSH`.
    pub fn forget_scripts(&mut self) {
        self.data.scripts.clear();
    }

    /// `SCRIPT LOAD`.
    pub(super) fn load_script(&mut self, wire: WireId, source: &[u8]) -> Result<(), String> {
        let script = Script::ALL.into_iter().find(|script| script.source().as_bytes() == source).map(Script::sha1);
        let of_presence = commands::Script::ALL.into_iter().find(|script| script.source().as_bytes() == source);
        let name = script.or(of_presence.map(commands::Script::sha1));
        let name = name.ok_or("an instance loads a script that is none of its own")?;
        self.data.scripts.insert(name);
        self.answer(wire, |out| resp::bulk(out, name.as_bytes()));
        Ok(())
    }

    /// `EVALSHA`.
    pub(super) fn run_script(
        &mut self,
        wire: WireId,
        words: &[&[u8]],
        around: &mut Surroundings<'_>,
    ) -> Result<(), String> {
        let name = std::str::from_utf8(words[0]).unwrap_or_default();
        let script = Script::ALL.into_iter().find(|script| script.sha1() == name);
        let of_presence = commands::Script::ALL.into_iter().find(|script| script.sha1() == name);
        if script.is_none() && of_presence.is_none() {
            return Err("an instance runs a script that is none of its own".to_owned());
        }
        if !self.data.scripts.contains(name) {
            trace!(around.trace, around.timeline, "redis: NOSCRIPT {script:?} {of_presence:?} on wire {wire}");
            self.answer(wire, |out| out.extend_from_slice(b"-NOSCRIPT No matching script. Please use EVAL.\r\n"));
            return Ok(());
        }
        if self.is_replica {
            // Its replication id is its master's, so each script would begin an epoch first.
            let error = b"-READONLY You can't write against a read only replica. script: x, on @user_script:1.\r\n";
            self.answer(wire, |out| out.extend_from_slice(error));
            return Ok(());
        }
        let Some(script) = script else {
            let script = of_presence.expect("it is one of either");
            return self.run_presence(wire, script, &words[1..], around);
        };
        let [b"2", meta, log, drawn, age_max, _, arguments @ ..] = &words[1..] else {
            return Err(format!("a script is run with {words:?}"));
        };
        let room = self.room_of(meta, "meta")?;
        if self.room_of(log, "log")? != room {
            return Err("a script is run with keys of two rooms".to_owned());
        }
        let drawn = u64::from_str_radix(&String::from_utf8_lossy(drawn), 16).map_err(|error| error.to_string())?;
        let call = Call { room, drawn, age_max: Duration::from_millis(number(age_max)?), arguments };
        match script {
            Script::Store | Script::StoreSharded => self.store(wire, &call, around),
            Script::Read => self.read(wire, &call, around),
        }
    }

    pub(super) fn room_of(&self, key: &[u8], kind: &str) -> Result<usize, String> {
        let key = std::str::from_utf8(key).map_err(|error| error.to_string())?;
        let room = key.split_once(&format!("\u{1}{kind}:")).map(|(_, room)| room);
        let room = room.filter(|room| self.names().key(kind, room) == key);
        Reference::room(room.ok_or_else(|| format!("{key} is no key of a room"))?)
    }

    fn store(&mut self, wire: WireId, call: &Call<'_>, around: &mut Surroundings<'_>) -> Result<(), String> {
        let [channel, messages_max, bytes_max, payload, removal @ ..] = call.arguments else {
            return Err(format!("a message is stored with {:?}", call.arguments));
        };
        let retention = call.retention(number(messages_max)?, number(bytes_max)?);
        if around.reference.lives.retention(call.room) != Some(retention) {
            return Err(format!("what is kept is {retention:?}"));
        }
        let remove = match removal {
            [] => None,
            [at, b""] => {
                let what = if at.is_empty() { Removal::All } else { Removal::One(number(at)?) };
                Some(Remove { what, epoch: None })
            }
            _ => return Err(format!("something is removed with {removal:?}")),
        };
        let key = match remove {
            None => Some(Reference::key_of(&String::from_utf8_lossy(payload))?),
            Some(remove) if remove.what.payload().as_bytes() == *payload => None,
            Some(_) => return Err(format!("{removal:?} is removed, and what is stored is not that")),
        };
        let (log, incarnation, now_ms) = self.log(call.room, around);
        let before = log.position();
        let moment = Moment { now_ms, incarnation: &incarnation, drawn: call.drawn };
        let stored = match &remove {
            None => log.store(&moment, &retention, None, payload),
            Some(remove) => log.remove(&moment, &retention, remove),
        };
        let Ok(stored) = stored else {
            let last = log.position().expect("an epoch has begun");
            around.reference.lives.ran(call.room, (self.number, before), last, now_ms)?;
            self.answer(wire, |out| out.extend_from_slice(b"-NOMESSAGE there is no such message\r\n"));
            return Ok(());
        };
        let Position { epoch, offset } = stored.position;
        around.reference.lives.ran(call.room, (self.number, before), stored.position, now_ms)?;
        around.reference.lives.stored(
            call.room,
            stored.position,
            Entry { key, removes: remove.map(|remove| remove.what), bytes: payload.len() as u64, time_ms: now_ms },
        );
        let published = [format!("F2 {epoch} {offset} ").as_bytes(), payload].concat();
        let refused = self.refuses_publish;
        if refused && key.is_some() {
            let origin = if self.node.is_some() { self.number } else { 0 };
            around.reference.published((Some(wire), origin), ROOMS[call.room], &published, &[], &around.network)?;
        } else if !refused {
            self.deliver((Some(wire), true), channel, &published, around)?;
        }
        trace!(around.trace, around.timeline, "redis: stores {key:?} at {epoch} {offset}, announced: {}", !refused);
        self.answer(wire, |out| {
            resp::push(out, false, 6);
            resp::bulk(out, epoch.to_string().as_bytes());
            for number in [offset, 1, now_ms, u64::from(!refused)] {
                resp::integer(out, number as usize);
            }
            resp::bulk(out, if refused { b"PUBLISH: NOPERM No permissions to access a channel" } else { b"" });
        });
        if self.data.rng.u64(0..self.data.replica_lag) == 0 {
            self.replicate(around);
        }
        Ok(())
    }

    /// The replica has everything now, if there is any.
    pub fn replicate(&mut self, around: &mut Surroundings<'_>) {
        if !self.is_cut_off {
            self.data.replica = self.data.kept.clone();
            let places = self.data.kept.logs.iter().filter_map(|(room, log)| Some((*room, log.position()?)));
            around.reference.lives.replicated(places);
        }
    }

    /// `WAIT`: where there are faults, the replica is there three times of four.
    pub(super) fn wait_for_replicas(
        &mut self,
        wire: WireId,
        wanted: &[u8],
        timeout: &[u8],
        around: &mut Surroundings<'_>,
    ) -> Result<(), String> {
        if number(wanted)? != 1 {
            return Err(format!("no room wants {} replicas", String::from_utf8_lossy(wanted)));
        }
        if self.is_replica {
            self.answer(wire, |out| out.extend_from_slice(b"-ERR WAIT cannot be used with replica instances.\r\n"));
            return Ok(());
        }
        let replies = self.data.replies.as_mut().is_none_or(|replies| replies.u64(0..4) > 0) && !self.is_cut_off;
        if replies {
            self.replicate(around);
        }
        trace!(around.trace, around.timeline, "redis: WAIT on wire {wire}: {replies}");
        if replies {
            self.answer(wire, |out| resp::integer(out, 1));
            return Ok(());
        }
        let until = around.timeline.now + number(timeout)? * 1_000;
        self.connections.get_mut(&wire).expect("whoever is served is connected").waits_until = Some(until);
        around.timeline.at(until, Happening::Redis(self.number));
        Ok(())
    }

    fn read(&mut self, wire: WireId, call: &Call<'_>, around: &mut Surroundings<'_>) -> Result<(), String> {
        let [part, epoch, offset, messages_max, bytes_max] = call.arguments else {
            return Err(format!("a history is read with {:?}", call.arguments));
        };
        let part = match *part {
            b"after" => {
                let epoch: Epoch = String::from_utf8_lossy(epoch).parse().unwrap_or(Epoch { ordinal: 0, random: 0 });
                Part::After(Position { epoch, offset: number(offset)? })
            }
            b"before" => Part::Before(number(offset)?),
            _ => Part::Newest,
        };
        let query = Query { part, messages_max: number(messages_max)? as u32, bytes_max: number(bytes_max)? };
        // How much is kept besides is the business of those who store.
        let retention = call.retention(u64::from(u32::MAX), u64::MAX);
        let (log, incarnation, now_ms) = self.log(call.room, around);
        let before = log.position();
        let moment = Moment { now_ms, incarnation: &incarnation, drawn: call.drawn };
        let page = log.read(&moment, &retention, &query);
        let removed = log.removed();
        around.reference.lives.ran(call.room, (self.number, before), page.last, now_ms)?;
        let (word, fence) = match page.continuity {
            Continuity::Exact => ("exact", 0),
            Continuity::Trimmed => ("trimmed", 0),
            Continuity::Fenced(fence) => ("fenced", fence),
            Continuity::Unknown => ("unknown", 0),
        };
        trace!(
            around.trace,
            around.timeline,
            "redis: reads {query:?} of {}: last {:?}, first {}, {word} {fence}, {} messages",
            ROOMS[call.room],
            page.last,
            page.first,
            page.entries.len()
        );
        self.answer(wire, |out| {
            resp::push(out, false, 7 + 2 * page.entries.len());
            resp::bulk(out, page.last.epoch.to_string().as_bytes());
            resp::integer(out, page.last.offset as usize);
            resp::integer(out, page.first as usize);
            resp::bulk(out, word.as_bytes());
            resp::integer(out, fence as usize);
            resp::integer(out, now_ms as usize);
            resp::integer(out, removed as usize);
            for entry in &page.entries {
                resp::bulk(out, format!("{}-{}", entry.offset, entry.time_ms).as_bytes());
                resp::bulk(out, &entry.payload);
            }
        });
        Ok(())
    }

    /// The room's log, the replication id, and the time.
    fn log(&mut self, room: usize, around: &Surroundings<'_>) -> (&mut RoomLog, String, u64) {
        let incarnation = self.replid();
        (self.data.kept.logs.entry(room).or_default(), incarnation, Redis::unix_ms(around))
    }

    /// No two servers have the same.
    pub(super) fn replid(&self) -> String {
        format!("{:08x}{:032x}", self.number, self.data.incarnation)
    }

    pub(super) fn unix_ms(around: &Surroundings<'_>) -> u64 {
        BEGAN_MS + around.timeline.now / 1_000
    }
}

impl Call<'_> {
    fn retention(&self, messages_max: u64, bytes_max: u64) -> Retention {
        Retention { messages_max: messages_max as u32, bytes_max, age_max: self.age_max }
    }
}

fn number(text: &[u8]) -> Result<u64, String> {
    let number = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
    number.ok_or_else(|| format!("no number: {}", String::from_utf8_lossy(text)))
}
