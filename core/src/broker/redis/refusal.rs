//! What an error of Redis's means for whoever hears it: whether it passes by itself, whether the connection is of no use, or
//! whether this one command is refused for good; and what it means in words.
//!
//! The commands are `HELLO`, `AUTH`, `SELECT`, `CLIENT SETNAME`, `PING`, `ROLE`, `INFO cluster`, `SUBSCRIBE`, `UNSUBSCRIBE` and
//! `PUBLISH`, and where rooms have a history `SCRIPT LOAD`, `EVALSHA`, `INFO memory` and `WAIT`. What Redis 5 to 8, Valkey, KeyDB,
//! Dragonfly and proxies in between answer to them:
//!
//! | error | who says it, to what | it is |
//! |---|---|---|
//! | `BUSY` | a script, function or module command runs for longer than `busy-reply-threshold`: to everything but `HELLO` and `AUTH` | [`Passing`](Refusal::Passing) |
//! | `LOADING` | the data set is being read: Redis to `PING` alone, Dragonfly to everything | `Passing` |
//! | `MASTERDOWN` | a replica that has lost its master, with `replica-serve-stale-data no`: to `PING` | `Passing`; `ROLE` says more |
//! | `CLUSTERDOWN`, `TRYAGAIN` | a cluster that re-forms, through a proxy | `Passing` |
//! | `ERR max number of clients reached` | to whoever connects; the connection ends | `Passing` |
//! | `no upstream host`, `upstream failure` | Envoy, whose Redis is away | `Passing` |
//! | `MISCONF`, `NOREPLICAS`, `OOM` | a server that takes no writes: `MISCONF` to `PING`, although it still passes messages on | `Passing` where a subscription or a publish is refused by it; no matter where a probe is |
//! | `READONLY` | a replica | [`Replica`](Refusal::Replica): the connection is given up |
//! | `NOAUTH` | whoever has not signed in: to everything but `HELLO` and `AUTH` | [`SignIn`](Refusal::SignIn): the connection is given up |
//! | `WRONGPASS`, `ERR invalid password` | to `HELLO` and `AUTH` | [`Lasting`](Refusal::Lasting): no set-up |
//! | `DENIED` | protected mode: to whoever connects from another machine | `SignIn`: no set-up |
//! | `NOPERM` | an ACL, to any command | `Lasting`: of this room, this publish, or the canary. `HELLO`, `CLIENT SETNAME`, `PING`, `ROLE` and `INFO` are done without |
//! | `NOPROTO`, `ERR unknown command`, `ERR syntax error`, `ERR wrong number of arguments`, anything else | old servers, proxies, renamed commands | `Lasting`: as `NOPERM` |
//! | no RESP at all | something else listens there | the connection is given up |
//!
//! A script of a room's history is refused by the same errors, which Redis 6 puts behind words of its own ([`of_command_within`]). Where
//! that is not the rule above:
//!
//! | error | who says it, to what | it is |
//! |---|---|---|
//! | `MISCONF`, `NOREPLICAS`, `OOM` | a server that takes no writes: to whatever a script writes first, so nothing is stored | of this store or read, which may be asked again; the connection is well, and plain messages pass |
//! | `NOSCRIPT` | a server that was restarted behind a proxy, or told `SCRIPT FLUSH` | no refusal: the scripts are loaded and what was refused is repeated |
//! | `NOHISTORY` | the script, where `INFO` is refused or tells no replication id | `Lasting`, as histories altogether |
//! | `NOPRESENCE` | the same of scripts of presence | `Lasting`, of this command |
//! | `GONE` | a script of presence | no refusal: others have taken the instance for dead, and it begins anew |
//! | `KEYREUSED` | the script | `Lasting`, of this message |
//! | any other to `SCRIPT LOAD`, such as `NOPERM` | an ACL, a proxy | `Lasting`, as histories altogether; asked again with the next probe |

use super::RedisConfig;
use super::standing::Standing;

/// How much of a server's error text is passed on, in characters. Redis's own are shorter, but for one paragraph on
/// protected mode.
const REASON_CHARS_MAX: usize = 200;

/// Bytes of the password's beginning that a text must hold to be taken for a quote of it.
const PASSWORD_QUOTE_BYTES_MIN: usize = 4;

/// What becomes of a command that Redis refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It passes by itself: the same is asked again after a while.
    Passing,
    /// The server is a replica: what is published there reaches nobody elsewhere.
    Replica,
    /// Nobody has signed in on this connection, or nobody may speak on it.
    SignIn,
    /// It does not pass by itself, and is about this command.
    Lasting,
}

impl Refusal {
    /// What this error text means.
    pub(super) fn of(error: &[u8]) -> Refusal {
        match code(error) {
            b"BUSY" | b"LOADING" | b"MASTERDOWN" | b"CLUSTERDOWN" | b"TRYAGAIN" => Refusal::Passing,
            _ if takes_no_writes(error) => Refusal::Passing,
            b"READONLY" => Refusal::Replica,
            b"NOAUTH" | b"DENIED" => Refusal::SignIn,
            _ if is_full(error) || is_proxy_alone(error) => Refusal::Passing,
            _ => Refusal::Lasting,
        }
    }

    /// What it means as the answer to a `PING` or `ROLE`: who only takes no writes is well, and who only refuses this command
    /// is there.
    pub(super) fn of_probe(error: &[u8]) -> Refusal {
        if takes_no_writes(error) { Refusal::Lasting } else { Refusal::of(error) }
    }

    /// Whether `AUTH` and RESP2 may go better than the `HELLO` that was refused with this error. A proxy may want an `AUTH` before
    /// anything else.
    pub(super) fn leaves_resp2(error: &[u8], config: &RedisConfig) -> bool {
        match Refusal::of(error) {
            Refusal::Passing | Refusal::Replica => false,
            Refusal::SignIn => code(error) == b"NOAUTH" && config.password.is_some(),
            Refusal::Lasting => code(error) != b"WRONGPASS" && !error.starts_with(b"ERR invalid password"),
        }
    }
}

/// Whether these are the words of a server that takes no writes and is well otherwise.
pub(super) fn takes_no_writes(error: &[u8]) -> bool {
    matches!(code(error), b"MISCONF" | b"NOREPLICAS" | b"OOM")
}

/// What the command within a script was refused with, out of what Redis replies to the script. Redis before version 7 says `ERR Error
/// running script (call to f_…): @user_script:12: @user_script: 12: -OOM …`.
pub(super) fn of_command_within(error: &[u8]) -> &[u8] {
    const BEFORE: &[u8] = b": -";
    if !error.starts_with(b"ERR Error running script") {
        return error;
    }
    error.windows(BEFORE.len()).position(|window| window == BEFORE).map_or(error, |at| &error[at + BEFORE.len()..])
}

/// The first word.
fn code(error: &[u8]) -> &[u8] {
    error.split(|byte| *byte == b' ').next().unwrap_or_default()
}

fn is_full(error: &[u8]) -> bool {
    error.starts_with(b"ERR max number of clients")
}

fn is_proxy_alone(error: &[u8]) -> bool {
    let error = error.strip_prefix(b"ERR ").unwrap_or(error);
    error.starts_with(b"no upstream host") || error.starts_with(b"upstream failure")
}

/// What an operator has to know of an error, where its own text does not say it.
fn words(error: &[u8], config: &RedisConfig) -> Option<&'static str> {
    let has_password = config.password.is_some();
    let is = |beginning: &str| error.starts_with(beginning.as_bytes());
    Some(match code(error) {
        b"NOAUTH" if has_password => "it did not take the sign-in",
        b"NOAUTH" => "it wants a password, and none is given",
        b"WRONGPASS" => "it does not know this user and password",
        b"NOPERM" => "its ACL does not allow that to this user",
        b"DENIED" => "it runs in protected mode and takes connections of its own machine only, until it has a password",
        b"BUSY" => "it runs a script, and does nothing else meanwhile",
        b"LOADING" => "it is loading its data",
        b"READONLY" => Standing::REPLICA,
        _ if is("ERR invalid password") => "it has another password",
        _ if is("ERR Client sent AUTH, but no password is set") || is("ERR AUTH <password> called without any") => {
            "it has no password, and one is given"
        }
        _ if is("ERR wrong number of arguments for 'auth'") => {
            "it is older than Redis 6 and knows no users, and the URL names one: leave it out, redis://:PASSWORD@HOST"
        }
        _ => return None,
    })
}

impl RedisConfig {
    /// A server's error text as it may be logged: printable, at most 200 characters, and without the password, of which an old
    /// server quotes the beginning when it does not know `AUTH`.
    pub(super) fn printable_error(&self, error: &[u8]) -> String {
        let text = String::from_utf8_lossy(error);
        let text = text.split(", with args").next().unwrap_or_default();
        let quotes_password = |text: &str| {
            self.password.as_deref().is_some_and(|password| {
                let start = &password.as_bytes()[..password.len().min(PASSWORD_QUOTE_BYTES_MIN)];
                !start.is_empty() && text.as_bytes().windows(start.len()).any(|window| window == start)
            })
        };
        let code = text.split(' ').next().unwrap_or_default();
        let safe = [text, code].into_iter().find(|text| !quotes_password(text)).unwrap_or("(text withheld)");
        safe.chars().map(|c| if c.is_control() { ' ' } else { c }).take(REASON_CHARS_MAX).collect()
    }

    /// The same with what it means in front, where the text alone does not say it.
    pub(super) fn explained_error(&self, error: &[u8]) -> String {
        let text = self.printable_error(error);
        words(error, self).map_or(text.clone(), |words| format!("{words} ({text})"))
    }

    /// Why something is no Redis that began to speak with these bytes, for people.
    pub(super) fn explained_stranger(first: &[u8]) -> &'static str {
        match first {
            [0x15 | 0x16, 3, ..] => "what answers there speaks TLS, as rediss:// does",
            [b'H', b'T', b'T', b'P', ..] => "what answers there speaks HTTP, and is no Redis",
            _ => "what answers there is no Redis",
        }
    }

    /// The arguments of the `AUTH` that signs in; none without a password. Redis before version 6 knows no users, and takes
    /// the password alone, which every version takes for the user `default`.
    pub(super) fn auth_arguments(&self) -> Vec<&str> {
        let user = self.username.as_deref().filter(|user| *user != "default");
        self.password.iter().flat_map(|password| user.into_iter().chain([password.as_str()])).collect()
    }
}

/// Why a connection ended, if that was before anything was said on it.
pub(super) fn explained_end(reason: &str) -> String {
    format!("{reason} before it said a word (a port that speaks TLS?)")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_password(password: &str) -> RedisConfig {
        RedisConfig { password: Some(password.to_owned()), ..RedisConfig::default() }
    }

    #[test]
    fn errors_that_pass_are_told_from_those_that_stay() {
        let classes: [(Refusal, &[&str]); 4] = [
            (
                Refusal::Passing,
                &[
                    "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
                    "LOADING Redis is loading the dataset in memory",
                    "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
                    "CLUSTERDOWN The cluster is down",
                    "TRYAGAIN Multiple keys request during rehashing of slot",
                    "NOREPLICAS Not enough good replicas to write.",
                    "MISCONF Redis is configured to save RDB snapshots",
                    "OOM command not allowed when used memory > 'maxmemory'.",
                    "ERR max number of clients reached",
                    "ERR max number of clients + cluster connections reached",
                    "no upstream host",
                    "upstream failure",
                ],
            ),
            (Refusal::Replica, &["READONLY You can't write against a read only replica."]),
            (Refusal::SignIn, &["NOAUTH Authentication required.", "DENIED Redis is running in protected mode"]),
            (
                Refusal::Lasting,
                &[
                    "WRONGPASS invalid username-password pair or user is disabled.",
                    "NOPERM No permissions to access a channel",
                    "NOPROTO unsupported protocol version",
                    "BUSYGROUP Consumer Group name already exists",
                    "LOADINGS",
                    "ERR BUSY",
                    "ERR unknown command 'ROLE'",
                    "",
                ],
            ),
        ];
        for (class, errors) in classes {
            for error in errors {
                assert_eq!(Refusal::of(error.as_bytes()), class, "{error}");
            }
        }
        assert_eq!(Refusal::of_probe(b"MISCONF Redis is configured to save RDB snapshots"), Refusal::Lasting);
        assert_eq!(Refusal::of_probe(b"BUSY"), Refusal::Passing);
    }

    #[test]
    fn what_a_script_met_is_told_alike_by_every_version() {
        for error in [
            "OOM command not allowed when used memory > 'maxmemory'. script: f1, on @user_script:12.",
            "ERR Error running script (call to f_1): @user_script:12: @user_script: 12: -OOM command not allowed - now",
        ] {
            let within = of_command_within(error.as_bytes());
            assert!(takes_no_writes(within) && within.starts_with(b"OOM command not allowed"), "{error}");
        }
        for error in ["ERR Error running script (call to f_1): something", "ERR no: -OOM", ""] {
            assert_eq!(of_command_within(error.as_bytes()), error.as_bytes());
        }
    }

    #[test]
    fn what_an_operator_has_to_know_is_said_in_words() {
        let open = RedisConfig::default();
        let said = |config: &RedisConfig, error: &str| config.explained_error(error.as_bytes());
        assert_eq!(
            said(&open, "NOAUTH Authentication required."),
            "it wants a password, and none is given (NOAUTH Authentication required.)"
        );
        assert!(
            said(&with_password("x"), "NOAUTH Authentication required.").starts_with("it did not take the sign-in")
        );
        assert!(said(&open, "ERR wrong number of arguments for 'auth' command").contains("knows no users"));
        assert_eq!(said(&open, "ERR something new"), "ERR something new");
        let protected = said(&open, &format!("DENIED Redis is running in protected mode {}", "x".repeat(1_000)));
        assert!(protected.starts_with("it runs in protected mode") && protected.len() < 400, "{protected}");
    }

    #[test]
    fn a_quoted_password_is_withheld_even_in_part() {
        let config = with_password("hunter2-hunter2");
        let quoted = b"ERR unknown command `AUTH`, with args beginning with: `hunter2-hu";
        assert_eq!(config.printable_error(quoted), "ERR unknown command `AUTH`");
        assert_eq!(config.printable_error(b"ERR bad hunter2-hu..."), "ERR");
        assert_eq!(config.printable_error(b"hunter2-hunter2"), "(text withheld)");
        assert_eq!(config.printable_error(b"WRONGPASS invalid pair"), "WRONGPASS invalid pair");
        assert!(!config.explained_error(b"NOAUTH hunter2-hunter2").contains("hunter2"));
    }

    #[test]
    fn a_text_is_bounded_and_printable() {
        let text = RedisConfig::default().printable_error(&[b"ERR \x1b[31m\xff".as_slice(), &[b'x'; 10_000]].concat());
        assert_eq!(text.chars().count(), REASON_CHARS_MAX);
        assert!(!text.contains('\x1b'));
    }

    #[test]
    fn the_default_user_is_no_argument_of_auth() {
        let config = |username: Option<&str>, password: Option<&str>| RedisConfig {
            username: username.map(str::to_owned),
            password: password.map(str::to_owned),
            ..RedisConfig::default()
        };
        assert!(config(Some("ann"), None).auth_arguments().is_empty());
        assert_eq!(config(None, Some("pw")).auth_arguments(), ["pw"]);
        assert_eq!(config(Some("default"), Some("pw")).auth_arguments(), ["pw"]);
        assert_eq!(config(Some("ann"), Some("pw")).auth_arguments(), ["ann", "pw"]);
    }
}
