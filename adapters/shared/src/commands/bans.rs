//! `ban`, `unban`, `bans`: who is refused although the credential is valid, in the store that the servers look at.

use super::span;
use crate::config::{Config, bans_store};
use crate::time::unix_ms;
use fanfare_auth::{Ban, BanError, BanStore, Banned, cli};
use fanfare_shell::config::{Asked, Failed, Flag, Said, Subcommand, Times};

const USER: Flag = Flag { name: "user", value_name: "NAME", help: "A user", times: Times::AtMostOnce };
const TOKEN: Flag =
    Flag { name: "token", value_name: "ID", help: "The token of this id, its jti", times: Times::AtMostOnce };
const ISSUED_BEFORE: Flag = Flag {
    name: "issued-before",
    value_name: "now|TIME|UNIX_MS",
    help: "All credentials that were issued before this time, 2026-01-31T09:30:00Z for example; with --user, those of this user",
    times: Times::AtMostOnce,
};

pub(crate) const BAN: Subcommand<Config> = Subcommand {
    name: "ban",
    about: "Refuse a user, a token, or all that was issued before a time, also on open connections",
    options: &[
        USER,
        TOKEN,
        ISSUED_BEFORE,
        Flag {
            name: "for",
            value_name: "SPAN",
            help: "How long: 90s, 15m, 1h, 30d; best, until those credentials have expired anyway",
            times: Times::Once,
        },
    ],
    run: |config, asked| {
        let (store, now_ms) = (store(config)?, unix_ms());
        let what = banned(asked, now_ms).map_err(Failed::Usage)?;
        let seconds = span::seconds(asked.one("for").unwrap_or_default()).map_err(Failed::Usage)?;
        let ban = Ban { what, until_ms: now_ms.saturating_add(seconds * 1_000) };
        store.ban(&ban, now_ms).map_err(not_done)?;
        Ok(Said { result: String::new(), hint: format!("banned; to lift it: unban {}", cli::flags(&ban.what)) })
    },
};

pub(crate) const UNBAN: Subcommand<Config> = Subcommand {
    name: "unban",
    about: "Lift a ban",
    options: &[USER, TOKEN, ISSUED_BEFORE],
    run: |config, asked| {
        let (store, now_ms) = (store(config)?, unix_ms());
        let what = banned(asked, now_ms).map_err(Failed::Usage)?;
        let was_there = store.unban(&what, now_ms).map_err(not_done)?;
        if !was_there {
            return Err(Failed::Work("there is no such ban; `bans` prints all of them".to_owned()));
        }
        Ok(Said { result: String::new(), hint: "the ban is lifted".to_owned() })
    },
};

pub(crate) const BANS: Subcommand<Config> = Subcommand {
    name: "bans",
    about: "Print the bans in force, each by the flags that `ban` and `unban` take",
    options: &[],
    run: |config, _| {
        let list = store(config)?.list(unix_ms()).map_err(not_done)?;
        Ok(Said { result: cli::bans(&list), hint: String::new() })
    },
};

/// Why the store has not done it.
fn not_done(error: BanError) -> Failed {
    match error {
        BanError::BadName => Failed::Usage(error.to_string()),
        error => Failed::Work(error.to_string()),
    }
}

fn store(config: &Config) -> Result<Box<dyn BanStore>, Failed> {
    let nowhere = "there is nowhere to keep bans: set redis.url (--redis-url) or auth.bans_file (--auth-bans-file), as the servers have it";
    let store = bans_store(config).map_err(|error| Failed::Work(error.to_string()))?;
    store.ok_or_else(|| Failed::Work(nowhere.to_owned()))
}

fn banned(asked: &Asked, now_ms: u64) -> Result<Banned, String> {
    let user = asked.one("user").map(str::to_owned);
    match (user, asked.one("token"), asked.one("issued-before")) {
        (Some(user), None, None) => Ok(Banned::User(user)),
        (None, Some(token), None) => Ok(Banned::Token(token.to_owned())),
        (user, None, Some(time)) => {
            let ms = match time {
                "now" => now_ms,
                time => time.parse().ok().or_else(|| cli::time_of(time)).ok_or_else(|| {
                    format!(
                        "{time:?} is neither now, nor a time as 2026-01-31T09:30:00Z, nor a Unix time in milliseconds"
                    )
                })?,
            };
            Ok(Banned::IssuedBefore { ms, user })
        }
        _ => Err("say whom: --user NAME, or --token ID, or --issued-before TIME, which may have a --user".to_owned()),
    }
}
