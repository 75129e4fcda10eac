//! The scripts of presence, as the server runs them: the same steps as in `core/src/broker/redis/scripts`, on maps. What is to expire after a
//! day does not here, because no run lasts so long, and a part of a roster has all who are there, because they are few.

use super::Redis;
use crate::cluster::Surroundings;
use crate::network::WireId;
use crate::reference::{ROOMS, Reference};
use crate::resp;
use crate::trace;
use fanfare_core::broker::redis::presence::commands::Script;
use fanfare_core::presence::{Change, Version, name_of, room_of};
use std::collections::{BTreeMap, BTreeSet};

/// How many expired incarnations one call buries.
const EXPIRED_MAX: usize = 64;
/// For how long the changes of an empty room are known, in milliseconds.
const CHANGES_TTL: u64 = 60_000;
/// By no instance: who comes and goes at once, so that whoever has missed the last change finds that out.
const PASSER: &str = "passer";

/// The epoch of a room, the number of its last change, and which Redis began it.
#[derive(Clone, Debug)]
struct Changes {
    epoch: u64,
    number: u64,
    replid: String,
}

/// `present:<room>`, `changes:<room>`, and `at:<incarnation>:<room>` of each incarnation. `rooms:<incarnation>` and `tellers` follow from
/// the last.
#[derive(Clone, Debug, Default)]
struct Room {
    present: BTreeMap<String, (u64, String)>,
    changes: Option<Changes>,
    /// When they expire, by Redis's clock.
    expire_at: Option<u64>,
    at: BTreeMap<String, BTreeMap<String, u64>>,
}

/// All that is kept of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Present {
    rooms: BTreeMap<String, Room>,
    gone: BTreeSet<String>,
    instances: BTreeMap<String, u64>,
    dead: BTreeMap<String, u64>,
    about: BTreeMap<String, String>,
    replid: Option<String>,
}

/// What a script of a room has to know that changes something.
struct Call<'a> {
    room: &'a str,
    channel: &'a str,
    drawn: u64,
    replid: String,
    now: u64,
}

impl Room {
    /// Says whether an epoch begins.
    fn settle(&mut self, call: &Call<'_>) -> bool {
        if self.expire_at.is_some_and(|at| at <= call.now) {
            (self.changes, self.expire_at) = (None, None);
        }
        let is_new = self.changes.as_ref().is_none_or(|known| known.replid != call.replid);
        if is_new {
            self.changes = Some(Changes { epoch: call.drawn, number: 0, replid: call.replid.clone() });
        }
        is_new
    }

    fn keep(&mut self, call: &Call<'_>) {
        self.expire_at = self.present.is_empty().then_some(call.now + CHANGES_TTL);
    }

    fn known(&self, user: &str) -> (u64, String) {
        self.present.get(user).cloned().unwrap_or_default()
    }

    /// Writes what is so now. Returns what is published of it.
    fn change(&mut self, user: &str, connections: u64, info: &str) -> Vec<u8> {
        let changes = self.changes.as_mut().expect("settled before");
        changes.number += 1;
        let version = Version { epoch: changes.epoch, number: changes.number };
        let info = if connections > 0 { info } else { "" };
        match connections {
            0 => drop(self.present.remove(user)),
            _ => drop(self.present.insert(user.to_owned(), (connections, info.to_owned()))),
        }
        let (total, connections) = (self.present.len() as u32, connections as u32);
        let mut payload = Vec::new();
        Change { version, total, connections, user, info }.write(&mut payload);
        payload
    }

    fn has_any(&self, incarnation: &str) -> bool {
        self.at.get(incarnation).is_some_and(|users| !users.is_empty())
    }
}

impl Present {
    fn rooms_of(&self, incarnation: &str) -> Vec<&str> {
        let rooms = self.rooms.iter().filter(|(_, room)| room.has_any(incarnation));
        rooms.map(|(name, _)| &**name).collect()
    }

    /// The incarnations that have anybody in any room.
    fn tellers(&self) -> BTreeSet<String> {
        let rooms = self.rooms.values();
        let at = rooms.flat_map(|room| room.at.iter().filter(|(_, users)| !users.is_empty()));
        at.map(|(incarnation, _)| incarnation.clone()).collect()
    }

    fn bury(&mut self, incarnation: &str, untaken_until: u64) {
        let until = self.dead.entry(incarnation.to_owned()).or_insert(untaken_until);
        *until = untaken_until.max(*until);
        self.instances.remove(incarnation);
        self.about.remove(incarnation);
    }

    /// Those whose time has come, in the order in which it came.
    fn until(of: &BTreeMap<String, u64>, now: u64) -> Vec<String> {
        let mut due: Vec<_> =
            of.iter().filter(|(_, until)| **until <= now).map(|(name, until)| (*until, name)).collect();
        due.sort();
        due.into_iter().map(|(_, name)| name.clone()).collect()
    }
}

fn text(word: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(word).map_err(|error| error.to_string())
}

fn number(word: &[u8]) -> Result<u64, String> {
    text(word)?.parse().map_err(|error| format!("{error}: {word:?}"))
}

impl Redis {
    /// Runs a script with these keys and arguments.
    pub(super) fn run_presence(
        &mut self,
        wire: WireId,
        script: Script,
        words: &[&[u8]],
        around: &mut Surroundings<'_>,
    ) -> Result<(), String> {
        let count = number(words.first().ok_or("a script without a number of keys")?)? as usize;
        let words = words[1..].iter().map(|word| text(word)).collect::<Result<Vec<&str>, _>>()?;
        let (keys, arguments) = words.split_at_checked(count).ok_or("fewer keys than named")?;
        trace!(around.trace, around.timeline, "redis: {script:?} {arguments:?}");
        let now = Redis::unix_ms(around);
        match (script, keys, arguments) {
            (
                Script::Present | Script::PresentSharded,
                [_, _, _, of_rooms, of_gone, of_tellers],
                [drawn, channel, room, rest @ .., teller],
            ) => {
                let call = self.call(drawn, channel, room, now)?;
                let incarnation = self.check_keys(keys, &call, Some(of_rooms))?.ok_or("no incarnation")?;
                self.check_key(of_gone, "gone", &incarnation)?;
                self.check_teller(of_tellers, teller, &incarnation)?;
                self.note_present(wire, &call, &incarnation, rest, around)?;
            }
            (
                Script::Leave | Script::LeaveSharded,
                [_, _, _, of_rooms, of_tellers],
                [drawn, channel, room, _, teller],
            ) => {
                let call = self.call(drawn, channel, room, now)?;
                let incarnation = self.check_keys(keys, &call, Some(of_rooms))?.ok_or("no incarnation")?;
                self.check_teller(of_tellers, teller, &incarnation)?;
                self.take_out(wire, &call, &incarnation, around)?;
            }
            (Script::Roster, [_, _], [drawn, channel, "0", _]) => {
                let name = self.name_of(channel.as_bytes())?.to_owned();
                let room = room_of(&name).ok_or("a roster of no room")?;
                let call = self.call(drawn, channel, room, now)?;
                self.check_keys(keys, &call, None)?;
                self.read_roster(wire, &call);
            }
            (Script::Gone, [of_gone, of_rooms, of_tellers], [_, _, teller]) => {
                let incarnation = of_gone.split_once("\u{1}gone:").ok_or("no incarnation is gone")?.1.to_owned();
                self.check_key(of_gone, "gone", &incarnation)?;
                self.check_key(of_rooms, "rooms", &incarnation)?;
                self.check_teller(of_tellers, teller, &incarnation)?;
                let present = &mut self.data.kept.present;
                present.gone.insert(incarnation.clone());
                let rooms: Vec<String> = present.rooms_of(&incarnation).into_iter().map(str::to_owned).collect();
                self.answer(wire, |out| {
                    resp::push(out, false, rooms.len());
                    rooms.iter().for_each(|room| resp::bulk(out, room.as_bytes()));
                });
            }
            (Script::Renew, [_, _, _], arguments) => {
                for (key, kind) in keys.iter().zip(["instances", "dead", "about"]) {
                    if *key != self.names().key_of_all(kind) {
                        return Err(format!("{key} is not {kind}"));
                    }
                }
                self.renew(wire, arguments, around)?;
            }
            (Script::Check, [of_rooms, of_tellers], [_]) => {
                let incarnation = of_rooms.split_once("\u{1}rooms:").ok_or("no incarnation is looked for")?.1;
                self.check_key(of_rooms, "rooms", incarnation)?;
                self.check_teller(of_tellers, incarnation, incarnation)?;
                let is_there = !self.data.kept.present.rooms_of(incarnation).is_empty();
                let (tellers, replid) = (self.data.kept.present.tellers(), self.replid());
                self.answer(wire, |out| {
                    resp::push(out, false, 3);
                    resp::integer(out, is_there.into());
                    resp::bulk(out, replid.as_bytes());
                    resp::push(out, false, tellers.len());
                    tellers.iter().for_each(|incarnation| resp::bulk(out, incarnation.as_bytes()));
                });
            }
            _ => return Err(format!("{script:?} is run with {words:?}")),
        }
        if self.data.rng.u64(0..self.data.replica_lag) == 0 {
            self.replicate(around);
        }
        Ok(())
    }

    fn call<'a>(&self, drawn: &str, channel: &'a str, room: &'a str, now: u64) -> Result<Call<'a>, String> {
        Reference::room(room)?;
        if self.channel(&name_of(room)) != channel {
            return Err(format!("what changes in {room} is told to {channel}"));
        }
        let drawn = u64::from_str_radix(drawn, 16).map_err(|error| error.to_string())?;
        Ok(Call { room, channel, drawn, replid: self.replid(), now })
    }

    /// The incarnation that the keys name, if they are those of the room.
    fn check_keys(&self, keys: &[&str], call: &Call<'_>, of_rooms: Option<&str>) -> Result<Option<String>, String> {
        for (key, kind) in keys.iter().zip(["present", "changes"]) {
            if *key != self.names().key(kind, call.room) {
                return Err(format!("{key} is not {kind} of {}", call.room));
            }
        }
        let Some(of_rooms) = of_rooms else { return Ok(None) };
        let incarnation = of_rooms.split_once("\u{1}rooms:").ok_or("a set of rooms of nobody")?.1;
        self.check_key(of_rooms, "rooms", incarnation)?;
        match keys[2] == self.names().key(&format!("at:{incarnation}"), call.room) {
            true => Ok(Some(incarnation.to_owned())),
            false => Err(format!("{} is not {incarnation}'s in {}", keys[2], call.room)),
        }
    }

    fn check_key(&self, key: &str, kind: &str, incarnation: &str) -> Result<(), String> {
        match self.names().key_in(0, kind, incarnation) == key {
            true => Ok(()),
            false => Err(format!("{key} is not {kind} of {incarnation}")),
        }
    }

    fn check_teller(&self, key: &str, teller: &str, incarnation: &str) -> Result<(), String> {
        if key != self.names().key_of_part(0, "tellers") {
            return Err(format!("{key} is not the tellers'"));
        }
        match teller == incarnation {
            true => Ok(()),
            false => Err(format!("{teller} tells of {incarnation}")),
        }
    }

    fn note_present(
        &mut self,
        wire: WireId,
        call: &Call<'_>,
        incarnation: &str,
        arguments: &[&str],
        around: &mut Surroundings<'_>,
    ) -> Result<(), String> {
        let [user, connections, info] = arguments else { return Err(format!("present with {arguments:?}")) };
        let present = &mut self.data.kept.present;
        if present.gone.contains(incarnation) {
            self.answer(wire, |out| out.extend_from_slice(b"-GONE the incarnation is dead\r\n"));
            return Ok(());
        }
        let connections = number(connections.as_bytes())?;
        let room = present.rooms.entry(call.room.to_owned()).or_default();
        let at = room.at.entry(incarnation.to_owned()).or_default();
        let had = at.get(*user).copied().unwrap_or(0);
        match connections {
            0 => drop(at.remove(*user)),
            _ => drop(at.insert((*user).to_owned(), connections)),
        }
        let (before, known) = room.known(user);
        let now = (before + connections).saturating_sub(had).max(connections);
        let has_news = connections > 0 && known != *info;
        let mut payloads = Vec::new();
        if now != before || has_news {
            room.settle(call);
            payloads.push(room.change(user, now, if has_news { info } else { &known }));
            room.keep(call);
        }
        let users = room.present.len();
        let rooms = present.rooms_of(incarnation).len();
        let trouble = self.announce(wire, call, &payloads, around)?;
        self.answer(wire, |out| {
            resp::push(out, false, 6);
            [now as usize, users, rooms].into_iter().for_each(|number| resp::integer(out, number));
            resp::bulk(out, call.replid.as_bytes());
            resp::integer(out, trouble.is_empty().into());
            resp::bulk(out, trouble.as_bytes());
        });
        Ok(())
    }

    fn take_out(
        &mut self,
        wire: WireId,
        call: &Call<'_>,
        incarnation: &str,
        around: &mut Surroundings<'_>,
    ) -> Result<(), String> {
        let room = self.data.kept.present.rooms.entry(call.room.to_owned()).or_default();
        let mut payloads = Vec::new();
        for (user, connections) in room.at.remove(incarnation).unwrap_or_default() {
            let (before, info) = room.known(&user);
            if before > 0 {
                room.settle(call);
                payloads.push(room.change(&user, before.saturating_sub(connections), &info));
                room.keep(call);
            }
        }
        let users = room.present.len();
        let trouble = self.announce(wire, call, &payloads, around)?;
        self.answer(wire, |out| {
            resp::push(out, false, 5);
            [0, users].into_iter().for_each(|number| resp::integer(out, number));
            resp::bulk(out, call.replid.as_bytes());
            resp::integer(out, trouble.is_empty().into());
            resp::bulk(out, trouble.as_bytes());
        });
        Ok(())
    }

    /// Publishes changes. Returns what is wrong with that.
    fn announce(
        &mut self,
        wire: WireId,
        call: &Call<'_>,
        payloads: &[Vec<u8>],
        around: &mut Surroundings<'_>,
    ) -> Result<&'static str, String> {
        if self.refuses_publish && !payloads.is_empty() {
            return Ok("PUBLISH: NOPERM No permissions to access a channel");
        }
        for payload in payloads {
            self.deliver((Some(wire), true), call.channel.as_bytes(), payload, around)?;
        }
        Ok("")
    }

    fn read_roster(&mut self, wire: WireId, call: &Call<'_>) {
        let room = self.data.kept.present.rooms.entry(call.room.to_owned()).or_default();
        if room.settle(call) {
            room.keep(call);
        }
        let (users, changes) = (room.present.clone(), room.changes.clone().expect("settled"));
        self.answer(wire, |out| {
            resp::push(out, false, 5 + 2 * users.len());
            resp::bulk(out, format!("{:016x}", changes.epoch).as_bytes());
            resp::integer(out, changes.number as usize);
            resp::integer(out, users.len());
            resp::bulk(out, b"0");
            resp::bulk(out, call.replid.as_bytes());
            for (user, (connections, info)) in &users {
                resp::bulk(out, user.as_bytes());
                resp::bulk(out, format!("{connections} {info}").as_bytes());
            }
        });
    }

    fn renew(&mut self, wire: WireId, arguments: &[&str], around: &Surroundings<'_>) -> Result<(), String> {
        let [own, lease, about, is_new, takes_max, cleared, handed_out_by, retired, others @ ..] = arguments else {
            return Err(format!("a lease is renewed with {arguments:?}"));
        };
        let [lease, takes_max, cleared, retired] =
            [lease, takes_max, cleared, retired].map(|word| number(word.as_bytes()));
        let (cleared, others) = others.split_at_checked(cleared? as usize).ok_or("fewer are cleared up than said")?;
        let (retired, suspects) = others.split_at_checked(retired? as usize).ok_or("fewer are given up than said")?;
        let (lease, takes_max, now, replid) = (lease?, takes_max? as usize, Redis::unix_ms(around), self.replid());
        let present = &mut self.data.kept.present;
        if present.replid.as_ref() != Some(&replid) && present.replid.replace(replid.clone()).is_some() {
            present.instances.values_mut().for_each(|until| *until = (now + lease).max(*until));
        }
        let lasts = present.instances.get(*own).copied().unwrap_or(0);
        let is_kept = lasts > now || *is_new == "1" && !present.dead.contains_key(*own);
        if is_kept {
            present.instances.insert((*own).to_owned(), now + lease);
            present.about.insert((*own).to_owned(), (*about).to_owned());
        }
        for incarnation in Present::until(&present.instances, now).into_iter().take(EXPIRED_MAX) {
            present.bury(&incarnation, now + lease / 4);
        }
        retired.iter().for_each(|incarnation| present.bury(incarnation, now + lease));
        for incarnation in cleared.iter().filter(|_| *handed_out_by == replid) {
            present.dead.remove(*incarnation);
        }
        for incarnation in suspects {
            if !present.instances.contains_key(*incarnation) && !present.dead.contains_key(*incarnation) {
                present.bury(incarnation, now + lease);
            }
        }
        let mut taken = Present::until(&present.dead, now);
        taken.truncate(if is_kept { takes_max } else { 0 });
        for incarnation in &taken {
            present.dead.insert(incarnation.clone(), now + lease);
        }
        let mut instances: Vec<_> = present.instances.iter().map(|(name, until)| (*until, name.clone())).collect();
        instances.sort();
        let about = present.about.clone();
        self.answer(wire, |out| {
            resp::push(out, false, 4 + 3 * instances.len());
            resp::integer(out, is_kept.into());
            resp::integer(out, now as usize);
            resp::bulk(out, replid.as_bytes());
            resp::push(out, false, taken.len());
            taken.iter().for_each(|incarnation| resp::bulk(out, incarnation.as_bytes()));
            for (until, incarnation) in &instances {
                resp::bulk(out, incarnation.as_bytes());
                resp::bulk(out, until.to_string().as_bytes());
                resp::bulk(out, about.get(incarnation).map_or("", |about| about).as_bytes());
            }
        });
        Ok(())
    }

    /// Somebody comes to each room and goes again, so that a change that could not be announced is missed.
    pub fn pass_by(&mut self, rooms: impl Iterator<Item = usize>, around: &mut Surroundings<'_>) -> Result<(), String> {
        for room in rooms.map(|room| ROOMS[room]) {
            let channel = self.channel(&name_of(room));
            let (now, replid) = (Redis::unix_ms(around), self.replid());
            let call = Call { room, channel: &channel, drawn: 1, replid, now };
            let of = self.data.kept.present.rooms.entry(room.to_owned()).or_default();
            of.settle(&call);
            for payload in [of.change(PASSER, 1, ""), of.change(PASSER, 0, "")] {
                self.deliver((None, true), channel.as_bytes(), &payload, around)?;
            }
        }
        for wire in self.wires() {
            self.flush(wire, around);
        }
        Ok(())
    }

    /// How many connections of which user it takes to be in a room.
    pub fn present(&self, room: usize) -> BTreeMap<&str, u64> {
        let users = self.data.kept.present.rooms.get(ROOMS[room]).into_iter().flat_map(|room| &room.present);
        users.map(|(user, (connections, _))| (&**user, *connections)).collect()
    }
}
