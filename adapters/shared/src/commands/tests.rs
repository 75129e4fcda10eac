//! What the commands say and do, with a real file of bans.

use super::span;
use crate::config::{Config, Program, load, methods};
use fanfare_auth::{Credential, Info, Secret, Source};
use fanfare_shell::config::{Said, Stop};
use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

const PROGRAM: Program = Program { name: "fanfare", about: "A server.", workers_max: 64 };
const SECRET: &str = "hunter2-hunter2-hunter2-hunter2!";

/// What the command says, by a configuration with a secret.
fn run(arguments: &[&str]) -> Result<Said, String> {
    with(arguments, &[("FANFARE_AUTH_SECRET", SECRET)]).1
}

fn with(arguments: &[&str], environment: &[(&str, &str)]) -> (Config, Result<Said, String>) {
    let arguments = ["fanfare"].iter().chain(arguments).map(OsString::from);
    match load(&PROGRAM, arguments, environment.iter().map(|(name, value)| (name.into(), value.into()))) {
        Ok(loaded) => {
            let outcome = loaded.outcome().expect("it is a command");
            (loaded.config, outcome.map_err(|failed| failed.to_string()))
        }
        Err(Stop::CommandLine(error)) => (Config::default(), Err(error.to_string())),
        Err(Stop::Config(error)) => (Config::default(), Err(error.to_string())),
    }
}

/// A path at which nothing is yet.
struct Place(PathBuf);

impl Place {
    fn new() -> Place {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        Place(std::env::temp_dir().join(format!("fanfare-commands-{}-{number}", std::process::id())))
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for ending in ["", ".lock", ".new"] {
            let _ = fs::remove_file(format!("{}{ending}", self.path()));
        }
    }
}

#[test]
fn a_token_is_what_the_server_takes() {
    let arguments = [
        "token",
        "--user",
        "alice",
        "--subscribe",
        "team:*",
        "--subscribe",
        "a",
        "--publish",
        "b",
        "--history",
        "c",
        "--presence",
        "d",
        "--join",
        "lobby",
        "--info",
        r#"{ "name": "Alice" }"#,
        "--for",
        "15m",
        "--auth-audience",
        "us,them",
        "--auth-issuer",
        "me",
        "--auth-user-claim",
        "uid",
        "--auth-info-claim",
        "profile",
    ];
    let (config, said) = with(&arguments, &[("FANFARE_AUTH_SECRET", SECRET)]);
    let said = said.unwrap();
    let verifier = methods(&config).unwrap().0.tokens.unwrap();
    let now_ms = crate::time::unix_ms();
    let token = said.result.trim_end();
    let identity = verifier.verify(&Credential::new(Secret::new(token), Source::Header), now_ms).unwrap();
    assert_eq!((&*identity.user, identity.grants.subscribe), ("alice", vec!["team:*".to_owned(), "a".to_owned()]));
    assert_eq!((identity.grants.publish, identity.join), (vec!["b".to_owned()], vec!["lobby".to_owned()]));
    assert_eq!(identity.info, Some(Info::Told(r#"{"name":"Alice"}"#.to_owned())));
    let left_ms = identity.expires_ms.unwrap() - 30_000 - now_ms;
    assert!((840_000..=900_000).contains(&left_ms), "{left_ms}");
    assert!(identity.token_id.is_some_and(|id| said.hint.contains(&id)));
    assert!(said.hint.contains("?token=$TOKEN") && !said.hint.contains(token), "{}", said.hint);
    let refused = run(&["token", "--user", "bob", "--auth-algorithms", "HS512"]).unwrap();
    assert!(refused.hint.contains("refuses it"), "{refused:?}");
}

#[test]
fn a_private_key_signs_in_place_of_the_secret() {
    let key = Place::new();
    // Of RFC 8410 §10.3.
    let pem = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n-----END PRIVATE KEY-----\n";
    fs::write(&key.0, pem).unwrap();
    let public = Place::new();
    fs::write(&public.0, "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n")
        .unwrap();
    let arguments = ["token", "--user", "alice", "--key-file", key.path(), "--auth-key-files", public.path()];
    let (config, said) = with(&arguments, &[]);
    let verifier = methods(&config).unwrap().0.tokens.unwrap();
    let credential = Credential::new(Secret::new(said.unwrap().result.trim_end()), Source::Header);
    assert_eq!(verifier.verify(&credential, crate::time::unix_ms()).unwrap().user, "alice");
}

#[test]
fn a_token_that_cannot_be_is_told_why() {
    let (_, without) = with(&["token", "--user", "alice"], &[]);
    assert!(without.unwrap_err().contains("set auth.secret or auth.secret_file"));
    for (more, wrong) in [
        (&[][..], "--user <NAME>"),
        (&["--user", ""], "expected a user"),
        (&["--user", "a", "--for", "1 h"], "is no span of time"),
        (&["--user", "a", "--publish", "a:**:b"], "--publish \"a:**:b\": ** matches all the rest"),
        (&["--user", "a", "--info", "{"], "expected an info"),
        (&["--user", "a", "--key-file", "/no/such"], "cannot read \"/no/such\""),
    ] {
        let why = run(&[&["token"][..], more].concat()).unwrap_err();
        assert!(why.contains(wrong) && !why.contains("hunter2"), "{why}");
    }
}

#[test]
fn bans_are_made_listed_and_lifted() {
    let place = Place::new();
    let run = |arguments: &[&str]| run(&[arguments, &["--auth-bans-file", place.path()]].concat());
    let listed = || run(&["bans"]).unwrap().result;
    assert_eq!(listed(), "nobody is banned\n");
    run(&["ban", "--user", "eve", "--for", "30d"]).unwrap();
    run(&["ban", "--token", "t1", "--for", "90s"]).unwrap();
    let said = run(&["ban", "--issued-before", "now", "--user", "bob", "--for", "1h"]).unwrap();
    run(&["ban", "--issued-before", "1000", "--for", "1h"]).unwrap();
    let bans = listed();
    for part in [
        "--user eve\n",
        "--token t1\n",
        "--issued-before 1970-01-01T00:00:01Z\n",
        "--issued-before 20",
        "Z --user bob\n",
    ] {
        assert!(bans.contains(part), "{part}: {bans}");
    }
    // What the hint says lifts the ban.
    let (_, lifting) = said.hint.split_once("to lift it: ").unwrap();
    let lifting: Vec<_> = lifting.split(' ').collect();
    run(&lifting).unwrap();
    run(&["unban", "--user", "eve"]).unwrap();
    let bans = listed();
    assert!(!bans.contains("eve") && !bans.contains("bob") && bans.lines().count() == 2, "{bans}");
    assert!(run(&["unban", "--user", "eve"]).unwrap_err().contains("there is no such ban"));
}

/// The words that a shell makes of this.
fn words(line: &str) -> Vec<String> {
    let script = format!("printf '%s\\0' {line}");
    let output = std::process::Command::new("bash").args(["-c", &script]).output().unwrap();
    assert!(output.status.success(), "{line}");
    let words = String::from_utf8(output.stdout).unwrap();
    words.split_terminator('\0').map(str::to_owned).collect()
}

#[test]
fn what_is_printed_of_a_ban_makes_it_and_lifts_it() {
    let place = Place::new();
    let run = |arguments: &[&str]| run(&[arguments, &["--auth-bans-file", place.path()]].concat());
    let names = [
        "eve",
        "a b",
        "-rf",
        "--user=",
        "it's",
        "\"$HOME\" `ls` \\ !",
        "\u{1b}[2J\n'x' \\n",
        "é\u{202e}7\u{85}1",
        "*",
        "#",
        "~",
        "{a,b}",
        "\u{1F600} :%/",
    ];
    for name in names {
        run(&["ban", &format!("--user={name}"), "--for", "30d"]).unwrap();
        run(&["ban", &format!("--token={name}"), "--for", "30d"]).unwrap();
        run(&["ban", "--issued-before", "1700000000123", &format!("--user={name}"), "--for", "30d"]).unwrap();
    }
    for time in ["now", "0", "1700000000120", "1700000000000", "18446744073709551615", "2026-01-31T10:30:00.5+01:00"] {
        run(&["ban", "--issued-before", time, "--for", "30d"]).unwrap();
    }
    let listed = run(&["bans"]).unwrap().result;
    let lines: Vec<_> = listed.lines().collect();
    assert_eq!(lines.len(), 3 * names.len() + 6, "{listed}");
    assert!(!listed.chars().any(|character| character != '\n' && character.is_control() || character == '\u{202e}'));
    assert!(listed.contains("--issued-before 2023-11-14T22:13:20.123Z --user eve\n"), "{listed}");
    for line in &lines {
        let flags = words(&line[line.find("--").unwrap()..]);
        let flags: Vec<_> = flags.iter().map(String::as_str).collect();
        let with = |command: &[&str], more: &[&str]| run(&[command, &flags, more].concat());
        assert_eq!(with(&["unban"], &[]).unwrap().hint, "the ban is lifted", "{line}");
        let hint = with(&["ban"], &["--for", "30d"]).unwrap().hint;
        assert_eq!(words(hint.split_once("unban ").unwrap().1), flags);
        with(&["unban"], &[]).unwrap();
    }
    assert_eq!(run(&["bans"]).unwrap().result, "nobody is banned\n");
}

#[test]
fn a_ban_that_cannot_be_is_told_why() {
    assert!(run(&["bans"]).unwrap_err().contains("set redis.url (--redis-url) or auth.bans_file"));
    let place = Place::new();
    for (arguments, wrong) in [
        (&["ban", "--for", "1h"][..], "say whom"),
        (&["ban", "--user", "a", "--token", "b", "--for", "1h"], "say whom"),
        (&["ban", "--user", "a"], "--for <SPAN>"),
        (&["ban", "--user", "a", "--for", "0s"], "is no span of time"),
        (&["ban", "--user", "", "--for", "1h"], "no credential has such a name"),
        (&["ban", "--issued-before", "today", "--for", "1h"], "is neither now, nor a time as"),
        (&["ban", "--issued-before", "1969-12-31T23:59:59Z", "--for", "1h"], "is neither now, nor a time as"),
    ] {
        let why = run(&[arguments, &["--auth-bans-file", place.path()]].concat()).unwrap_err();
        assert!(why.contains(wrong), "{why}");
    }
}

#[test]
fn spans_are_numbers_with_units() {
    for (text, seconds) in [("90s", 90), ("15m", 900), ("1h", 3_600), ("30d", 2_592_000)] {
        assert_eq!(span::seconds(text), Ok(seconds));
    }
    for text in ["", "s", "1", "-1s", "+1s", "1.5h", "1w", "0d", "99999999999d", "18446744073709551616s", "1é"] {
        assert!(span::seconds(text).is_err(), "{text}");
    }
}
