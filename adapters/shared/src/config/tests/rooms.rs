//! Rules for rooms in the file: how they are read, printed, asked for and refused.

use super::{TomlFile, assert_says, error, loaded, try_load};
use crate::config::Config;
use crate::config::rooms::ROOM_KEYS;
use fanfare_core::history::Retention;
use fanfare_core::rules::{Permissions, RULES_MAX, Slow, Storing, Who};
use fanfare_shell::config::Key;
use std::fmt::Write;
use std::time::Duration;

const ROOMS: &str = "\
[[rooms]]
match = 'chat:*'
history_messages = 50
slow = 'catch_up'

[[rooms]]
match = 'user:{user}:**'
history_ttl_ms = 60000
history_bytes = 4096
store = 'off'

[[rooms]]
match = 'cursor:**'
slow = 'latest'
";

fn loaded_from(text: &str) -> Config {
    loaded(&["--config", TomlFile::new(text).path()], &[])
}

fn error_of(text: &str) -> String {
    error(&["--config", TomlFile::new(text).path()], &[])
}

#[test]
fn any_bound_gives_a_history_and_the_others_have_their_defaults() {
    let rules = loaded_from(ROOMS).core.rules;
    let rules: Vec<_> =
        rules.as_slice().iter().map(|rule| (rule.pattern.as_str(), rule.history, rule.slow, rule.store)).collect();
    let day = Duration::from_secs(86_400);
    let chat = Retention { messages_max: 50, bytes_max: 1 << 20, age_max: day };
    let user = Retention { messages_max: 1_000, bytes_max: 4_096, age_max: Duration::from_secs(60) };
    assert_eq!(
        rules,
        [
            ("chat:*", Some(chat), Slow::CatchUp, Storing::On),
            ("user:{user}:**", Some(user), Slow::Close, Storing::Off),
            ("cursor:**", None, Slow::Latest, Storing::On),
        ]
    );
    // What the table of keys says of the defaults.
    let given = |Key { name, default, .. }: &Key<_>| format!("{name} = {default}\n");
    let bounds: String = ROOM_KEYS.iter().filter(|key| key.name.starts_with("history_")).map(given).collect();
    let by_default = loaded_from("[[rooms]]\nmatch = 'a'\nhistory_messages = 1000");
    assert_eq!(loaded_from(&format!("[[rooms]]\nmatch = 'a'\n{bounds}slow = 'close'\nstore = 'on'")), by_default);
}

#[test]
fn histories_of_all_rooms_have_their_bounds() {
    let config = loaded(&["--history-key-ttl-ms", "2000"], &[("FANFARE_HISTORY_MEMORY_BYTES_MAX", "65536")]).core;
    assert_eq!((config.history.key_age_max, config.history.memory_bytes_max), (Duration::from_secs(2), 65_536));
    assert_eq!(config.history.reads_in_flight_max, 64);
}

#[test]
fn rules_are_printed_as_they_are_read() {
    let file = TomlFile::new(ROOMS);
    let before = try_load(&["--config", file.path()], &[]).unwrap();
    let printed = before.to_toml();
    assert_says(
        &printed,
        &["\n[[rooms]] # file ", "history_bytes = 1048576 # default\n", "match = \"chat:*\" # file "],
    );
    assert_eq!(loaded_from(&printed), before.config, "{printed}");
    assert!(!loaded_from("[[rooms]]\nmatch = '\"quoted\" \\ é'").core.rules.as_slice().is_empty());
}

#[test]
fn which_rule_a_room_has_can_be_asked() {
    let file = TomlFile::new(ROOMS);
    let ask = |names: &[&str]| {
        let asked: Vec<_> = names.iter().flat_map(|name| ["--room", name]).collect();
        let arguments = [&["check-config", "--config", file.path()][..], &asked].concat();
        try_load(&arguments, &[]).unwrap().answers().unwrap()
    };
    assert_eq!(
        ask(&["chat:42", "lobby", "cursor:a:b"]).replace(file.path(), "FILE"),
        "[[room]]\nname = \"chat:42\"\nrule = 1 # file FILE line 1\nmatch = \"chat:*\"\nhistory_messages = 50\n\
         history_ttl_ms = 86400000\nhistory_bytes = 1048576\nhistory_replicas_min = 0\n\
         slow = \"catch_up\"\nstore = \"on\"\nmembers_max = 0\n\
         subscribe = \"anyone\"\npublish = \"anyone\"\nhistory = \"anyone\" # as subscribe\npresence = false\n\n\
         [[room]]\nname = \"lobby\" # no rule fits: it has no history, and who does not keep up is closed\n\
         subscribe = \"anyone\"\npublish = \"anyone\"\nhistory = \"anyone\" # as subscribe\npresence = false\n\n\
         [[room]]\nname = \"cursor:a:b\"\nrule = 3 # file FILE line 12\nmatch = \"cursor:**\"\n\
         history_replicas_min = 0\nslow = \"latest\"\nstore = \"on\"\nmembers_max = 0\n\
         subscribe = \"anyone\"\npublish = \"anyone\"\nhistory = \"anyone\" # as subscribe\npresence = false\n"
    );
    assert!(ask(&["odd \"name\"\n"]).parse::<toml::Table>().is_ok());
}

#[test]
fn who_may_do_what_is_read_and_printed() {
    let text = "[[rooms]]\nmatch = 'team:*'\nsubscribe = 'granted'\npublish = 'nobody'\n\
                [[rooms]]\nmatch = 'user:{user}:*'\nhistory = 'self'\npresence = 'user'\n[[rooms]]\nmatch = 'x'\npublish = 'anyone'";
    let file = TomlFile::new(text);
    let config = loaded(&["--config", file.path(), "--auth-url", "https://h/who"], &[]);
    let said: Vec<_> = config.core.rules.as_slice().iter().map(|rule| rule.permissions).collect();
    let none = Permissions::default();
    assert_eq!(
        said,
        [
            Permissions { subscribe: Some(Who::Granted), publish: Some(Who::Nobody), ..none },
            Permissions { history: Some(Who::Owner), presence: Some(Who::User), ..none },
            Permissions { publish: Some(Who::Anyone), ..none },
        ]
    );
    for (rule, key, wrong) in [
        ("publish = 'all'", "publish", "\"all\" is not one of the choices"),
        ("publish = true", "publish", "it is a boolean"),
        ("presence = 1", "presence", "it is a number"),
        ("presence = 'true'", "presence", "true stands without quotes"),
        ("presence = 'users'", "presence", "\"users\" is not one of the choices"),
        ("presence = 'self'", "presence", "the pattern has no {user} whose own the rooms could be"),
        ("subscribe = ''", "subscribe", "\"\" is not one of the choices"),
        ("history = 'self'", "history", "the pattern has no {user} whose own the rooms could be"),
    ] {
        let text = error_of(&format!("[[rooms]]\nmatch = 'b:*'\n{rule}"));
        assert_says(&text, &[&format!("[[rooms]] number 1 (match = \"b:*\"): {key}\n"), " line 3\n", wrong]);
    }
}

#[test]
fn whatever_is_wrong_with_a_rule_names_it() {
    for (rule, key, wrong, right) in [
        ("slow = 'catch_up'", "slow", "there is no history from which to catch up", "history_messages, history_ttl_ms"),
        ("slow = 'wait'", "slow", "\"wait\" is not one of the choices", "close, catch_up or latest; default: close"),
        ("store = true", "store", "it is a boolean", "off or on; default: on"),
        ("history_messages = 0", "history_messages", "0 is below the minimum", "from 1 to 1000000; default: 1000"),
        ("history_ttl_ms = 60", "history_ttl_ms", "60 is below the minimum", "from 1000 (1 s) to 2592000000 (30 d)"),
        ("history_bytes = '1'", "history_bytes", "it is a string", "from 1024 (1 KiB) to 1073741824 (1 GiB)"),
        ("history_message = 5", "history_message", "there is no such key", "did you mean history_messages?"),
    ] {
        let text = error_of(&format!("[[rooms]]\nmatch = 'a'\n[[rooms]]\nmatch = 'b:*'\n{rule}"));
        assert_says(&text, &[&format!("\n[[rooms]] number 2 (match = \"b:*\"): {key}\n"), " line 5\n", wrong, right]);
    }
    for (pattern, wrong) in [
        ("a:**:b", "\"a:**:b\": ** matches all the rest"),
        ("a{user}", "\"a{user}\": {user} matches a whole segment"),
        ("", "\"\": it is empty"),
    ] {
        assert_says(
            &error_of(&format!("[[rooms]]\nmatch = '{pattern}'")),
            &[&format!("[[rooms]] number 1 (match = \"{pattern}\"): match\n"), " line 2\n", wrong, "such as \"lobby\""],
        );
    }
    let twice = "[[rooms]]\nmatch = 'a'\n[[rooms]]\nmatch = 'a'";
    assert_says(&error_of(twice), &["[[rooms]] number 2 (match = \"a\"): match\n", "number 1 has the same"]);
    assert_says(&error_of("[[rooms]]\nslow = 'close'"), &["[[rooms]] number 1: match\n", "it is missing"]);
    assert_says(&error_of("[[room]]\nmatch = 'a'"), &["did you mean [[rooms]]?"]);
}

#[test]
fn there_are_no_more_rules_than_a_name_may_be_held_against() {
    let rules = |count: usize| {
        (0..count).fold(String::new(), |mut text, number| {
            let _ = writeln!(text, "[[rooms]]\nmatch = 'room-{number}'");
            text
        })
    };
    assert_eq!(loaded_from(&rules(RULES_MAX)).core.rules.find("room-999"), Some(999));
    assert_says(&error_of(&rules(RULES_MAX + 1)), &["there are 1001 of them", "right: at most 1000", " line 2001\n"]);
}

#[test]
fn a_history_needs_the_format_that_has_a_place_for_it() {
    let text = error_of(&format!("redis.format = 'classic'\n{ROOMS}"));
    assert_says(
        &text,
        &[
            "[[rooms]] number 1 (match = \"chat:*\")\n",
            "[[rooms]] number 2 (match = \"user:{user}:**\")\n",
            "redis.format is classic (file ",
            "wrong in 2 places",
        ],
    );
    loaded_from("redis.format = 'classic'\n[[rooms]]\nmatch = 'a'\nslow = 'latest'");
}

#[test]
fn rules_that_no_room_can_have_are_warned_of() {
    let warnings = |text: &str| try_load(&["--config", TomlFile::new(text).path()], &[]).unwrap().warnings;
    let rules =
        |patterns: &[&str]| patterns.iter().map(|pattern| format!("[[rooms]]\nmatch = '{pattern}'\n")).collect();
    let text: String = rules(&["chat:*", "chat:vip", "**", "a"]);
    assert_eq!(
        warnings(&text),
        [
            "[[rooms]] number 2 (match = \"chat:vip\") is no room's rule, because [[rooms]] number 1 (match = \"chat:*\") comes first \
             and fits all of its rooms",
            "[[rooms]] number 4 (match = \"a\") is no room's rule, because [[rooms]] number 3 (match = \"**\") comes first and fits \
             all of its rooms",
        ]
    );
    let text: String = rules(&["chat:vip", "chat:*", "**"]);
    assert!(warnings(&text).is_empty());
}

#[test]
fn the_sample_rules_of_the_manual_are_valid_and_answered_as_it_says() {
    let manual = include_str!("../../../../../docs/configuration.md");
    let (_, section) = manual.split_once("\n## Rules for rooms\n").expect("a section");
    let block = |begin: &str| {
        let (_, rest) = section.split_once(begin).expect("a block");
        rest.split_once("```").expect("its end").0
    };
    let file = TomlFile::new(block("```toml\n"));
    let (command, answer) = block("```text\n$ fanfare ").split_once('\n').expect("a command and its answer");
    let command = command.replace("fanfare.toml", file.path());
    let answered = try_load(&command.split(' ').collect::<Vec<_>>(), &[]).unwrap().answers().unwrap();
    assert_eq!(answered.replace(file.path(), "fanfare.toml"), answer);
}

#[test]
fn rooms_that_wait_for_replicas_need_redis_a_history_and_a_connection_that_waits_as_long() {
    let room = "[[rooms]]\nmatch = 'a'\nhistory_messages = 9\nhistory_replicas_min = 2\n";
    let file = TomlFile::new(room);
    let load = |more: &[&str]| {
        let arguments = [&["--config", file.path(), "--redis-url", "redis://h"][..], more].concat();
        try_load(&arguments, &[]).map(|loaded| loaded.config)
    };
    let config = load(&[]).unwrap();
    assert_eq!(config.core.rules.as_slice()[0].replicas_min, 2);
    assert_eq!(config.redis.session.replicas_timeout, Duration::from_secs(1));
    assert!(load(&["--history-replicas-timeout-ms", "5000"]).is_ok());
    assert!(load(&["--history-replicas-timeout-ms", "5001"]).is_err());
    assert_says(&error_of(room), &["without redis.url there are no replicas"]);
    assert_says(
        &error_of("[[rooms]]\nmatch = 'a'\nhistory_replicas_min = 1\n"),
        &["there is no history for replicas to have"],
    );
}

#[test]
fn a_rule_says_how_many_members_a_room_has() {
    let rules = loaded_from("[[rooms]]\nmatch = 'a'\nmembers_max = 50\n[[rooms]]\nmatch = 'b'").core.rules;
    assert_eq!(rules.as_slice().iter().map(|rule| rule.members_max).collect::<Vec<_>>(), [50, 0]);
    assert_says(&error_of("[[rooms]]\nmatch = 'a'\nmembers_max = -1"), &["members_max"]);
}

#[test]
fn presence_is_switched_on_by_true_or_by_who_may_see_it() {
    let texts =
        ["", "presence = false", "presence = true", "presence = 'user'", "presence = 'self'", "presence = 'nobody'"];
    let rule = |(number, text): (usize, &&str)| format!("[[rooms]]\nmatch = '{number}:{{user}}'\n{text}\n");
    let file = TomlFile::new(&texts.iter().enumerate().map(rule).collect::<String>());
    let arguments = ["--config", file.path(), "--auth-url", "https://h/who", "--redis-url", "redis://h"];
    let config = loaded(&arguments, &[]);
    let said: Vec<_> =
        config.core.rules.as_slice().iter().map(|rule| (rule.presence, rule.permissions.presence)).collect();
    let expected = [
        (false, None),
        (false, None),
        (true, None),
        (true, Some(Who::User)),
        (true, Some(Who::Owner)),
        (true, Some(Who::Nobody)),
    ];
    assert_eq!(said, expected);
    let printed = try_load(&arguments, &[]).unwrap().to_toml();
    assert_says(&printed, &["presence = false # default\n", "presence = true # file ", "presence = \"self\" # file "]);
    assert_eq!(loaded_from(&printed).core.rules, config.core.rules);
    let ask = |room: &str| {
        let asked = [&["check-config", "--room", room][..], &arguments].concat();
        try_load(&asked, &[]).unwrap().answers().unwrap()
    };
    assert_says(&ask("1:a"), &["presence = false\n"]);
    assert!(!ask("1:a").contains("keys = "));
    let place = "keys = [\"fanfare:\\u0001present:2:a\", \"fanfare:\\u0001changes:2:a\"]\n";
    assert_says(&ask("2:a"), &["presence = \"user\" # as subscribe\n", place]);
    assert_says(&ask("4:a"), &["presence = \"self\"\n"]);
    // Of users' own rooms the right alone is built in.
    assert_says(&ask("user:a"), &["rule = 0 # built in", "presence = false\n"]);
}

#[test]
fn presence_needs_users() {
    for word in ["true", "'anyone'", "'user'", "'nobody'"] {
        let text = error_of(&format!("[[rooms]]\nmatch = 'a'\npresence = {word}"));
        let parts = [
            "[[rooms]] number 1 (match = \"a\"): presence\n",
            "nobody would ever be there",
            "right: false, or auth.secret",
        ];
        assert_says(&text, &parts);
        assert!(text.contains("wrong: it keeps") && !text.contains("it is for users"), "{text}");
    }
    loaded_from("[[rooms]]\nmatch = 'a'\npresence = false");
}

#[test]
fn presence_of_all_rooms_has_its_bounds() {
    let config =
        loaded(&["--presence-linger-ms", "0", "--presence-lease-ms", "1000"], &[("FANFARE_PRESENCE_USERS_MAX", "7")]);
    assert_eq!((config.core.presence.linger, config.core.presence.users_max), (Duration::ZERO, 7));
    assert_eq!(config.redis.session.presence_lease, Duration::from_secs(1));
    assert_says(&error(&["--presence-lease-ms", "999"], &[]), &["presence.lease_ms\n", "999 is below the minimum"]);
}
