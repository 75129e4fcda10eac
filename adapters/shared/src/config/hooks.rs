//! Webhooks, `[[hooks]]` in the file: the keys of each. Secrets stand in files, because the configuration is read by more people than those
//! who may sign.

use super::Config;
use super::auth::{OptionalPath, Url, WebUrl};
use super::kinds::DAY_MS;
use super::rooms::ROOMS;
use fanfare_auth::read_file;
use fanfare_core::rules::Rule;
use fanfare_hooks::{Options, SetupError, SigningKey};
use fanfare_shell::config::{
    Choice, Fault, Field, Key, List, Milliseconds, Number, Problem, Sources, Tables, Text, Unit,
};
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// More than anybody has, because each has threads of its own.
const HOOKS_MAX: usize = 32;
const A_SECRET: &str = "a file with a secret of 24 to 64 bytes in base 64, with or without whsec_ before it";
const A_CERTIFICATE: &str = "a PEM file with certificates (BEGIN CERTIFICATE)";

/// An endpoint that is asked, or told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// `name`: by which rules name it.
    pub name: String,
    /// `url`.
    pub url: Option<Url>,
    /// `plaintext`: whether `url` may be `http` of another machine.
    pub plaintext: bool,
    /// `secret_file`: what signs.
    pub secret_file: Option<PathBuf>,
    /// `ca_file`: the authorities that are trusted, in place of Mozilla's.
    pub ca_file: Option<PathBuf>,
    /// `timeout_ms`.
    pub timeout: Duration,
    /// `fail`: what becomes of a message about which nobody decides.
    pub fail: Fail,
    /// `concurrency`: requests about messages at the same time.
    pub concurrency: usize,
    /// `events`: what it is told of all connections.
    pub events: Vec<ConnectionEvent>,
    /// `retry_for_ms`: for how long it is told again of what it has not taken.
    pub retry_for: Duration,
}

/// What a hook may be told of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionEvent {
    /// A client has connected, or has shown who it is.
    Connected,
    /// It has gone.
    Disconnected,
}

impl FromStr for ConnectionEvent {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<ConnectionEvent, &'static str> {
        match text {
            "connected" => Ok(ConnectionEvent::Connected),
            "disconnected" => Ok(ConnectionEvent::Disconnected),
            _ => Err("it is none of connected and disconnected"),
        }
    }
}

impl fmt::Display for ConnectionEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ConnectionEvent::Connected => "connected",
            ConnectionEvent::Disconnected => "disconnected",
        })
    }
}

/// What becomes of a message while its endpoint does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fail {
    /// It is published.
    Open,
    /// It is refused.
    Closed,
}

/// All of them.
pub(crate) static HOOKS: Tables<Config, Hook> = Tables {
    name: "hooks",
    tables_max: HOOKS_MAX,
    keys: HOOK_KEYS,
    blank: || Hook {
        name: String::new(),
        url: None,
        plaintext: false,
        secret_file: None,
        ca_file: None,
        timeout: Duration::from_secs(2),
        fail: Fail::Closed,
        concurrency: 16,
        events: Vec::new(),
        retry_for: Duration::from_secs(600),
    },
    check: |hook| {
        let fault = |key, wrong: &str, right: String| Err(Fault { key, wrong: wrong.to_owned(), right });
        let url =
            hook.url.as_ref().map_or(Err(SetupError::BadUrl), |url| Options::check_url(url.expose(), hook.plaintext));
        match (hook.name.is_empty(), url, &hook.secret_file) {
            (true, ..) => fault("name", "it is empty", "a name for before_publish of [[rooms]]".to_owned()),
            (_, Err(_), _) if hook.url.is_none() => fault("url", "it is missing", A_URL.to_owned()),
            (_, Err(why), _) => fault("url", &why.to_string(), A_URL.to_owned()),
            (_, _, None) => fault("secret_file", "it is missing", format!("the path of {A_SECRET}")),
            _ => Ok(()),
        }
    },
    get: |config| &config.hooks,
    put: |config, hooks| config.hooks = hooks,
};

const A_URL: &str = "an https URL (http for this machine alone, unless plaintext is on) without user and password";

/// The keys of one hook.
pub(crate) static HOOK_KEYS: &[Key<Hook>] = &[
    Key {
        name: "name",
        default: "",
        help: "By which rules for rooms name it",
        environment_alias: None,
        kind: &Text { bytes_max: 64, field: Field { get: |hook: &Hook| &hook.name, get_mut: |hook| &mut hook.name } },
    },
    Key {
        name: "url",
        default: "",
        help: "Where it is asked and told, by POST",
        environment_alias: None,
        kind: &WebUrl {
            is_private: false,
            field: Field { get: |hook: &Hook| &hook.url, get_mut: |hook| &mut hook.url },
        },
    },
    Key {
        name: "plaintext",
        default: "off",
        help: "Whether url may be http of another machine, for networks that nobody else reads",
        environment_alias: None,
        kind: &Choice {
            choices: &[("off", false), ("on", true)],
            field: Field { get: |hook: &Hook| &hook.plaintext, get_mut: |hook| &mut hook.plaintext },
        },
    },
    Key {
        name: "secret_file",
        default: "",
        help: "A file with the secret that signs requests, as https://www.standardwebhooks.com has it",
        environment_alias: None,
        kind: &OptionalPath {
            right: A_SECRET,
            field: Field { get: |hook: &Hook| &hook.secret_file, get_mut: |hook| &mut hook.secret_file },
        },
    },
    Key {
        name: "ca_file",
        default: "",
        help: "A PEM file with the authorities that are trusted, in place of Mozilla's",
        environment_alias: None,
        kind: &OptionalPath {
            right: A_CERTIFICATE,
            field: Field { get: |hook: &Hook| &hook.ca_file, get_mut: |hook| &mut hook.ca_file },
        },
    },
    Key {
        name: "timeout_ms",
        default: "2000",
        help: "How long an answer is waited for; what a message has waited for its turn counts",
        environment_alias: None,
        kind: &Milliseconds {
            range: 10..=60_000,
            field: Field { get: |hook: &Hook| &hook.timeout, get_mut: |hook| &mut hook.timeout },
        },
    },
    Key {
        name: "fail",
        default: "closed",
        help: "What becomes of a message about which the endpoint does not decide in time: open publishes it, closed refuses it",
        environment_alias: None,
        kind: &Choice {
            choices: &[("open", Fail::Open), ("closed", Fail::Closed)],
            field: Field { get: |hook: &Hook| &hook.fail, get_mut: |hook| &mut hook.fail },
        },
    },
    Key {
        name: "concurrency",
        default: "16",
        help: "Messages about which it is asked at the same time",
        environment_alias: None,
        // Each has a thread.
        kind: &Number {
            unit: Unit::Count,
            range: 1..=256,
            field: Field { get: |hook: &Hook| &hook.concurrency, get_mut: |hook| &mut hook.concurrency },
        },
    },
    Key {
        name: "events",
        default: "",
        help: "What it is told of all connections: connected, disconnected",
        environment_alias: None,
        kind: &List {
            value_name: "EVENTS",
            right: "any of connected and disconnected, in an array of texts",
            field: Field { get: |hook: &Hook| &hook.events, get_mut: |hook| &mut hook.events },
        },
    },
    Key {
        name: "retry_for_ms",
        default: "600000",
        help: "For how long it is told again of events that it has not taken",
        environment_alias: None,
        kind: &Milliseconds {
            range: 0..=DAY_MS,
            field: Field { get: |hook: &Hook| &hook.retry_for, get_mut: |hook| &mut hook.retry_for },
        },
    },
];

impl Hook {
    /// The secret in its file.
    ///
    /// # Errors
    /// What is wrong with either.
    pub fn key(&self) -> Result<SigningKey, String> {
        let path = self.secret_file.as_ref().ok_or("it is missing")?;
        SigningKey::read(&read_file(path)?).map_err(|why| why.to_string())
    }

    /// The authorities in their file.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn roots(&self) -> Result<Option<String>, String> {
        let Some(path) = &self.ca_file else { return Ok(None) };
        let roots = String::from_utf8(read_file(path)?).map_err(|_| "it is no text".to_owned())?;
        fanfare_hooks::check_roots(&roots).map_err(|why| why.to_string())?;
        Ok(Some(roots))
    }
}

/// The hooks that a rule names, by the names of its keys.
fn named(rule: &Rule) -> impl Iterator<Item = (&'static str, &str)> {
    [("before_publish", &rule.before_publish), ("occupancy", &rule.occupancy)]
        .into_iter()
        .filter_map(|(key, hook)| Some((key, hook.as_deref()?)))
}

/// Files that are not what they should be, and names of hooks that are not there.
pub(crate) fn problems(config: &Config, sources: &Sources<Config>) -> Vec<Problem> {
    let of_files = config.hooks.iter().enumerate().flat_map(|(index, hook)| {
        let (label, from) = (HOOKS.label(index, hook), sources.of_table(HOOKS.name, index));
        let problem = move |key: &str, wrong: String, right: &str| Problem {
            key: format!("{label}: {key}"),
            from: from.clone(),
            wrong,
            right: format!("the path of {right}, which this process may read"),
        };
        let secret = hook.key().err().map(|wrong| problem("secret_file", wrong, A_SECRET));
        let roots = hook.roots().err().map(|wrong| problem("ca_file", wrong, A_CERTIFICATE));
        secret.into_iter().chain(roots).collect::<Vec<_>>()
    });
    let rules = config.core.rules.as_slice().iter().enumerate();
    let of_rules = rules.flat_map(|(index, rule)| named(rule).map(move |(key, name)| (index, rule, key, name)));
    let unknown = of_rules.filter(|(.., name)| config.hooks.iter().all(|hook| hook.name != *name));
    let unknown = unknown.map(|(index, rule, key, name)| Problem {
        key: format!("{}: {key}", ROOMS.label(index, rule)),
        from: sources.of_table(ROOMS.name, index).clone(),
        wrong: format!("there is no hook named {name:?}"),
        right: "the name of one of [[hooks]]".to_owned(),
    });
    of_files.chain(unknown).collect()
}

/// Hooks that nobody uses.
pub(crate) fn warnings(config: &Config) -> Vec<String> {
    let rules = config.core.rules.as_slice();
    let is_used =
        |hook: &Hook| !hook.events.is_empty() || rules.iter().flat_map(named).any(|(_, name)| name == hook.name);
    let unused = config.hooks.iter().enumerate().filter(|(_, hook)| !is_used(hook));
    unused
        .map(|(index, hook)| {
            format!("{} is not used: no rule names it, and it has no events", HOOKS.label(index, hook))
        })
        .collect()
}
