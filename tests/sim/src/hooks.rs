//! Messages that are published only if somebody agrees, in some seeds: who is asked, what is decided, and after how long. What is decided
//! follows from the message, so that it is the same wherever and whenever somebody asks.

use crate::identity::is_guarded;
use crate::options::{Options, rng};
use crate::reference::Key;
use fanfare_core::Decision;
use fanfare_core::rules::{Rule, Rules};

/// One seed in so many.
const ONE_IN: u32 = 4;
/// The longest time after which is decided, us: longer than most turns, and than it takes to read what comes behind.
pub(crate) const DELAY_MAX: u64 = 80_000;

/// Has somebody asked about all messages, in seeds in which nothing is forbidden and nothing must succeed.
pub(crate) fn draw(options: &mut Options) -> bool {
    let is_drawn = rng(options.seed, "hooks").u32(0..ONE_IN) == 0;
    if !is_drawn || is_guarded(options.seed) || options.is_quiet() || options.is_tight() {
        return false;
    }
    let mut rules = options.core.rules.as_slice().to_vec();
    rules.push(Rule::new("**".parse().expect("a pattern")));
    for rule in &mut rules {
        rule.before_publish = Some("hook".into());
    }
    options.core.rules = Rules::new(rules).expect("they could be before");
    true
}

/// What is decided about a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decided {
    Allowed,
    Altered(String),
    Refused,
    Undecided,
}

impl Decided {
    /// About this one, whose sender can be told of a refusal or not.
    pub(crate) fn about(key: Key, json: &str, can_be_told: bool) -> Decided {
        match key.1 % 8 {
            3 if can_be_told => Decided::Refused,
            6 if can_be_told => Decided::Undecided,
            1 | 5 => Decided::Altered(json.replacen("m|", "altered m|", 1)),
            _ => Decided::Allowed,
        }
    }

    pub(crate) fn decision(&self) -> Decision<'_> {
        match self {
            Decided::Allowed => Decision::Allow,
            Decided::Altered(json) => Decision::Alter(json),
            Decided::Refused => Decision::Refuse("no"),
            Decided::Undecided => Decision::Unavailable,
        }
    }
}
