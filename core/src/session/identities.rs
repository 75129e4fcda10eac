//! Who connections are known to be: 16 bytes for each of them, a name for each user, and what few credentials have besides.

use crate::hash::{BySlot, Seeded, take_of};
use crate::identity::{Facts, Identity};
use crate::rules::{Grants, user_segment};
use crate::shared::Shared;
use std::fmt;

/// Nobody, or no such time.
const NONE: u32 = u32::MAX;

/// What is known of a connection. Times are Unix seconds, and [`NONE`] where there is none.
#[derive(Clone, Copy, Debug)]
struct Known {
    user: u32,
    grants: u32,
    expires_s: u32,
    issued_s: u32,
}

const UNKNOWN: Known = Known { user: NONE, grants: NONE, expires_s: NONE, issued_s: NONE };

/// What few credentials have.
#[derive(Default)]
struct Rest {
    token_id: Option<Box<str>>,
    renewal: Option<Box<[u8]>>,
}

impl fmt::Debug for Rest {
    /// Without what is secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rest").field("token_id", &self.token_id).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct User {
    name: Box<str>,
    /// As a segment of a room's name, where that is not the name.
    segment: Option<Box<str>>,
}

/// All of them.
#[derive(Debug)]
pub(super) struct Identities {
    /// By slot; it ends with the last slot that has ever been known.
    known: Vec<Known>,
    rest: BySlot<Rest>,
    users: Shared<User>,
    grants: Shared<Grants>,
}

/// Who a connection is.
#[derive(Clone, Copy)]
pub(super) struct Who<'a> {
    /// The user's name.
    pub user: &'a str,
    /// The same as a segment of a room's name.
    pub segment: &'a str,
    pub grants: &'a Grants,
    /// Unix, ms.
    pub expires_ms: Option<u64>,
    /// What is to be asked, if it has to be asked again.
    pub renewal: Option<&'a [u8]>,
    issued_ms: Option<u64>,
    token_id: Option<&'a str>,
}

impl<'a> Who<'a> {
    /// What bans look at.
    pub fn facts(self) -> Facts<'a> {
        Facts { user: self.user, token_id: self.token_id, issued_ms: self.issued_ms }
    }
}

impl Identities {
    pub fn new(seed: u64) -> Identities {
        Identities {
            known: Vec::new(),
            rest: BySlot::with_hasher(Seeded::new(seed)),
            users: Shared::new(seed),
            grants: Shared::new(seed),
        }
    }

    /// Who the connection is, if that is known.
    pub fn get(&self, slot: u32) -> Option<Who<'_>> {
        let Known { user, grants, expires_s, issued_s } = *self.known.get(slot as usize)?;
        if user == NONE {
            return None;
        }
        let User { name, segment } = self.users.get(user);
        let rest = if self.rest.is_empty() { None } else { self.rest.get(&slot) };
        Some(Who {
            user: name,
            segment: segment.as_ref().unwrap_or(name),
            grants: self.grants.get(grants),
            expires_ms: millis(expires_s),
            issued_ms: millis(issued_s),
            token_id: rest.and_then(|rest| rest.token_id.as_deref()),
            renewal: rest.and_then(|rest| rest.renewal.as_deref()),
        })
    }

    /// The user's name, for what it says.
    pub fn user(&self, slot: u32) -> Option<&str> {
        self.user_index(slot).map(|user| &*self.users.get(user).name)
    }

    /// The connection is known to be this one.
    pub fn set(&mut self, slot: u32, identity: &Identity) {
        let name = &identity.user;
        let known = Known {
            user: self.users.take(
                name,
                |user| user.name == *name,
                || {
                    let segment = user_segment(name);
                    User { name: name.clone(), segment: (*segment != **name).then(|| segment.into()) }
                },
            ),
            grants: self.grants.take(&identity.grants, |grants| *grants == identity.grants, || identity.grants.clone()),
            expires_s: seconds(identity.expires_ms),
            issued_s: seconds(identity.issued_ms),
        };
        self.forget(slot);
        if self.known.len() <= slot as usize {
            self.known.resize(slot as usize + 1, UNKNOWN);
        }
        self.known[slot as usize] = known;
        if identity.token_id.is_some() || identity.renewal.is_some() {
            self.rest.insert(slot, Rest { token_id: identity.token_id.clone(), renewal: identity.renewal.clone() });
        }
    }

    /// Nothing is known of the connection any more.
    pub fn forget(&mut self, slot: u32) {
        let Some(known) = self.known.get_mut(slot as usize) else { return };
        let Known { user, grants, .. } = std::mem::replace(known, UNKNOWN);
        if user != NONE {
            self.users.give_back(user);
            self.grants.give_back(grants);
            take_of(&mut self.rest, slot);
        }
    }

    /// The slot behind the last that has ever been known.
    pub fn end(&self) -> u32 {
        self.known.len() as u32
    }

    /// Connections that are known.
    pub fn slots(&self) -> impl Iterator<Item = u32> + '_ {
        (0..self.known.len() as u32).filter(|slot| self.known[*slot as usize].user != NONE)
    }

    /// What tells the user from all others, as long as it has a connection.
    pub fn user_index(&self, slot: u32) -> Option<u32> {
        let user = self.known.get(slot as usize)?.user;
        (user != NONE).then_some(user)
    }

    /// The hash of the user's name, which stays the same.
    pub fn user_hash(&self, user: u32) -> u64 {
        self.users.hash(user)
    }

    /// How many connections the user of this name has.
    pub fn connections_of(&self, name: &str) -> u32 {
        self.users.count(name, |user| *user.name == *name)
    }

    /// The connections of the user of this name, in a walk over all that are known: 16 bytes for each.
    pub fn slots_of(&self, name: &str) -> Vec<u32> {
        match self.users.find(name, |user| *user.name == *name) {
            Some(user) => self.slots().filter(|slot| self.known[*slot as usize].user == user).collect(),
            None => Vec::new(),
        }
    }

    /// How many users there are.
    pub fn users(&self) -> usize {
        self.users.len()
    }
}

/// Unix time in seconds, rounded down; later than the year 2106 is never.
fn seconds(ms: Option<u64>) -> u32 {
    ms.and_then(|ms| u32::try_from(ms / 1_000).ok()).unwrap_or(NONE)
}

fn millis(seconds: u32) -> Option<u64> {
    (seconds != NONE).then(|| u64::from(seconds) * 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::Right;

    #[test]
    fn what_several_have_is_kept_once_and_goes_with_the_last() {
        let mut identities = Identities::new(0);
        let mut bob = Identity::new("bob b");
        bob.grants = Grants::default().with(Right::Publish, ["a*"]).unwrap();
        (bob.expires_ms, bob.issued_ms) = (Some(5_999), Some(1_000));
        identities.set(3, &bob);
        (bob.token_id, bob.renewal) = (Some("t".into()), Some(b"r"[..].into()));
        identities.set(1, &bob);
        assert_eq!((identities.users(), identities.slots().collect::<Vec<_>>()), (1, vec![1, 3]));
        assert_eq!((identities.connections_of("bob b"), identities.connections_of("bob")), (2, 0));
        let who = identities.get(3).unwrap();
        assert_eq!((who.user, who.segment, who.expires_ms), ("bob b", "bob%20b", Some(5_000)));
        assert_eq!((who.facts().issued_ms, who.facts().token_id, who.renewal), (Some(1_000), None, None));
        let who = identities.get(1).unwrap();
        assert_eq!((who.facts().token_id, who.renewal), (Some("t"), Some(&b"r"[..])));
        assert!(who.grants.allow(Right::Publish, "ab"));

        identities.set(1, &Identity::new("eve"));
        assert_eq!((identities.users(), identities.get(1).unwrap().renewal), (2, None));
        assert!(!identities.get(1).unwrap().grants.allow(Right::Publish, "ab"));
        assert_eq!((identities.slots_of("bob b"), identities.slots_of("bob")), (vec![3], vec![]));
        identities.forget(3);
        identities.forget(3);
        assert_eq!((identities.users(), identities.user(3), identities.user(1)), (1, None, Some("eve")));
        assert_eq!((identities.connections_of("bob b"), identities.connections_of("eve")), (0, 1));
        identities.forget(1);
        assert_eq!((identities.users(), identities.grants.len(), identities.rest.len()), (0, 0, 0));
        assert!(identities.get(0).is_none() && identities.get(9).is_none());
    }

    #[test]
    fn a_connection_costs_sixteen_bytes() {
        assert_eq!(size_of::<Known>(), 16);
    }
}
