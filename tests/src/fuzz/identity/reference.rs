//! Who may do what, by the definition and not by the core's code: credentials, rooms, bans.

use fanfare_core::rules::{Permissions, Right, Rule, Rules, Who};
use fanfare_core::{Ban, Banned, Bans, Identity};
use std::sync::Arc;

/// Users, as names and as segments of rooms' names. Some would be patterns, were they read as such.
pub const USERS: [(&str, &str); 4] = [("a", "a"), ("b:b", "b%3Ab"), ("*", "%2A"), ("{user}", "%7Buser%7D")];
/// Patterns that are granted, for both rights.
const GRANTED: [&[&str]; 3] = [&[], &["team:1"], &["team:*", "closed:*"]];
/// How long a credential is good that ends, in seconds.
const LIFE_S: u64 = 20;

/// Rooms, and the rule that each has: its pattern, who may subscribe, who may publish.
pub const ROOMS: [(&str, &str, Option<Who>, Option<Who>); 9] = [
    ("open:1", "open:*", Some(Who::Anyone), Some(Who::Anyone)),
    ("users:1", "users:*", None, None),
    ("team:1", "team:*", Some(Who::Granted), Some(Who::Granted)),
    ("team:2", "team:*", Some(Who::Granted), Some(Who::Granted)),
    ("dm:a:b%3Ab", "dm:{user}:{user}", Some(Who::Owner), Some(Who::Owner)),
    ("dm:%2A:x", "dm:{user}:{user}", Some(Who::Owner), Some(Who::Owner)),
    ("closed:1", "closed:*", Some(Who::Nobody), Some(Who::User)),
    ("user:%2A", "user:{user}", Some(Who::Owner), Some(Who::User)),
    ("user:a", "user:{user}", Some(Who::Owner), Some(Who::User)),
];

/// The rules of the core. Behind all of them stands one that would let everybody, were it ever reached.
pub fn rules() -> Rules {
    let rule = |pattern: &str, subscribe, publish| {
        let mut rule = Rule::new(pattern.parse().expect("a pattern"));
        rule.permissions = Permissions { subscribe, publish, ..Permissions::default() };
        rule
    };
    let mut list: Vec<Rule> = Vec::new();
    for (_, pattern, subscribe, publish) in ROOMS {
        if pattern != "user:{user}" && list.iter().all(|rule| rule.pattern.as_str() != pattern) {
            list.push(rule(pattern, subscribe, publish));
        }
    }
    list.push(rule("**", Some(Who::Anyone), Some(Who::Anyone)));
    Rules::new(list).expect("rules").with_own_rooms()
}

/// A credential, by its number: whose, with which grants, whether it ends, and whether it is looked up again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credential {
    pub number: u8,
    /// Unix, ms.
    pub issued_ms: u64,
}

impl Credential {
    fn user_index(self) -> usize {
        usize::from(self.number) % USERS.len()
    }

    pub fn user(self) -> &'static str {
        USERS[self.user_index()].0
    }

    /// Whether the room is the user's own.
    pub fn owns(self, room: usize) -> bool {
        ROOMS[room].0.strip_prefix("user:") == Some(USERS[self.user_index()].1)
    }

    pub fn expires_ms(self) -> Option<u64> {
        (self.number / 12 % 2 == 1).then_some(self.issued_ms + LIFE_S * 1_000)
    }

    pub fn is_renewed(self) -> bool {
        self.number / 24 % 2 == 1
    }

    fn grants(self) -> &'static [&'static str] {
        GRANTED[usize::from(self.number) / 4 % GRANTED.len()]
    }

    fn token(self) -> String {
        format!("t{}", self.number)
    }

    /// What the core is told.
    pub fn identity(self) -> Identity {
        let mut identity = Identity::new(self.user());
        for right in [Right::Subscribe, Right::Publish] {
            let granted = self.grants().iter().copied();
            identity.grants = identity.grants.with(right, granted).expect("patterns");
        }
        (identity.issued_ms, identity.expires_ms) = (Some(self.issued_ms), self.expires_ms());
        identity.token_id = Some(self.token().into());
        identity.renewal = self.is_renewed().then(|| self.number.to_string().into_bytes().into());
        identity
    }
}

/// A ban, drawn by a number.
#[derive(Clone, Debug)]
pub struct Order {
    what: Banned,
    until_ms: u64,
}

impl Order {
    pub fn new(number: usize, now_ms: u64) -> Order {
        let user = USERS[number / 4 % USERS.len()].0;
        let what = match number % 4 {
            0 => Banned::User(user.into()),
            1 => Banned::Token(format!("t{}", number / 4).into()),
            2 => Banned::IssuedBefore { ms: now_ms, user: None },
            _ => Banned::IssuedBefore { ms: now_ms, user: Some(user.into()) },
        };
        Order { what, until_ms: now_ms + 40_000 }
    }

    /// The close code of who is banned by it.
    pub fn code_for(&self, credential: Credential, now_ms: u64) -> Option<u16> {
        if now_ms >= self.until_ms {
            return None;
        }
        match &self.what {
            Banned::User(user) => (**user == *credential.user()).then_some(4503),
            Banned::Token(token) => (**token == *credential.token()).then_some(4001),
            Banned::IssuedBefore { ms, user } => {
                let concerns = user.as_deref().is_none_or(|user| user == credential.user());
                // A connection keeps whole seconds.
                (concerns && credential.issued_ms / 1_000 * 1_000 < *ms).then_some(4001)
            }
            _ => None,
        }
    }
}

/// What the core is told of all of them.
pub fn bans(orders: &[Order]) -> Arc<Bans> {
    let bans = orders.iter().map(|order| Ban { banned: order.what.clone(), until_ms: order.until_ms });
    Arc::new(Bans::new(bans))
}

/// Why somebody may not: the code of the `ERROR`.
pub fn refusal(known: Option<Credential>, required: bool, right: Right, room: usize) -> Option<&'static str> {
    let (name, _, subscribe, publish) = ROOMS[room];
    let who = if right == Right::Publish { publish } else { subscribe };
    let Some(credential) = known else {
        return match who {
            Some(Who::Anyone) if !required => None,
            Some(Who::Nobody) if !required => Some("forbidden"),
            _ => Some("unauthorised"),
        };
    };
    let segment = USERS[credential.user_index()].1;
    let is_allowed = match who {
        None | Some(Who::Anyone | Who::User) => true,
        Some(Who::Owner) => name.split(':').skip(1).any(|owner| owner == segment),
        Some(Who::Granted) => credential.grants().iter().any(|granted| match granted.strip_suffix('*') {
            Some(start) => name.starts_with(start),
            None => *granted == name,
        }),
        _ => false,
    };
    (!is_allowed).then_some("forbidden")
}
