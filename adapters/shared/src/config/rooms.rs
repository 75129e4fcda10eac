//! Rules for rooms, `[[rooms]]` in the file: the keys of a rule, what must not stand together, and which rule a room has.

use super::Config;
use super::hook_name::HookName;
use super::who::{WhoIsThere, WhoMay};
use fanfare_core::PublishFormat;
use fanfare_core::broker::redis::{Names, slot_of_partition};
use fanfare_core::history::Retention;
use fanfare_core::rules::{
    OWN_ROOMS, Pattern, Permissions, RULES_MAX, Right, Rule, RuleError, Rules, Slow, Storing, Who,
};
use fanfare_shell::config::{
    Choice, Fault, Given, Key, Kind, Milliseconds, Number, Problem, Question, Sources, Tables, Unit, quoted, read_text,
};
use std::fmt::Write;
use std::time::Duration;

type Field<R, T> = fanfare_shell::config::Field<R, T>;

/// The bounds of a history of which others are given. A room of the largest is a sixteenth of `history.memory_bytes_max`.
const RETENTION: Retention =
    Retention { messages_max: 1_000, bytes_max: 1 << 20, age_max: Duration::from_secs(24 * 3_600) };

/// All rules.
pub(crate) static ROOMS: Tables<Config, Rule> = Tables {
    name: "rooms",
    tables_max: RULES_MAX,
    keys: ROOM_KEYS,
    blank: || Rule::new("**".parse().expect("a pattern of all names")),
    check: |rule| rule.check().map_err(|why| fault(rule, why)),
    get: |config| config.core.rules.as_slice(),
    put: |config, rules| config.core.rules = Rules::new(rules).expect("each has been checked, and they are counted"),
};

/// The keys of one rule.
pub(crate) static ROOM_KEYS: &[Key<Rule>] = &[
    Key {
        name: "match",
        default: "",
        help: "The rooms' names: * for any characters of a segment, {user} for a whole one, ** at the end for all the rest",
        environment_alias: None,
        kind: &PatternText { field: Field { get: |rule| &rule.pattern, get_mut: |rule| &mut rule.pattern } },
    },
    Key {
        name: "history_messages",
        default: "1000",
        help: "Messages that are kept of each room",
        environment_alias: None,
        kind: &Kept(Number {
            unit: Unit::Count,
            range: 1..=1_000_000,
            field: Field { get: |kept: &Retention| &kept.messages_max, get_mut: |kept| &mut kept.messages_max },
        }),
    },
    Key {
        name: "history_ttl_ms",
        default: "86400000",
        help: "How long a message is kept",
        environment_alias: None,
        // Less than a second is a mistake of unit, and what is kept for longer than a month is an archive.
        kind: &Kept(Milliseconds {
            range: 1_000..=30 * 86_400_000,
            field: Field { get: |kept: &Retention| &kept.age_max, get_mut: |kept| &mut kept.age_max },
        }),
    },
    Key {
        name: "history_bytes",
        default: "1048576",
        help: "Bytes of messages that are kept of each room",
        environment_alias: None,
        kind: &Kept(Number {
            unit: Unit::Bytes,
            range: 1 << 10..=1 << 30,
            field: Field { get: |kept: &Retention| &kept.bytes_max, get_mut: |kept| &mut kept.bytes_max },
        }),
    },
    Key {
        name: "history_replicas_min",
        default: "0",
        help: "Replicas of Redis that must have a message before its sender is told that it is stored",
        environment_alias: None,
        kind: &Number {
            unit: Unit::Count,
            // More than any Redis has; a number of messages or bytes is a mistake.
            range: 0..=100,
            field: Field { get: |rule: &Rule| &rule.replicas_min, get_mut: |rule| &mut rule.replicas_min },
        },
    },
    Key {
        name: "slow",
        default: "close",
        help: "What becomes of a member that does not keep up",
        environment_alias: None,
        kind: &Choice {
            choices: &[("close", Slow::Close), ("catch_up", Slow::CatchUp), ("latest", Slow::Latest)],
            field: Field { get: |rule: &Rule| &rule.slow, get_mut: |rule| &mut rule.slow },
        },
    },
    Key {
        name: "store",
        default: "on",
        help: "Whether messages are stored, but for those whose senders do not want it",
        environment_alias: None,
        kind: &Choice {
            choices: &[("off", Storing::Off), ("on", Storing::On)],
            field: Field { get: |rule: &Rule| &rule.store, get_mut: |rule| &mut rule.store },
        },
    },
    Key {
        name: "members_max",
        default: "0",
        help: "Members that a room may have on each worker of an instance; 0 is no limit",
        environment_alias: None,
        kind: &Number {
            unit: Unit::Count,
            // No machine has more connections.
            range: 0..=100_000_000,
            field: Field { get: |rule: &Rule| &rule.members_max, get_mut: |rule| &mut rule.members_max },
        },
    },
    Key {
        name: "subscribe",
        default: "",
        help: "Who may become a member. Not said: users where clients are asked who they are, else anyone",
        environment_alias: None,
        kind: &WhoMay {
            field: Field { get: |rule| &rule.permissions.subscribe, get_mut: |rule| &mut rule.permissions.subscribe },
        },
    },
    Key {
        name: "publish",
        default: "",
        help: "Who may send. Not said: users where clients are asked who they are, else anyone",
        environment_alias: None,
        kind: &WhoMay {
            field: Field { get: |rule| &rule.permissions.publish, get_mut: |rule| &mut rule.permissions.publish },
        },
    },
    Key {
        name: "history",
        default: "",
        help: "Who may read what was said before. Not said: as subscribe",
        environment_alias: None,
        kind: &WhoMay {
            field: Field { get: |rule| &rule.permissions.history, get_mut: |rule| &mut rule.permissions.history },
        },
    },
    Key {
        name: "presence",
        default: "false",
        help: "Whether it is kept which users are there. A word in place of true says who may see them; with true, as subscribe",
        environment_alias: None,
        kind: &WhoIsThere,
    },
    Key {
        name: "before_publish",
        default: "",
        help: "Which of [[hooks]] is asked before a message of a client is published",
        environment_alias: None,
        kind: &HookName { field: Field { get: |rule| &rule.before_publish, get_mut: |rule| &mut rule.before_publish } },
    },
    Key {
        name: "occupancy",
        default: "",
        help: "Which of [[hooks]] is told when such a room has its first member on an instance, and when it has lost its last",
        environment_alias: None,
        kind: &HookName { field: Field { get: |rule| &rule.occupancy, get_mut: |rule| &mut rule.occupancy } },
    },
];

/// What a rule that cannot be is told.
fn fault(rule: &Rule, why: RuleError) -> Fault {
    let (key, right) = match why {
        RuleError::NobodysOwn => {
            let own = rights(&rule.permissions).into_iter().find(|(_, who)| *who == Some(Who::Owner));
            (own.map_or("match", |(key, _)| key), "a match with {user}, such as \"user:{user}:*\", or another choice")
        }
        RuleError::NothingToReplicate => ("history_replicas_min", A_HISTORY),
        _ => ("slow", A_HISTORY),
    };
    Fault { key, wrong: why.to_string(), right: right.to_owned() }
}

const A_HISTORY: &str = "history_messages, history_ttl_ms or history_bytes beside it, or another choice";

/// What a rule says of each right, by the names of the keys.
fn rights(said: &Permissions) -> [(&'static str, Option<Who>); 4] {
    let Permissions { subscribe, publish, history, presence } = *said;
    [("subscribe", subscribe), ("publish", publish), ("history", history), ("presence", presence)]
}

/// A pattern of names.
struct PatternText {
    field: Field<Rule, Pattern>,
}

impl Kind<Rule> for PatternText {
    fn read(&self, given: &Given, rule: &mut Rule) -> Result<(), String> {
        let text = read_text(given)?;
        *(self.field.get_mut)(rule) = text.parse().map_err(|why| format!("{}: {why}", quoted(text)))?;
        Ok(())
    }

    fn show(&self, rule: &Rule) -> toml::Value {
        toml::Value::String((self.field.get)(rule).to_string())
    }

    fn right(&self) -> String {
        "names of rooms, such as \"lobby\", \"chat:*\" (* is any part without a colon), \"user:{user}:*\" ({user} is all between two \
         colons), or \"game:**\" (** is all the rest)"
            .to_owned()
    }

    fn value_name(&self) -> String {
        "PATTERN".to_owned()
    }
}

/// A bound of a room's history. Whichever is given, there is one.
struct Kept<K>(K);

impl<K: Kind<Retention>> Kind<Rule> for Kept<K> {
    fn read(&self, given: &Given, rule: &mut Rule) -> Result<(), String> {
        self.0.read(given, rule.history.get_or_insert(RETENTION))
    }

    fn show(&self, rule: &Rule) -> toml::Value {
        rule.history.as_ref().map_or(toml::Value::String(String::new()), |kept| self.0.show(kept))
    }

    fn right(&self) -> String {
        self.0.right()
    }

    fn value_name(&self) -> String {
        self.0.value_name()
    }
}

/// A message in the classic form says nothing of its place in a history.
pub(crate) fn history_in_classic(config: &Config, sources: &Sources<Config>) -> Vec<Problem> {
    if config.core.publish_format != PublishFormat::Classic {
        return Vec::new();
    }
    let rules = config.core.rules.as_slice().iter().enumerate().filter(|(_, rule)| rule.history.is_some());
    let problem = |(index, rule)| Problem {
        key: ROOMS.label(index, rule),
        from: sources.of_table(ROOMS.name, index).clone(),
        wrong: format!(
            "it gives rooms a history, and redis.format is classic ({}), in which a message cannot say its place in one",
            sources.of("redis.format")
        ),
        right: "redis.format = \"fanfare\", or no history_messages, history_ttl_ms and history_bytes".to_owned(),
    };
    rules.map(problem).collect()
}

/// Where nothing verifies who somebody is, nobody is a user.
pub(crate) fn rights_of_users(config: &Config, sources: &Sources<Config>) -> Vec<Problem> {
    if config.auth.is_on() {
        return Vec::new();
    }
    let of_users = |(_, who): &(&str, Option<Who>)| matches!(who, Some(Who::User | Who::Granted | Who::Owner));
    let rules = config.core.rules.as_slice().iter().enumerate();
    let of_rule = rules.flat_map(|(index, rule)| {
        // Presence is for users whatever the word is, so it is told of by itself.
        let keys = rights(&rule.permissions).into_iter().filter(of_users).filter(|(key, _)| *key != "presence");
        keys.map(move |(key, _)| (index, rule, key))
    });
    let problem = |(index, rule, key)| Problem {
        key: format!("{}: {key}", ROOMS.label(index, rule)),
        from: sources.of_table(ROOMS.name, index).clone(),
        wrong: "it is for users, and nothing verifies who is one".to_owned(),
        right: "anyone or nobody, or auth.secret, another key of an issuer, auth.session_secret or auth.url".to_owned(),
    };
    of_rule.map(problem).collect()
}

/// Who is in a room is told by users, and where nothing verifies who somebody is, nobody is one.
pub(crate) fn presence_of_nobody(config: &Config, sources: &Sources<Config>) -> Vec<Problem> {
    if config.auth.is_on() {
        return Vec::new();
    }
    let rules = config.core.rules.as_slice().iter().enumerate().filter(|(_, rule)| rule.presence);
    let problem = |(index, rule): (usize, &Rule)| Problem {
        key: format!("{}: presence", ROOMS.label(index, rule)),
        from: sources.of_table(ROOMS.name, index).clone(),
        wrong: "it keeps which users are in a room, and nothing verifies who is one: nobody would ever be there"
            .to_owned(),
        right: "false, or auth.secret, another key of an issuer, auth.session_secret or auth.url".to_owned(),
    };
    rules.map(problem).collect()
}

/// Who has no Redis has no replicas of it.
pub(crate) fn replicas_of_nothing(config: &Config, sources: &Sources<Config>) -> Vec<Problem> {
    if config.redis.target.is_some() {
        return Vec::new();
    }
    let rules = config.core.rules.as_slice().iter().enumerate().filter(|(_, rule)| rule.replicas_min > 0);
    let problem = |(index, rule): (usize, &Rule)| Problem {
        key: ROOMS.label(index, rule),
        from: sources.of_table(ROOMS.name, index).clone(),
        wrong: format!("history_replicas_min is {}, and without redis.url there are no replicas", rule.replicas_min),
        right: "a redis.url, or no history_replicas_min".to_owned(),
    };
    rules.map(problem).collect()
}

/// The rules that no room can have, and those that open rooms which are a user's own.
pub(crate) fn warnings(config: &Config) -> Vec<String> {
    let InForce { rules, in_file } = InForce::of(config);
    let rules = rules.as_slice();
    let label = |at: usize| match in_file[at] {
        Some(index) => ROOMS.label(index, &rules[at]),
        None => format!("the built-in rule of {OWN_ROOMS}"),
    };
    let covered = rules.iter().enumerate().filter_map(|(at, rule)| {
        let earlier = rules[..at].iter().position(|earlier| earlier.pattern.covers(&rule.pattern))?;
        Some(format!(
            "{} is no room's rule, because {} comes first and fits all of its rooms",
            label(at),
            label(earlier)
        ))
    });
    let own =
        rules.iter().enumerate().filter(|(_, rule)| config.core.auth.is_some() && rule.pattern.as_str() == OWN_ROOMS);
    let opened = own.flat_map(|(at, rule)| {
        let opens = |(key, who): (&str, Option<Who>)| {
            let is_wider = key != "publish" && matches!(who, Some(Who::Anyone | Who::User | Who::Granted));
            is_wider.then(|| format!("{}: {key} lets others than the user into the user's own room", label(at)))
        };
        rights(&rule.permissions).into_iter().filter_map(opens).collect::<Vec<_>>()
    });
    covered.chain(opened).collect()
}

/// The rules that rooms have: those of the file and, where clients are asked who they are, the one of users' own rooms before them.
struct InForce {
    rules: Rules,
    /// The position of each in the file; `None` is built in.
    in_file: Vec<Option<usize>>,
}

impl InForce {
    fn of(config: &Config) -> InForce {
        let rules = config.core.rules.clone();
        let in_file = 0..rules.as_slice().len();
        if config.core.auth.is_none() {
            return InForce { rules, in_file: in_file.map(Some).collect() };
        }
        let own = rules.as_slice().iter().position(|rule| rule.pattern.as_str() == OWN_ROOMS);
        let others = in_file.filter(|index| Some(*index) != own).map(Some);
        InForce { rules: rules.with_own_rooms(), in_file: std::iter::once(own).chain(others).collect() }
    }
}

/// What holds where a rule does not say it, as the core decides, and a comment for each right on where that comes from.
fn resolved(said: Permissions, is_asked: bool) -> (Permissions, [(&'static str, String); 4]) {
    let otherwise = if is_asked { Who::User } else { Who::Anyone };
    let [subscribe, publish, history, presence] = RIGHTS.map(|(right, _)| Some(said.who(right, otherwise).0));
    let comments = RIGHTS.map(|(right, name)| {
        let (who, by) = said.who(right, otherwise);
        let of = RIGHTS.iter().find(|(other, _)| *other == by).map_or(name, |(_, name)| *name);
        let follows = (of != name).then(|| format!("as {of}"));
        let granted = (who == Who::Granted).then(|| format!("by the patterns for {of} in the credential"));
        let parts: Vec<_> = follows.into_iter().chain(granted).collect();
        let comment = if parts.is_empty() { String::new() } else { format!(" # {}", parts.join(", ")) };
        (name, comment)
    });
    (Permissions { subscribe, publish, history, presence }, comments)
}

/// The rights with their keys, which are also the names of their lists in a credential.
const RIGHTS: [(Right, &str); 4] = [
    (Right::Subscribe, "subscribe"),
    (Right::Publish, "publish"),
    (Right::History, "history"),
    (Right::Presence, "presence"),
];

/// `check-config --room`.
pub(crate) const WHICH_RULE: Question<Config> = Question {
    flag: "room",
    value_name: "NAME",
    help: "Print which of [[rooms]] the room of this name has, who may do what there, and what it is called in Redis, instead of the \
           configuration; may be given several times",
    answer: which_rule,
};

fn which_rule(config: &Config, sources: &Sources<Config>, room: &str) -> String {
    let InForce { rules, in_file } = InForce::of(config);
    let mut text = format!("[[room]]\nname = {}", toml::Value::from(room));
    let found = rules.find(room).and_then(|at| Some((in_file[usize::from(at)], rules.get(at)?)));
    let is_room_without = found.is_none();
    let mut rule = match found {
        Some((index, rule)) => {
            let _ = match index {
                Some(index) => writeln!(text, "\nrule = {} # {}", index + 1, sources.of_table(ROOMS.name, index)),
                None => writeln!(text, "\nrule = 0 # built in, because clients are asked who they are"),
            };
            rule.clone()
        }
        None => {
            text += " # no rule fits: it has no history, and who does not keep up is closed\n";
            (ROOMS.blank)()
        }
    };
    let (permissions, comments) = resolved(rule.permissions, config.core.auth.is_some());
    rule.permissions = permissions;
    for (key, value) in ROOMS.values(&rule) {
        let name = ROOM_KEYS[key].name;
        let of_right = comments.iter().find(|(right, _)| *right == name).map(|(_, comment)| comment.as_str());
        if !is_room_without || of_right.is_some() {
            // Where it is not kept who is there, nobody sees it, whatever the right.
            let comment = of_right.filter(|_| rule.presence || name != "presence");
            let _ = writeln!(text, "{name} = {value}{}", comment.unwrap_or_default());
        }
    }
    if let Some(names) = config.redis.names() {
        write_places(&mut text, names, room, &rule);
    }
    text
}

/// The keys of a room in which it is kept who is there. Each instance with members there has another one, named for it.
const PRESENCE_KEYS: [&str; 2] = ["present", "changes"];

/// The keys of a room with history. The last two are there only while messages with a key are remembered.
const HISTORY_KEYS: [&str; 4] = ["meta", "log", "keys0", "keys1"];

/// Where a room is in Redis.
fn write_places(text: &mut String, names: Names<'_>, room: &str, rule: &Rule) {
    if let Some(partition) = names.partition(room) {
        let _ = writeln!(text, "partition = {partition}\nslot = {}", slot_of_partition(partition));
    }
    let _ = writeln!(text, "channel = {}", toml::Value::from(names.channel(room)));
    let of_history = rule.history.map_or(&[][..], |_| &HISTORY_KEYS);
    let of_presence = if rule.presence { &PRESENCE_KEYS[..] } else { &[] };
    let keys: Vec<String> = of_history.iter().chain(of_presence).map(|kind| names.key(kind, room)).collect();
    if !keys.is_empty() {
        let _ = writeln!(text, "keys = {}", toml::Value::from(keys));
    }
}
