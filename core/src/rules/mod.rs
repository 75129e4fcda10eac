//! Rules for rooms: which one a room has follows from its name alone. What a rule says is done elsewhere; here is only what it says.

mod fingerprint;
mod pattern;
mod permission;

pub use pattern::{PATTERN_BYTES_MAX, Pattern, PatternError};
pub use permission::{GRANTS_MAX, Grants, Permissions, Right, Who, user_segment};

use crate::history::Retention;
use std::error::Error;
use std::fmt;
use std::sync::Arc;

/// The most rules, because a room's name may be held against each of them.
pub const RULES_MAX: usize = 1_000;

/// The pattern of users' own rooms: what is said in one reaches each of the user's connections.
pub const OWN_ROOMS: &str = "user:{user}";

/// The own room of a user, by the user's name as a segment.
pub(crate) fn own_room(segment: &str) -> String {
    format!("user:{segment}")
}

/// The own room of the user of this name. What is published there reaches each of the user's connections, where
/// [`Auth::own_rooms`](crate::Auth::own_rooms) has them joined.
pub fn own_room_of(user: &str) -> String {
    own_room(&user_segment(user))
}

/// What holds for the rooms of one pattern. Later versions may say more of them: take [`Rule::new`], and assign what shall be otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rule {
    /// The names of the rooms.
    pub pattern: Pattern,
    /// How much of what is said in such a room is kept; `None`: it has no history.
    pub history: Option<Retention>,
    /// What becomes of a member that does not keep up.
    pub slow: Slow,
    /// Whether messages are stored.
    pub store: Storing,
    /// How many replicas of Redis must have a stored message before its sender is told so; 0: none has to.
    pub replicas_min: u16,
    /// How many members such a room may have on this core; 0: as many as come.
    pub members_max: u32,
    /// Who may do what.
    pub permissions: Permissions,
    /// Whether it is kept who is in such a room.
    pub presence: bool,
    /// Who is asked before a message of a client's is published in such a room, as [`Action::Propose`](crate::Action::Propose) names it.
    pub before_publish: Option<Arc<str>>,
    /// Who is told when such a room has its first member on this core, and when it has lost its last one:
    /// [`Notice::Occupied`](crate::Notice::Occupied).
    pub occupancy: Option<Arc<str>>,
}

impl Rule {
    /// What a message is stored by, unless its sender does not want that.
    pub fn stores(&self) -> Option<Retention> {
        self.history.filter(|_| self.store == Storing::On)
    }

    /// What holds for rooms without a rule as well.
    pub fn new(pattern: Pattern) -> Rule {
        Rule {
            pattern,
            history: None,
            slow: Slow::default(),
            store: Storing::default(),
            replicas_min: 0,
            members_max: 0,
            permissions: Permissions::default(),
            presence: false,
            before_publish: None,
            occupancy: None,
        }
    }

    /// Whether it says what can be done.
    ///
    /// # Errors
    /// Why it cannot.
    pub fn check(&self) -> Result<(), RuleError> {
        if !self.pattern.has_user() && self.permissions.said().any(|who| who == Who::Owner) {
            return Err(RuleError::NobodysOwn);
        }
        match self.history {
            Some(Retention { messages_max: 0, .. }) => Err(RuleError::KeepsNothing),
            None if self.slow == Slow::CatchUp => Err(RuleError::NothingToCatchUpWith),
            None if self.replicas_min > 0 => Err(RuleError::NothingToReplicate),
            _ => Ok(()),
        }
    }
}

/// What becomes of a member that does not keep up with its room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Slow {
    /// Its connection is closed.
    #[default]
    Close,
    /// It gets what it has missed from the room's history, which the rule has to give.
    CatchUp,
    /// It gets the newest message, and those before it that it has not got yet are left out.
    Latest,
}

/// Whether the messages of a room with history are stored in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Storing {
    /// But for those whose senders do not want it.
    #[default]
    On,
    /// None of them, whatever their senders want. What is stored already can be read until it is too old.
    Off,
}

/// Rules in their order: a room has the first whose pattern fits its name, and no other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    list: Box<[Rule]>,
}

impl Rules {
    /// These, in this order.
    ///
    /// # Errors
    /// If one of them says what cannot be done, or if there are more than [`RULES_MAX`].
    pub fn new(list: Vec<Rule>) -> Result<Rules, RuleError> {
        if list.len() > RULES_MAX {
            return Err(RuleError::TooMany);
        }
        list.iter().try_for_each(Rule::check)?;
        Ok(Rules { list: list.into() })
    }

    /// The same with the rule for users' own rooms as the first, which is there wherever clients are asked who they are: a rule for
    /// [`OWN_ROOMS`] that is there already, or else one by which the user alone is a member and every user may write.
    #[must_use]
    pub fn with_own_rooms(self) -> Rules {
        let mut list = self.list.into_vec();
        let own = match list.iter().position(|rule| rule.pattern.as_str() == OWN_ROOMS) {
            Some(said) => list.remove(said),
            None => Rule::new(OWN_ROOMS.parse().expect("it is a pattern")),
        };
        let Permissions { subscribe, publish, history, presence } = own.permissions;
        let permissions = Permissions {
            subscribe: subscribe.or(Some(Who::Owner)),
            publish: publish.or(Some(Who::User)),
            history: history.or(Some(Who::Owner)),
            presence: presence.or(Some(Who::Owner)),
        };
        list.insert(0, Rule { permissions, ..own });
        Rules { list: list.into() }
    }

    /// Whether a rule says who may do something.
    pub(crate) fn have_permissions(&self) -> bool {
        self.list.iter().any(|rule| rule.permissions != Permissions::default())
    }

    /// Whether anybody is asked before messages are published.
    pub(crate) fn have_hooks(&self) -> bool {
        self.list.iter().any(|rule| rule.before_publish.is_some())
    }

    /// Whether it is kept anywhere who is in a room.
    pub(crate) fn have_presence(&self) -> bool {
        self.list.iter().any(|rule| rule.presence)
    }

    /// Whether it is kept who is in the rooms of this rule, where there is one.
    pub(crate) fn has_presence(&self, rule: Option<u16>) -> bool {
        rule.and_then(|rule| self.get(rule)).is_some_and(|rule| rule.presence)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Which rule a room of this name has.
    pub fn find(&self, name: &str) -> Option<u16> {
        let index = self.list.iter().position(|rule| rule.pattern.fits(name))?;
        // There are no more than RULES_MAX.
        Some(index as u16)
    }

    /// The rule at this place; the first is 0.
    pub fn get(&self, index: u16) -> Option<&Rule> {
        self.list.get(usize::from(index))
    }

    /// All of them, in their order.
    pub fn as_slice(&self) -> &[Rule] {
        &self.list
    }
}

/// Why there can be no such rule, or no more of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RuleError {
    /// [`Slow::CatchUp`] without a history.
    NothingToCatchUpWith,
    /// [`Rule::replicas_min`] without a history.
    NothingToReplicate,
    /// A history of no messages.
    KeepsNothing,
    /// [`Who::Owner`] for a pattern without `{user}`.
    NobodysOwn,
    /// More than [`RULES_MAX`].
    TooMany,
}

impl fmt::Display for RuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RuleError::NothingToCatchUpWith => f.write_str("there is no history from which to catch up"),
            RuleError::NothingToReplicate => f.write_str("there is no history for replicas to have"),
            RuleError::KeepsNothing => f.write_str("a history keeps at least one message"),
            RuleError::NobodysOwn => f.write_str("the pattern has no {user} whose own the rooms could be"),
            RuleError::TooMany => write!(f, "there are more than {RULES_MAX} rules"),
        }
    }
}

impl Error for RuleError {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn pattern(text: &str) -> Pattern {
        text.parse().unwrap_or_else(|why| panic!("{text:?}: {why}"))
    }

    #[test]
    fn the_first_rule_that_fits_is_the_rooms() {
        let rules = ["chat:vip", "chat:*", "user:{user}", "chat:**"].map(|text| Rule::new(pattern(text)));
        let rules = Rules::new(rules.into()).unwrap();
        let found = ["chat:vip", "chat:42", "user:bob", "chat:a:b", "lobby"].map(|name| rules.find(name));
        assert_eq!(found, [Some(0), Some(1), Some(2), Some(3), None]);
        assert_eq!(rules.get(1).map(|rule| rule.pattern.as_str()), Some("chat:*"));
        assert_eq!((rules.get(4), Rules::default().find("chat:vip")), (None, None));
    }

    #[test]
    fn own_rooms_come_first_and_are_their_users_alone() {
        let own = |rules: Vec<Rule>| Rules::new(rules).unwrap().with_own_rooms();
        let rules = own(vec![Rule::new(pattern("**"))]);
        assert_eq!((rules.find("user:bob"), rules.find("user:bob:x")), (Some(0), Some(1)));
        let mut narrow = Rule::new(pattern(OWN_ROOMS));
        narrow.permissions.publish = Some(Who::Nobody);
        let rules = own(vec![Rule::new(pattern("**")), narrow]);
        let permissions = rules.get(0).unwrap().permissions;
        assert_eq!((permissions.subscribe, permissions.publish), (Some(Who::Owner), Some(Who::Nobody)));
        assert_eq!((rules.as_slice().len(), rules.find("chat")), (2, Some(1)));
    }

    #[test]
    fn rules_that_cannot_be_are_refused() {
        let rule = |set: fn(&mut Rule)| {
            let mut rule = Rule::new(pattern("a"));
            set(&mut rule);
            Rules::new(vec![Rule::new(pattern("b")), rule]).map(|rules| rules.as_slice().len())
        };
        let kept = Retention { messages_max: 1, bytes_max: 0, age_max: Duration::ZERO };
        assert_eq!(rule(|rule| rule.slow = Slow::CatchUp), Err(RuleError::NothingToCatchUpWith));
        assert_eq!(rule(|rule| rule.replicas_min = 1), Err(RuleError::NothingToReplicate));
        assert_eq!(rule(|rule| rule.permissions.history = Some(Who::Owner)), Err(RuleError::NobodysOwn));
        assert_eq!(rule(|rule| rule.slow = Slow::Latest), Ok(2));
        let with = |kept: Retention, slow: Slow| {
            let mut rule = Rule::new(pattern("a"));
            (rule.history, rule.slow) = (Some(kept), slow);
            rule.check()
        };
        assert_eq!(with(kept, Slow::CatchUp), Ok(()));
        assert_eq!(with(Retention { messages_max: 0, ..kept }, Slow::Close), Err(RuleError::KeepsNothing));
        let many = |count| Rules::new(vec![Rule::new(pattern("a")); count]).map(|rules| rules.as_slice().len());
        assert_eq!((many(RULES_MAX), many(RULES_MAX + 1)), (Ok(RULES_MAX), Err(RuleError::TooMany)));
    }
}
