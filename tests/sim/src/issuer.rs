//! Who issues credentials, verifies them, and takes them back, as the world of a seed knows it. What instances make of that is judged
//! elsewhere.

use crate::identity::{EPOCH_MS, Identities, OWN, USERS, core_grants, draw_grants};
use crate::options::{Span, chance, pick};
use crate::reference::ROOMS;
use fanfare_core::{Ban, Banned, Denied, Identity};
use fastrand::Rng;
use std::collections::BTreeSet;
use std::rc::Rc;

/// Seconds for which nothing that is issued after the healing ends by itself, but for those that are to be renewed.
const LONG: Span = Span { min: 100_000, max: 100_000 };
/// The same of those.
const RENEWED: Span = Span { min: 20, max: 200 };

/// A credential, as it is known to who has issued it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// The place of the user's name in [`USERS`].
    pub user: usize,
    /// What may be done by it, for each right.
    pub grants: [Vec<String>; 3],
    /// From when on it is good no more: Unix, ms, whole seconds.
    pub expires_ms: Option<u64>,
    /// When it was issued.
    pub issued_ms: Option<u64>,
    /// Its name.
    pub token_id: Option<String>,
    /// What is asked to look it up again.
    pub renewal: Option<String>,
    /// The rooms that it names for its connection to join.
    pub join: BTreeSet<usize>,
}

impl Credential {
    /// As the core takes it.
    pub fn identity(&self) -> Identity {
        let mut identity = Identity::new(USERS[self.user]);
        identity.grants = core_grants(&self.grants);
        (identity.expires_ms, identity.issued_ms) = (self.expires_ms, self.issued_ms);
        identity.token_id = self.token_id.as_deref().map(Into::into);
        identity.renewal = self.renewal.as_deref().map(|text| text.as_bytes().into());
        identity.join = self.join.iter().map(|room| ROOMS[*room].into()).collect();
        identity
    }

    /// Whether its connection joins the room by itself, if it may.
    pub fn brings(&self, room: usize, own_rooms: bool) -> bool {
        own_rooms && room == OWN + self.user || self.join.contains(&room)
    }

    /// Why bans refuse it at this time, if they do.
    pub fn refusals(&self, bans: &[Ban], now_ms: u64) -> Vec<Denied> {
        let bans = bans.iter().filter(|ban| now_ms < ban.until_ms);
        let refusal = |banned: &Banned| match banned {
            Banned::User(user) => (**user == *USERS[self.user]).then_some(Denied::Forbidden),
            Banned::Token(token) => (self.token_id.as_deref() == Some(token)).then_some(Denied::Expired),
            Banned::IssuedBefore { ms, user } => {
                let is_of_it = user.as_deref().is_none_or(|user| user == USERS[self.user]);
                let is_older = match self.issued_ms {
                    Some(issued_ms) => issued_ms < *ms,
                    None => true,
                };
                (is_of_it && is_older).then_some(Denied::Expired)
            }
            _ => None,
        };
        bans.filter_map(|ban| refusal(&ban.banned)).collect()
    }
}

/// All credentials and bans.
#[derive(Debug)]
pub struct Issuer {
    identities: Identities,
    /// By their number; those that are not sessions never change.
    issued: Vec<Credential>,
    bans: Vec<Ban>,
    is_healed: bool,
    rng: Rng,
}

impl Issuer {
    /// Nothing has been issued.
    pub fn new(identities: Identities, rng: Rng) -> Issuer {
        Issuer { identities, issued: Vec::new(), bans: Vec::new(), is_healed: false, rng }
    }

    /// All bans there are.
    pub fn bans(&self) -> &[Ban] {
        &self.bans
    }

    /// The credential of this text.
    pub fn credential(&self, text: &str) -> Option<&Credential> {
        self.issued.get(text.strip_prefix(['c', 'r'])?.parse::<usize>().ok()?)
    }

    /// Issues a credential with these grants, or with all that the user has. With `renews`, its holder can renew it.
    pub fn issue(&mut self, user: usize, grants: Option<[Vec<String>; 3]>, renews: bool, now: u64) -> String {
        let now_ms = EPOCH_MS + now / 1_000;
        let number = self.issued.len();
        let lifetime = match (self.is_healed, renews) {
            (false, _) => self.identities.lifetime,
            (true, true) => RENEWED,
            (true, false) => LONG,
        };
        let seconds = |ms: u64| ms / 1_000 * 1_000;
        let grants = grants.unwrap_or_else(|| self.identities.full[user].clone());
        let join = self.draw_join(user, &grants);
        let r = &mut self.rng;
        let is_session = chance(r, self.identities.sessions);
        let lasts = r.u32(0..8) == 0;
        let expires_ms = (!lasts).then(|| seconds(now_ms + 1_000 * lifetime.draw(r)));
        self.issued.push(Credential {
            user,
            grants,
            expires_ms,
            issued_ms: (self.rng.u32(0..10) > 0 || self.is_healed).then(|| seconds(now_ms)),
            token_id: self.rng.bool().then(|| format!("t{number}")),
            renewal: is_session.then(|| format!("r{number}")),
            join,
        });
        format!("c{number}")
    }

    /// Rooms that a credential names: mostly such as its user may be in.
    fn draw_join(&mut self, user: usize, grants: &[Vec<String>; 3]) -> BTreeSet<usize> {
        if self.is_healed {
            return self.identities.full_join[user].clone();
        }
        if !chance(&mut self.rng, self.identities.named) {
            return BTreeSet::new();
        }
        let is_permitted = self.rng.u32(0..4) > 0;
        self.identities.draw_join(user, grants, is_permitted, &mut self.rng)
    }

    /// What the verifier says of this text. With `hears`, its client hears of rooms that it is put in.
    pub fn verify(&mut self, text: &str, hears: bool, now: u64) -> Result<Rc<Credential>, Denied> {
        let now_ms = EPOCH_MS + now / 1_000;
        let verifier = self.identities.verifier.clone();
        if !self.is_healed && chance(&mut self.rng, verifier.unavailable) {
            return Err(Denied::Unavailable);
        }
        if text.starts_with('r') {
            self.roll(text, hears, now_ms)?;
        }
        let Some(credential) = self.credential(text).cloned() else { return Err(Denied::Unauthorised) };
        if !self.is_healed && chance(&mut self.rng, verifier.refused) {
            return Err(pick(&mut self.rng, &[Denied::Unauthorised, Denied::Forbidden]));
        }
        // Sometimes it leaves that to the core.
        if credential.expires_ms.is_some_and(|at| at <= now_ms) && self.rng.bool() {
            return Err(Denied::Expired);
        }
        Ok(Rc::new(credential))
    }

    /// A session is looked up: it has ended, or goes on, and its user may have other grants by now.
    fn roll(&mut self, text: &str, hears: bool, now_ms: u64) -> Result<(), Denied> {
        let Some(number) = text.strip_prefix('r').and_then(|number| number.parse::<usize>().ok()) else {
            return Err(Denied::Unauthorised);
        };
        let r = &mut self.rng;
        let lifetime = if self.is_healed { LONG } else { self.identities.lifetime };
        let grants = match (self.is_healed, r.u32(0..4)) {
            (true, _) | (false, 0) => Some(self.identities.full[self.issued[number].user].clone()),
            (false, 1) => Some([draw_grants(r), draw_grants(r), draw_grants(r)]),
            _ => None,
        };
        let has_ended = !self.is_healed && chance(r, self.identities.logouts);
        let session = &mut self.issued[number];
        if has_ended {
            return Err(Denied::Unauthorised);
        }
        session.grants = grants.unwrap_or_else(|| session.grants.clone());
        let (user, grants, before) = (session.user, session.grants.clone(), session.join.clone());
        let join = self.draw_join(user, &grants);
        let r = &mut self.rng;
        let session = &mut self.issued[number];
        session.join = join_of_renewed(&before, join, hears);
        session.expires_ms = session.expires_ms.map(|_| (now_ms + 1_000 * lifetime.draw(r)) / 1_000 * 1_000);
        Ok(())
    }

    /// What an operator lets a user of now on, unasked.
    pub fn renew(&mut self, known: &Credential, hears: bool, now: u64) -> Result<Rc<Credential>, Denied> {
        let r = &mut self.rng;
        if r.u32(0..5) == 0 {
            return Err(pick(r, &[Denied::Unauthorised, Denied::Forbidden, Denied::Expired, Denied::Unavailable]));
        }
        let grants = [draw_grants(r), draw_grants(r), draw_grants(r)];
        let text = self.issue(known.user, Some(grants), false, now);
        let mut renewed = self.credential(&text).cloned().expect("it was issued just now");
        renewed.join = join_of_renewed(&known.join, renewed.join, hears);
        Ok(Rc::new(renewed))
    }

    /// Somebody's credentials count no more.
    pub fn ban(&mut self, now: u64) {
        let now_ms = EPOCH_MS + now / 1_000;
        let r = &mut self.rng;
        let user = USERS[r.usize(0..USERS.len())];
        let last = self.issued.iter().rev().filter_map(|of| of.token_id.clone()).nth(r.usize(0..6));
        let banned = match (r.u32(0..5), last) {
            (0..2, _) => Banned::User(user.into()),
            (2, Some(token)) => Banned::Token(token.into()),
            (3, _) => Banned::IssuedBefore { ms: now_ms, user: None },
            _ => Banned::IssuedBefore { ms: now_ms, user: Some(user.into()) },
        };
        self.bans.push(Ban { banned, until_ms: now_ms + r.u64(500..20_000) });
    }

    /// From now on it is willing. No ban is left, but one.
    pub fn heal(&mut self) {
        self.is_healed = true;
        let banned = self.identities.banned.map(|user| Banned::User(USERS[user].into()));
        self.bans = banned.into_iter().map(|banned| Ban { banned, until_ms: u64::MAX }).collect();
    }

    /// Whether it is willing.
    pub fn is_healed(&self) -> bool {
        self.is_healed
    }

    /// Microseconds until the verifier answers; `None` where it forgets to.
    pub fn delay(&mut self, handshake: u64) -> Option<u64> {
        let verifier = &self.identities.verifier;
        if self.is_healed {
            return Some(self.rng.u64(50..5_000));
        }
        match self.rng.u32(0..1_000) {
            drawn if drawn < verifier.forgotten => None,
            drawn if drawn < verifier.forgotten + verifier.slow => Some(self.rng.u64(handshake / 2..handshake * 2)),
            _ => Some(verifier.delay.draw(&mut self.rng)),
        }
    }

    /// Draws for what the guard has to choose.
    pub fn rng(&mut self) -> &mut Rng {
        &mut self.rng
    }
}

/// The rooms that come with a credential in the place of another: whose client does not hear of them has no more than it knows of.
fn join_of_renewed(before: &BTreeSet<usize>, now: BTreeSet<usize>, hears: bool) -> BTreeSet<usize> {
    if hears { now } else { now.intersection(before).copied().collect() }
}
