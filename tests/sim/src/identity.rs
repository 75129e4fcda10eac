//! What a seed draws so that its clients are asked who they are, and who may do what: in words of its own, as the design says it (§7.2), so
//! that the code under test is not asked about itself.

use crate::options::{Options, Span, pick, rng};
use crate::pages::{Admitted, COOKIE};
use crate::presence::has_presence;
use crate::reference::ROOMS;
use fanfare_core::Auth;
use fanfare_core::history::Retention;
use fanfare_core::rules::{Grants, Right, Rule, Rules, Who};
use fastrand::Rng;
use std::collections::BTreeSet;
use std::time::Duration;

/// Of so many seeds those with these remainders draw this. The others do what they would have done without.
const GUARDED_OF: u64 = 16;
const GUARDED: [u64; 3] = [10, 11, 13];

/// The names of the users. Each has an own room in [`ROOMS`].
pub const USERS: [&str; 5] = ["*", "a:b", "{user}", "\u{e9}", "bob"];
/// The own room of the first user; those of the others follow.
pub const OWN: usize = 6;
/// Rooms whose rule has to be found by a pattern: the first of each, and how many there are.
const PATTERNED: [(&str, usize, usize); 3] =
    [("user:{user}", OWN, USERS.len()), ("dm:{user}:{user}", 11, 2), ("team:*", 14, 2)];
/// Rights that rules are asked about here.
pub const RIGHTS: [Right; 3] = [Right::Subscribe, Right::Publish, Right::History];

/// Unix, ms, when everything begins.
pub const EPOCH_MS: u64 = 1_700_000_000_000;

/// Whether a seed asks clients who they are.
pub fn is_guarded(seed: u64) -> bool {
    GUARDED.contains(&(seed % GUARDED_OF)) || has_presence(seed)
}

/// A rule for rooms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ruling {
    pattern: String,
    history: Option<Retention>,
    waits: bool,
    /// It is kept who is there, and who may subscribe may know.
    presence: bool,
    /// Who may subscribe, publish, and read the history, where it says so.
    who: [Option<Who>; 3],
}

/// How credentials are verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verifier {
    /// Microseconds that it takes.
    pub delay: Span,
    /// Of a thousand, how many take so much longer that an upgrade does not wait for it.
    pub slow: u32,
    /// Of a thousand, how many are forgotten.
    pub forgotten: u32,
    /// Of a thousand, how many cannot be verified.
    pub unavailable: u32,
    /// Of a thousand good ones, how many are refused.
    pub refused: u32,
}

/// Who clients are, and how they are asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identities {
    /// As the core is told.
    pub auth: Auth,
    rules: Vec<Ruling>,
    /// Rooms that clients think of.
    pub in_use: Vec<usize>,
    /// What verifies.
    pub verifier: Verifier,
    /// Seconds for which a credential is good.
    pub lifetime: Span,
    /// Of a thousand credentials, how many are sessions that are looked up again.
    pub sessions: u32,
    /// Of a thousand lookups, how many find that the session has ended.
    pub logouts: u32,
    /// Of a thousand turns with a user, how many tell of a user unasked.
    pub unasked: u32,
    /// Mean of microseconds between two bans.
    pub ban_pause: Option<u64>,
    /// Who is still banned when everything heals.
    pub banned: Option<usize>,
    /// Microseconds after which an instance is told anew what time it is.
    pub wall_pause: u64,
    /// What each user has been granted at most, for each right.
    pub full: Vec<[Vec<String>; 3]>,
    /// Of a thousand things that a client does, how many show a credential.
    pub shows: u32,
    /// Which web pages may connect.
    pub admitted: Admitted,
    /// Of a thousand requests, how many show no credential.
    pub strangers: u32,
    /// Of a thousand connections of such, how many never show one by a command either.
    pub silent: u32,
    /// Of a thousand requests, how many show a second credential in another place.
    pub doubled: u32,
    /// Of a thousand credentials, how many name rooms to join.
    pub named: u32,
    /// The rooms that each user's credentials name after the healing: such as it may be in.
    pub full_join: Vec<BTreeSet<usize>>,
}

/// What a grant may name.
const GRANTABLE: [&str; 7] = ["**", "team:*", "team:1", "tea", "a b", "user:**", "dm:*:*"];

impl Identities {
    /// Draws what this seed has of it, and changes what else the seed has drawn where that is needed.
    pub fn draw(options: &mut Options) -> Option<Identities> {
        if !is_guarded(options.seed) {
            return None;
        }
        let r = &mut rng(options.seed, "identities");
        let gentle = options.is_quiet();
        let mut auth = Auth::default();
        (auth.header, auth.subprotocol, auth.command) = (r.u32(0..4) > 0, r.u32(0..4) > 0, r.u32(0..4) > 0);
        // Somewhere a credential has to be shown.
        let by_query = r.u32(0..4) > 0 || !auth.header && !auth.subprotocol;
        auth.query = by_query.then(|| "token".into());
        (auth.required, auth.refuses_by_close, auth.own_rooms) = (r.bool(), r.bool(), r.bool());
        auth.forwards_head = r.bool();
        auth.timeout = Duration::from_millis(r.u64(300..6_000));
        auth.expiry_notice = Duration::from_millis(r.u64(500..6_000));
        auth.recheck = Duration::from_millis(r.u64(500..15_000));
        let rules = draw_rules(options, r);
        let hardships = pick(r, &[0, 1, 3]) * u32::from(!gentle);
        let pause = options.clients.pause.max;
        let share = pick(r, &[3, 6, ROOMS.len()]);
        let mut in_use: Vec<usize> = (0..ROOMS.len()).filter(|_| r.usize(0..ROOMS.len()) < share).collect();
        if in_use.is_empty() {
            in_use = vec![0, OWN];
        }
        let mut identities = Identities {
            auth,
            rules,
            in_use,
            verifier: Verifier {
                delay: Span { min: 50, max: pick(r, &[1_000, 30_000, 400_000]) },
                slow: hardships * 20,
                forgotten: hardships * 15,
                unavailable: hardships * 40,
                refused: hardships * 20,
            },
            lifetime: pick(r, &[Span { min: 1, max: 4 }, Span { min: 2, max: 20 }, Span { min: 20, max: 400 }]),
            sessions: pick(r, &[0, 300, 1_000]),
            logouts: pick(r, &[0, 50, 200]),
            unasked: pick(r, &[0, 0, 3]),
            ban_pause: (!gentle && r.u32(0..3) > 0).then(|| pick(r, &[40, 200, 1_000]) * pause),
            banned: (!gentle && r.u32(0..3) == 0).then(|| r.usize(0..USERS.len())),
            wall_pause: pick(r, &[0, 1_000_000, 20_000_000]),
            full: USERS.iter().map(|_| [draw_grants(r), draw_grants(r), draw_grants(r)]).collect(),
            shows: pick(r, &[10, 50, 200]),
            admitted: Admitted::Own,
            strangers: 80,
            silent: 0,
            doubled: 0,
            named: 0,
            full_join: vec![BTreeSet::new(); USERS.len()],
        };
        identities.draw_requests(&mut rng(options.seed, "requests and their pages"));
        identities.draw_joins(&mut rng(options.seed, "rooms that come with credentials"));
        // In the end one message goes to every room at once.
        // What stands behind a credential too many is not published, and nothing else would tell that it was not.
        options.core.limits.errors_max = options.core.limits.errors_max.max(100);
        let in_flight = &mut options.session.publishes_in_flight_max;
        *in_flight = (*in_flight).max(4 * ROOMS.len());
        options.core.auth = Some(identities.auth.clone());
        options.core.admission.origins = identities.admitted.origins();
        options.core.rules = identities.core_rules();
        for (room, name) in ROOMS.iter().enumerate() {
            let rule = identities.rule(name);
            options.histories.kept[room] = rule.and_then(|rule| rule.history);
            options.histories.waits[room] = rule.is_some_and(|rule| rule.history.is_some() && rule.waits);
        }
        options.session.waits_for_replicas = options.histories.waits.contains(&true);
        Some(identities)
    }

    /// Where in a request credentials count beside what has been drawn, and how many requests have none.
    fn draw_requests(&mut self, r: &mut Rng) {
        self.admitted = Admitted::draw(r);
        self.strangers = pick(r, &[0, 80, 300, 700]);
        self.silent = pick(r, &[0, 300, 900]);
        self.doubled = pick(r, &[0, 0, 200]);
        self.auth.requests = r.u32(0..5) == 0;
        if r.u32(0..3) > 0 {
            self.auth.cookie = Some(COOKIE.into());
            // Where every page may connect, cookies count for none.
            if self.admitted != Admitted::Any && r.u32(0..3) == 0 {
                (self.auth.header, self.auth.query, self.auth.subprotocol) = (false, None, false);
            }
        }
    }

    /// Rooms that come with credentials.
    fn draw_joins(&mut self, r: &mut Rng) {
        self.named = pick(r, &[0, 300, 900]);
        if self.named > 0 {
            self.full_join = (0..USERS.len()).map(|user| self.draw_join(user, &self.full[user], true, r)).collect();
        }
    }

    /// The rooms that come with a user's credentials after the healing.
    pub fn brought(&self, user: usize) -> BTreeSet<usize> {
        let own = self.auth.own_rooms.then_some(OWN + user);
        self.full_join[user].iter().copied().chain(own).collect()
    }

    /// Some rooms: such as the user may be in with these grants, or any.
    pub fn draw_join(
        &self,
        user: usize,
        grants: &[Vec<String>; 3],
        is_permitted: bool,
        r: &mut Rng,
    ) -> BTreeSet<usize> {
        let may = |room: usize| self.may(Some((user, grants)), Right::Subscribe, room).is_ok();
        (0..ROOMS.len()).filter(|room| r.u32(0..5) == 0 && (!is_permitted || may(*room))).collect()
    }

    /// Has it kept who is in these rooms, if they have a rule; rooms with the same rule have the same. Takes out the others.
    pub fn keep_presence(&mut self, kept: &mut [bool]) {
        for ruling in &mut self.rules {
            let fitting = (0..ROOMS.len()).find(|room| fits(&ruling.pattern, ROOMS[*room]));
            ruling.presence = fitting.is_some_and(|room| kept[room]);
        }
        for (kept, name) in kept.iter_mut().zip(ROOMS) {
            *kept = self.rule(name).is_some_and(|ruling| ruling.presence);
        }
    }

    /// The rules, as the core is told.
    pub fn core_rules(&self) -> Rules {
        let rules = self.rules.iter().map(|ruling| {
            let mut rule = Rule::new(ruling.pattern.parse().expect("it is a pattern"));
            (rule.history, rule.replicas_min) = (ruling.history, u16::from(ruling.waits && ruling.history.is_some()));
            rule.presence = ruling.presence;
            let permissions = &mut rule.permissions;
            [permissions.subscribe, permissions.publish, permissions.history] = ruling.who;
            rule
        });
        Rules::new(rules.collect()).expect("they can be").with_own_rooms()
    }

    /// The first rule whose pattern fits the name alone.
    fn rule(&self, name: &str) -> Option<&Ruling> {
        self.rules.iter().find(|rule| fits(&rule.pattern, name))
    }

    /// Whether somebody may do this: a user with what the issuer has granted, or nobody that is known. `Err(true)`: it would have to be known
    /// who it is.
    pub fn may(&self, who: Option<(usize, &[Vec<String>; 3])>, right: Right, room: usize) -> Result<(), bool> {
        let name = ROOMS[room];
        let Some((user, grants)) = who else {
            let is_open = self.holder(right, name).0 == Who::Anyone && !self.auth.required;
            let is_closed = self.holder(right, name).0 == Who::Nobody && !self.auth.required;
            return if is_open { Ok(()) } else { Err(!is_closed) };
        };
        let (holder, list) = self.holder(right, name);
        let is_allowed = match holder {
            Who::Anyone | Who::User => true,
            Who::Granted => grants[place_of(list)].iter().any(|pattern| fits(pattern, name)),
            Who::Owner => self.rule(name).is_some_and(|rule| is_named(&rule.pattern, name, &segment(USERS[user]))),
            _ => false,
        };
        if is_allowed { Ok(()) } else { Err(false) }
    }

    /// Who has a right, and which list of grants counts for it. What was said before belongs to whoever may be a member.
    fn holder(&self, right: Right, name: &str) -> (Who, Right) {
        let said = |right: Right| self.rule(name).and_then(|rule| rule.who[place_of(right)]);
        match (right, said(right)) {
            (_, Some(who)) => (who, right),
            (Right::History, None) => self.holder(Right::Subscribe, name),
            (_, None) => (Who::User, right),
        }
    }
}

fn place_of(right: Right) -> usize {
    RIGHTS.iter().position(|of| *of == right).expect("no other right is asked about")
}

/// Whether a pattern fits a name, for the patterns that are drawn here: a star is a whole segment.
fn fits(pattern: &str, name: &str) -> bool {
    let (mut patterns, mut names) = (pattern.split(':'), name.split(':'));
    loop {
        match (patterns.next(), names.next()) {
            (Some("**"), _) | (None, None) => return true,
            (Some("{user}"), Some(segment)) if !segment.is_empty() => {}
            (Some("*"), Some(_)) => {}
            (Some(pattern), Some(segment)) if pattern == segment => {}
            _ => return false,
        }
    }
}

/// Whether the name has the user where the pattern has `{user}`.
fn is_named(pattern: &str, name: &str, segment: &str) -> bool {
    pattern.split(':').zip(name.split(':')).any(|(of, is)| of == "{user}" && is == segment)
}

/// A user's name as it stands in the name of a room.
fn segment(user: &str) -> String {
    let is_kept = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'@');
    user.bytes().map(|byte| if is_kept(byte) { (byte as char).to_string() } else { format!("%{byte:02X}") }).collect()
}

fn draw_rules(options: &Options, r: &mut Rng) -> Vec<Ruling> {
    let histories = &options.histories;
    let with = |pattern: &str, room: usize, who: [Option<Who>; 3]| Ruling {
        pattern: pattern.to_owned(),
        history: histories.kept[room],
        waits: histories.waits[room],
        presence: false,
        who,
    };
    let mut rules = Vec::new();
    for (pattern, first, _) in PATTERNED {
        let own = |r: &mut Rng| pick(r, &[Who::Owner, Who::User]);
        let who = match first {
            OWN => {
                [Some(Who::Owner), Some(pick(r, &[Who::User, Who::Owner, Who::Nobody, Who::Granted])), Some(Who::Owner)]
            }
            11 => [Some(Who::Owner), Some(own(r)), pick(r, &[None, Some(Who::Owner), Some(Who::Granted)])],
            _ => [Some(Who::Granted), pick(r, &[None, Some(Who::Granted)]), pick(r, &[None, Some(Who::Granted)])],
        };
        rules.push(with(pattern, first, who));
    }
    let said = |r: &mut Rng| {
        let rarely = pick(r, &[Who::Nobody, Who::Granted, Who::Granted, Who::User]);
        pick(r, &[None, None, Some(Who::Anyone), Some(Who::User), Some(Who::Granted), Some(rarely)])
    };
    for room in (0..ROOMS.len()).filter(|room| PATTERNED.iter().all(|(_, of, n)| !(*of..of + n).contains(room))) {
        // One without a history and without a rule has what holds where no rule says otherwise.
        if histories.keeps(room) || r.u32(0..5) > 0 {
            rules.push(with(ROOMS[room], room, [said(r), said(r), said(r)]));
        }
    }
    if r.bool() {
        // To it falls what no other has; never what is somebody's own.
        let who = [pick(r, &[Who::Anyone, Who::User]), Who::User, Who::User].map(Some);
        rules.push(Ruling { pattern: "**".to_owned(), history: None, waits: false, presence: false, who });
    }
    rules
}

/// Some of what may be granted.
pub fn draw_grants(r: &mut Rng) -> Vec<String> {
    let share = pick(r, &[0, 1, 3]);
    GRANTABLE.iter().filter(|_| r.u32(0..6) < share).map(|pattern| (*pattern).to_owned()).collect()
}

/// Grants as the core takes them.
pub fn core_grants(lists: &[Vec<String>; 3]) -> Grants {
    RIGHTS.iter().zip(lists).fold(Grants::default(), |grants, (right, list)| {
        grants.with(*right, list.iter().map(String::as_str)).expect("they are patterns")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_user_has_an_own_room() {
        for (user, room) in USERS.iter().zip(&ROOMS[OWN..]) {
            assert_eq!(*room, format!("user:{}", segment(user)));
        }
        for (pattern, first, count) in PATTERNED {
            assert!(ROOMS[first..first + count].iter().all(|room| fits(pattern, room)));
        }
    }

    #[test]
    fn patterns_fit_what_they_should() {
        assert!(
            fits("**", "a:b") && fits("team:*", "team:1") && !fits("team:*", "team:1:x") && !fits("team:*", "team")
        );
        assert!(!fits("user:{user}", "user:bob:x") && fits("user:**", "user:bob:x"));
        assert!(is_named("dm:{user}:{user}", "dm:a:b", "b") && !is_named("dm:{user}:*", "dm:a:b", "b"));
    }
}
