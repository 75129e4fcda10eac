//! Who is in which room, within one process.

use crate::hash::Seeded;
use crate::presence::{Change, Present, RosterPage, Version};
use hashbrown::HashMap;
use smallvec::SmallVec;
use std::collections::BTreeMap;

/// Who is in each room: what an embedded broker keeps of presence. A room that nobody is in takes no memory.
#[derive(Debug)]
pub struct Rosters {
    rooms: HashMap<String, Roster, Seeded>,
    epoch: u64,
    /// Of rooms with more users it is only told how many there are.
    users_max: u32,
    /// No room that was forgotten has had more changes. A room begins behind them, so that no two of its states have one number.
    changes_max: u64,
}

#[derive(Debug)]
struct Roster {
    changes: u64,
    users: BTreeMap<Box<str>, User>,
}

#[derive(Debug, Default)]
struct User {
    /// How many connections it has at which instance.
    at: SmallVec<[(u16, u32); 2]>,
    info: Box<str>,
}

impl User {
    fn connections(&self) -> u32 {
        self.at.iter().map(|(_, connections)| connections).sum()
    }
}

impl Rosters {
    /// Nobody anywhere.
    pub fn new(users_max: u32, seed: u64) -> Rosters {
        Rosters { rooms: HashMap::with_hasher(Seeded::new(seed)), epoch: seed, users_max, changes_max: 0 }
    }

    /// A user has so many connections in a room at this instance. Returns how many it has there at all of them, and appends what has to be
    /// published if that changes anything.
    pub fn set(
        &mut self,
        instance: u16,
        room: &str,
        (user, info): (&str, &str),
        connections: u32,
        out: &mut Vec<u8>,
    ) -> u32 {
        let (epoch, changes) = (self.epoch, self.changes_max);
        let roster = self.rooms.entry_ref(room).or_insert_with(|| Roster { changes, users: BTreeMap::new() });
        let mut kept = roster.users.remove(user).unwrap_or_default();
        let before = kept.connections();
        let has_news = connections > 0 && *kept.info != *info;
        if has_news {
            kept.info = info.into();
        }
        kept.at.retain(|(at, _)| *at != instance);
        if connections > 0 {
            kept.at.push((instance, connections));
        }
        let now = kept.connections();
        let info = if now > 0 { kept.info.clone() } else { Box::default() };
        if now > 0 {
            roster.users.insert(user.into(), kept);
        }
        if now != before || has_news {
            roster.changes += 1;
            let version = Version { epoch, number: roster.changes };
            Change { version, total: roster.users.len() as u32, connections: now, user, info: &info }.write(out);
        }
        if roster.users.is_empty() {
            self.changes_max = self.changes_max.max(roster.changes);
            self.rooms.remove(room);
        }
        now
    }

    /// All who are in a room, unless they are too many.
    pub fn read(&self, room: &str) -> RosterPage {
        let roster = self.rooms.get(room);
        let number = roster.map_or(self.changes_max, |roster| roster.changes);
        let total = roster.map_or(0, |roster| roster.users.len() as u32);
        let told = roster.filter(|_| total <= self.users_max);
        let users = told.into_iter().flat_map(|roster| &roster.users);
        let users = users
            .map(|(user, kept)| Present {
                user: user.clone(),
                connections: kept.connections(),
                info: kept.info.clone(),
            })
            .collect();
        RosterPage { version: Version { epoch: self.epoch, number }, total, users, next: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(rosters: &mut Rosters, instance: u16, user: &str, connections: u32) -> (u32, Option<String>) {
        let mut out = Vec::new();
        let now = rosters.set(instance, "r", (user, "1"), connections, &mut out);
        (now, (!out.is_empty()).then(|| String::from_utf8(out).unwrap()))
    }

    #[test]
    fn a_user_is_there_while_any_instance_has_a_connection() {
        let mut rosters = Rosters::new(2, 7);
        let change = |number: u64, total: u32, connections: u32, rest: &str| {
            Some(format!("F3 0000000000000007 {number} {total} {connections} 3\n{rest}"))
        };
        assert_eq!(set(&mut rosters, 0, "bob", 2), (2, change(1, 1, 2, "bob1")));
        assert_eq!(set(&mut rosters, 0, "bob", 2), (2, None));
        assert_eq!(set(&mut rosters, 1, "bob", 1), (3, change(2, 1, 3, "bob1")));
        assert_eq!(set(&mut rosters, 0, "bob", 0), (1, change(3, 1, 1, "bob1")));
        assert_eq!(set(&mut rosters, 0, "bob", 0), (1, None));
        assert_eq!(set(&mut rosters, 0, "eve", 1), (1, change(4, 2, 1, "eve1")));
        let page = rosters.read("r");
        assert_eq!((page.version, page.total), (Version { epoch: 7, number: 4 }, 2));
        assert_eq!((&*page.users[0].user, page.users[0].connections, &*page.users[0].info), ("bob", 1, "1"));
        assert_eq!(set(&mut rosters, 2, "ann", 1).0, 1);
        let page = rosters.read("r");
        assert_eq!((page.total, page.users.len(), page.next), (3, 0, None), "more than are told");
        assert_eq!(set(&mut rosters, 2, "ann", 0).0, 0);
        assert_eq!(set(&mut rosters, 0, "eve", 0), (0, change(7, 1, 0, "eve")));
        assert_eq!(set(&mut rosters, 1, "bob", 0), (0, change(8, 0, 0, "bob")));
        assert_eq!((rosters.rooms.len(), rosters.read("r").version.number), (0, 8));
        assert_eq!(set(&mut rosters, 1, "bob", 1), (1, change(9, 1, 1, "bob1")));
    }
}
