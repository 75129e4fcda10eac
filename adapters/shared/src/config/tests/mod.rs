//! Which source wins, and what a person is told who got a value wrong.

mod auth;
mod cluster;
mod hooks;
mod rooms;
mod sign_in;
mod tls;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use fanfare_core::{Origins, PublishFormat};

use super::auth::ISSUERS;
use super::hooks::HOOKS;
use super::keys::SECTIONS;
use super::load::SCHEMA;
use super::rooms::ROOM_KEYS;
use super::tls::CERTIFICATES;
use super::*;
use fanfare_shell::config::{Command, Loaded, Stop};
use fanfare_shell::logging::{LogFormat, LogLevel};

const PROGRAM: Program = Program { name: "fanfare", about: "A server.", workers_max: 64 };

fn try_load(arguments: &[&str], environment: &[(&str, &str)]) -> Result<Loaded<Config>, Stop> {
    let arguments = ["fanfare"].iter().chain(arguments).map(OsString::from);
    load(&PROGRAM, arguments, environment.iter().map(|(name, value)| (name.into(), value.into())))
}

fn loaded(arguments: &[&str], environment: &[(&str, &str)]) -> Config {
    match try_load(arguments, environment) {
        Ok(loaded) => loaded.config,
        Err(stop) => panic!("{stop:?}"),
    }
}

/// The message to a person.
fn error(arguments: &[&str], environment: &[(&str, &str)]) -> String {
    match try_load(arguments, environment) {
        Ok(loaded) => panic!("this is no error: {:?}", loaded.config),
        Err(Stop::Config(error)) => error.to_string(),
        Err(Stop::CommandLine(error)) => error.to_string(),
    }
}

fn assert_says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in:\n{text}");
    }
}

/// A configuration file for one test, removed with it.
struct TomlFile(PathBuf);

impl TomlFile {
    fn new(text: &str) -> TomlFile {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("fanfare-config-{}-{number}.toml", std::process::id()));
        fs::write(&path, text).unwrap();
        TomlFile(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for TomlFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[test]
fn names_follow_one_rule_and_never_collide() {
    let flags: BTreeSet<_> = SCHEMA.keys().map(|key| key.flag()).collect();
    let variables: BTreeSet<_> = SCHEMA.keys().map(|key| SCHEMA.environment(key)).collect();
    assert_eq!((flags.len(), variables.len()), (SCHEMA.keys().count(), SCHEMA.keys().count()));
    assert!(flags.contains("limits-rooms-per-connection-max") && flags.contains("ops-listen"));
    assert!(variables.contains("FANFARE_LIMITS_ROOMS_PER_CONNECTION_MAX"));
    let sections: Vec<_> = SCHEMA.keys().map(|key| key.section()).collect();
    let order = |section: &str| SECTIONS.iter().position(|(name, _)| *name == section).expect("a known section");
    assert!(sections.is_sorted_by_key(|section| order(section)), "keys stand section by section");
}

#[test]
fn without_anything_the_defaults_rule() {
    let config = loaded(&[], &[]);
    assert_eq!(config, Config::default());
    assert_eq!(config.listen.to_string(), "127.0.0.1:8080");
    assert_eq!((config.ops_listen, &config.redis.target), (None, &None));
    assert_eq!((config.log.format, config.log.level), (LogFormat::Text, LogLevel::Info));
    assert_eq!(
        (config.core.limits.message_bytes_max, config.core.limits.outbox_total_bytes_max),
        (65_536, 268_435_456)
    );
    assert_eq!(
        (config.redis.session.prefix.as_str(), config.core.publish_format),
        ("fanfare:", PublishFormat::Fanfare)
    );
    assert_eq!(
        config.redis.session.backoff_min..config.redis.session.backoff_max,
        Duration::from_millis(50)..Duration::from_secs(5)
    );
    assert_eq!(config.core.timeouts.ping_interval, Duration::from_secs(25));
}

#[test]
fn a_flag_beats_the_environment_beats_the_file() {
    let file = TomlFile::new("[limits]\nerrors_max = 1\nmessage_bytes_max = 2048\nroom_name_bytes_max = 3\n");
    let environment = [
        ("FANFARE_CONFIG", file.path()),
        ("FANFARE_LIMITS_ERRORS_MAX", "10"),
        ("FANFARE_LIMITS_MESSAGE_BYTES_MAX", "4096"),
    ];
    let limits = loaded(&["--limits-errors-max", "100"], &environment).core.limits;
    assert_eq!((limits.errors_max, limits.message_bytes_max, limits.room_name_bytes_max), (100, 4096, 3));
}

#[test]
fn a_stronger_value_stands_in_for_a_wrong_weaker_one() {
    let environment = [("REDIS_URL", "redis-cluster://managed/1"), ("FANFARE_LISTEN", "nonsense")];
    let config = loaded(&["--redis-url", "redis://tunnel", "--listen", "127.0.0.1:1"], &environment);
    assert_eq!(config.redis.target.unwrap().to_string(), "redis://tunnel:6379/0");
}

#[test]
fn port_replaces_the_port_alone_and_yields_to_a_whole_address() {
    let file = TomlFile::new("listen = '0.0.0.0:1000'");
    let listen = |arguments: &[&str], environment: &[(&str, &str)]| loaded(arguments, environment).listen.to_string();
    assert_eq!(listen(&[], &[("PORT", "9000")]), "127.0.0.1:9000");
    assert_eq!(listen(&[], &[("PORT", "")]), "127.0.0.1:8080");
    assert_eq!(listen(&["--config", file.path()], &[("PORT", "9000")]), "0.0.0.0:9000");
    assert_eq!(listen(&[], &[("PORT", "9000"), ("FANFARE_LISTEN", "[::]:1")]), "[::]:1");
    assert_eq!(listen(&["--listen", "[::]:1"], &[("PORT", "9000")]), "[::]:1");
    assert_says(
        &error(&[], &[("PORT", "65536")]),
        &["listen\n", "environment variable PORT", "\"65536\" is not a port", "from 0 to 65535"],
    );
}

#[test]
fn redis_url_is_weaker_than_our_own_names_and_stronger_than_the_file() {
    let file = TomlFile::new("[redis]\nurl = 'redis://file'");
    let url = |arguments: &[&str], environment: &[(&str, &str)]| {
        loaded(arguments, environment).redis.target.map(|target| target.to_string()).unwrap_or_default()
    };
    let config = ["--config", file.path()];
    assert_eq!(url(&config, &[]), "redis://file:6379/0");
    assert_eq!(url(&config, &[("REDIS_URL", "redis://plain")]), "redis://plain:6379/0");
    let both = [("REDIS_URL", "redis://plain"), ("FANFARE_REDIS_URL", "redis://own")];
    assert_eq!(url(&config, &both), "redis://own:6379/0");
    assert_eq!(url(&["--redis-url", "redis://flag"], &both), "redis://flag:6379/0");
    assert_eq!(url(&["--redis-url", ""], &both), "", "an empty flag turns Redis off");
    assert_eq!(url(&config, &[("REDIS_URL", "")]), "redis://file:6379/0", "an empty variable counts as not set");
}

#[test]
fn an_empty_prefix_is_a_value() {
    assert_eq!(loaded(&[], &[("FANFARE_REDIS_PREFIX", "")]).redis.session.prefix, "");
    assert_eq!(loaded(&["--redis-prefix", ""], &[]).redis.session.prefix, "");
}

#[test]
fn flags_may_stand_before_and_after_the_command() {
    for arguments in [["--listen", "[::1]:1", "check-config"], ["check-config", "--listen", "[::1]:1"]] {
        let loaded = try_load(&arguments, &[]).unwrap();
        assert_eq!(
            (loaded.command, loaded.config.listen.port()),
            (Command::CheckConfig { strict: false, asked: Vec::new() }, 1)
        );
    }
    assert_eq!(try_load(&[], &[]).unwrap().command, Command::Run);
}

#[test]
fn a_wrong_value_is_told_with_its_key_source_reason_and_remedy() {
    let text = error(&["--limits-message-bytes-max", "12"], &[]);
    assert_eq!(
        text,
        "fanfare: the configuration is wrong; nothing was started\n\n\
         limits.message_bytes_max\n  \
           from:  flag --limits-message-bytes-max\n  \
           wrong: 12 is below the minimum\n  \
           right: a whole number of bytes from 1024 (1 KiB) to 16777216 (16 MiB); default: 65536\n\n\
         `fanfare --help` explains every key; `fanfare check-config` checks without starting."
    );
    for (name, value, wrong) in [
        ("FANFARE_LIMITS_ERRORS_MAX", "0", "0 is below the minimum"),
        ("FANFARE_LIMITS_ERRORS_MAX", "-1", "-1 is below the minimum"),
        ("FANFARE_LIMITS_ERRORS_MAX", "99999999999999999999", "99999999999999999999 is above the maximum"),
        ("FANFARE_LIMITS_ERRORS_MAX", "64k", "\"64k\" is not a whole number"),
        ("FANFARE_TIMEOUTS_CLOSE_MS", "0", "0 is below the minimum"),
        ("FANFARE_LOG_LEVEL", "INFO", "\"INFO\" is not one of the choices"),
        ("FANFARE_ORIGINS", "https://a/b", "\"https://a/b\": an origin has no path"),
        ("FANFARE_PROXY_TRUSTED", "10.0.0.1, lb", "\"lb\": not an IP address"),
        ("FANFARE_LISTEN", "8080", "\"8080\" is a port alone"),
        ("FANFARE_LISTEN", ":8080", "\":8080\" has no IP address before the colon"),
        ("FANFARE_LISTEN", "localhost:8080", "\"localhost:8080\" does not begin with an IP address"),
        ("FANFARE_LISTEN", "localhost:8080", "127.0.0.1:8080"),
        ("FANFARE_LISTEN", "example.com", "\"example.com\" is not an IP address and a port"),
        ("FANFARE_LISTEN", ":99999", "\":99999\" has the port 99999, and ports end at 65535"),
        ("FANFARE_LISTEN", "127.0.0.1:99999", "has the port 99999, and ports end at 65535"),
        ("FANFARE_LISTEN", ":8080", "127.0.0.1:8080 (this machine only) or 0.0.0.0:8080 (every network interface)"),
        ("FANFARE_LISTEN", "::1:8080", "has an IPv6 address without its brackets: [::1]:8080"),
        ("FANFARE_LISTEN", ":::8080", "has an IPv6 address without its brackets: [::]:8080"),
        ("FANFARE_LISTEN", "[::1]", "\"[::1]\" has no port: [::1]:8080"),
        ("FANFARE_LISTEN", "fe80::a", "has no brackets and no port: [fe80::a]:8080"),
        ("FANFARE_OPS_LISTEN", "127.0.0.1", "\"127.0.0.1\" has no port: 127.0.0.1:8080"),
        ("FANFARE_REDIS_URL", "redis-cluster://h/1", "a Cluster has none but 0"),
        ("FANFARE_CONFIG", "/no/such/file", "cannot read /no/such/file"),
    ] {
        assert_says(&error(&[], &[(name, value)]), &[&format!("environment variable {name}\n"), wrong, "right: "]);
    }
}

#[test]
fn every_mistake_of_a_file_is_told_at_once_with_its_line() {
    let file = TomlFile::new(
        "lisen = 1\n\
         message_bytes_max = 1\n\
         [limits]\n\
         message_byte_max = 1\n\
         connections_max = '5'\n\
         errors_max = 1.5\n\
         [redis]\n\
         backoff_min_ms = 1\n\
         prefix = 3\n\
         [limit]\n\
         [quite_another]\n",
    );
    let text = error(&["--config", file.path()], &[]);
    let line = |number: u32| format!("  from:  file {} line {number}\n", file.path());
    for (key, number, wrong, right) in [
        ("lisen", 1, "there is no such key", "did you mean listen?"),
        (
            "message_bytes_max",
            2,
            "there is no such key",
            "did you mean redis.message_bytes_max or limits.message_bytes_max?",
        ),
        ("limits.message_byte_max", 4, "there is no such key", "did you mean limits.message_bytes_max?"),
        ("limits.connections_max", 5, "it is a string; a number stands without quotes", "a whole number from 0"),
        ("limits.errors_max", 6, "it is a float", "a whole number from 1 to 65534; default: 100"),
        ("redis.backoff_min_ms", 8, "there is no such key", "did you mean redis.backoff_ms_min?"),
        ("redis.prefix", 9, "it is a number; a text stands in quotes", "text of at most 256 bytes"),
        ("limit", 10, "there is no such section", "did you mean [limits]?"),
        (
            "quite_another",
            11,
            "there is no such section",
            "the sections are [log], [api], [tls], [redis], [auth], [limits], [history], [presence], [compression], [proxy], [timeouts], [drain], [[rooms]], [[issuers]], [[certificates]]",
        ),
    ] {
        assert_says(&text, &[&format!("\n{key}\n{}  wrong: {wrong}\n  right: {right}", line(number))]);
    }
    assert_says(&text, &["wrong in 9 places"]);
}

#[test]
fn a_text_without_quotes_is_told() {
    for (line, name) in [
        ("listen = 127.0.0.1:80", "listen"),
        ("[log]\nformat = json", "format"),
        ("redis.url = redis://:hunter2@h", "redis.url"),
        ("origins = *", "origins"),
        ("listen = ::1", "listen"),
    ] {
        let text = error(&["--config", TomlFile::new(line).path()], &[]);
        assert_says(&text, &[&format!("the value of {name} is a text, and has to stand in quotes: {name} = \"...\"")]);
        assert!(!text.contains("hunter2"), "{text}");
    }
    for line in ["workers = 1 2", "listen = \"a", "workers = [1", "= 3"] {
        let text = error(&["--config", TomlFile::new(line).path()], &[]);
        assert!(!text.contains("in quotes: "), "{line}: {text}");
    }
}

#[test]
fn a_flag_of_another_server_is_answered_with_ours() {
    for arguments in [["--port", "80"], ["-p", "80"], ["--host", "0.0.0.0"]] {
        let text = error(&arguments, &[]);
        assert_says(&text, &[&format!("there is no {}; --listen says where clients connect", arguments[0])]);
    }
}

#[test]
fn a_section_that_is_none_is_told() {
    let file = TomlFile::new("limits = 3\n");
    assert_says(&error(&["--config", file.path()], &[]), &["it is an integer", "a section: [limits] on a line"]);
}

#[test]
fn values_that_contradict_each_other_are_told() {
    let text = error(&["--limits-outbox-bytes-max", "65536"], &[("FANFARE_LIMITS_OUTBOX_TOTAL_BYTES_MAX", "2048")]);
    assert_says(
        &text,
        &[
            "65536 is too small beside limits.message_bytes_max (default): ",
            "right: at least 69632, or a smaller limits.message_bytes_max",
            "2048 is too small beside limits.outbox_bytes_max (flag --limits-outbox-bytes-max): ",
        ],
    );
    let large = ["--limits-message-bytes-max", "1048576", "--limits-outbox-bytes-max", "2097152"];
    loaded(&large, &[]);
    let text = error(&large, &[("REDIS_URL", "redis://h"), ("FANFARE_REDIS_BACKOFF_MS_MIN", "6000")]);
    assert_says(
        &text,
        &["redis.message_bytes_max\n", "at least 1052672", "5000 is too small beside redis.backoff_ms_min"],
    );
}

#[test]
fn lists_stand_in_one_text_or_in_an_array() {
    let array = TomlFile::new("origins = ['https://a.example', 'http://b.example:81']\n[proxy]\ntrusted = []\n");
    let text = TomlFile::new("origins = 'https://a.example, http://b.example:81'\n[proxy]\ntrusted = ''\n");
    let flag = loaded(&["--origins", "https://a.example,http://b.example:81"], &[]);
    assert!(matches!(&flag.core.admission.origins, Origins::List(list) if list.len() == 2));
    for file in [array, text] {
        assert_eq!(loaded(&["--config", file.path()], &[]), flag);
    }
    for (wrong, why) in [
        ("origins = 'https://a.example,'", "\"\": an origin begins with its scheme"),
        ("origins = ['https://a.example', 1]", "it is an array of other things than texts"),
        ("origins = ['*', 'https://a.example']", "* is every page, and stands alone"),
        ("origins = 'null'", "\"null\": no list can have it"),
        ("ops_hosts = 'a.example:9090'", "\"a.example:9090\": a host's name has letters"),
        ("origins = 1", "it is a number; a text stands in quotes"),
        ("listen = ['a']", "it is an array"),
        ("limits.errors_max = ['a']", "it is an array"),
    ] {
        assert_says(&error(&["--config", TomlFile::new(wrong).path()], &[]), &[why, "right: "]);
    }
}

#[test]
fn who_may_connect_is_the_same_host_a_list_or_everybody() {
    assert_eq!(loaded(&[], &[]).core.admission.origins, Origins::SameHost);
    assert_eq!(loaded(&["--origins", ""], &[("FANFARE_ORIGINS", "*")]).core.admission.origins, Origins::SameHost);
    for any in [loaded(&["--origins", "*"], &[]), loaded(&[], &[("FANFARE_ORIGINS", " * ")])] {
        assert_eq!(any.core.admission.origins, Origins::Any);
    }
    let shown = try_load(&["--origins", "*", "--ops-hosts", "Fanfare.internal,b"], &[]).unwrap().to_toml();
    assert!(
        shown.contains("origins = [\"*\"]") && shown.contains("ops_hosts = [\"fanfare.internal\", \"b\"]"),
        "{shown}"
    );
}

#[test]
fn the_burst_of_bytes_holds_a_message_unless_there_is_no_limit() {
    let burst = ["--limits-message-bytes-max", "65536", "--limits-bytes-burst", "65536"];
    assert_says(&error(&burst, &[]), &["65536 is too small beside limits.message_bytes_max", "at least 69632"]);
    loaded(&burst, &[("FANFARE_LIMITS_BYTES_PER_SECOND", "0")]);
}

#[test]
fn no_message_and_no_output_shows_a_password() {
    let broken_line = TomlFile::new("[redis]\nurl = \"redis://:hunter2@h\nprefix = 1");
    let wrong_kind = TomlFile::new("listen = 'redis://:hunter2@h'\n");
    for text in [
        error(&["--redis-url", "redis://hunter2@h"], &[]),
        error(&["--redis-url", "redis-cluster://:hunter2@h/1"], &[]),
        error(&["--redis-url", "redis://me:a/hunter2@h"], &[]),
        error(&["--config", broken_line.path()], &[]),
        error(&["--config", wrong_kind.path()], &[]),
        error(&["redis://:hunter2@h"], &[]),
        error(&["--listen", "redis://:hunter2@h:1"], &[]),
        error(&["--limits-errors-max", "redis://:hunter2@h"], &[]),
        error(&["--origins", "https://:hunter2@h"], &[]),
        error(&[], &[("PORT", "redis://:hunter2@h")]),
    ] {
        assert!(!text.contains("hunter2"), "{text}");
    }
    let loaded = try_load(&["--redis-url", "redis://me:hunter2@h"], &[]).unwrap();
    assert_eq!(loaded.config.redis.target.as_ref().unwrap().password.as_ref().unwrap().expose(), "hunter2");
    assert!(!format!("{loaded:?}{}", loaded.to_toml()).contains("hunter2"));
    assert_says(&loaded.to_toml(), &["url = \"redis://me:***@h:6379/0\" # flag --redis-url\n"]);
}

#[test]
fn what_check_config_prints_reads_back_as_the_same() {
    let given = [
        ("FANFARE_REDIS_URL", "unix:/run/redis.sock?db=3"),
        ("FANFARE_REDIS_PREFIX", "odd \"prefix\" # \\ \n é"),
        ("FANFARE_OPS_LISTEN", "[::1]:9090"),
        ("FANFARE_LOG_FORMAT", "json"),
        ("FANFARE_REDIS_FORMAT", "classic"),
        ("FANFARE_ORIGINS", "https://a.example,https://*.b.example:8443"),
        ("FANFARE_PROXY_TRUSTED", "10.0.0.0/8, ::1"),
        ("FANFARE_TIMEOUTS_ROOM_LINGER_MS", "0"),
    ];
    for environment in [&given[..], &[]] {
        let before = try_load(&[], environment).unwrap();
        let file = TomlFile::new(&before.to_toml());
        assert_eq!(loaded(&["--config", file.path()], &[]), before.config, "{}", before.to_toml());
    }
}

#[test]
fn near_misses_among_variables_are_warned_of_and_others_left_alone() {
    let environment = [
        ("FANFARE_LISTN", "x"),
        ("FANFARE_LIMITS_ERROR_MAX", "x"),
        ("FANFARE_SERVICE_HOST", "10.0.0.1"),
        ("FANFARE_SERVICE_PORT", "8080"),
        ("FANFARE_PORT", "tcp://10.0.0.1:8080"),
        ("FANFARE_PORT_8080_TCP_ADDR", "10.0.0.1"),
        ("FANFARE_LOG_LEVEL", "warn"),
    ];
    let warnings = try_load(&[], &environment).unwrap().warnings;
    assert_eq!(
        warnings,
        [
            "the environment variable FANFARE_LIMITS_ERROR_MAX means nothing; did you mean FANFARE_LIMITS_ERRORS_MAX?",
            "the environment variable FANFARE_LISTN means nothing; did you mean FANFARE_LISTEN?",
        ]
    );
}

#[test]
fn the_help_text_teaches() {
    let (help, short) = (error(&["--help"], &[]), error(&["-h"], &[]));
    assert_says(&short, &["--listen <IP:PORT>", "--redis-url <URL>", "`fanfare --help` explains all"]);
    assert!(short.lines().count() < 56 && short.len() < help.len() / 4, "{short}");
    for key in SCHEMA.keys() {
        assert_says(&help, &[&format!("--{} <{}>", key.flag(), key.kind.value_name())]);
    }
    assert_says(&help, &["FANFARE_REDIS_URL", "PORT=8081 REDIS_URL=", "--listen 0.0.0.0:8080", "check-config"]);
}

#[test]
fn the_manual_tells_every_key_as_it_is() {
    let manual = include_str!("../../../../../docs/configuration.md");
    let row = |name: &str, default: &str, value_name: String| {
        let default = if default.is_empty() { "none".to_owned() } else { format!("`{default}`") };
        format!("| `{name}` | {default} | {} | ", value_name.replace('|', ", "))
    };
    let keys = SCHEMA.keys().map(|key| row(key.name, key.default, key.kind.value_name()));
    let of_rules = ROOM_KEYS.iter().map(|key| row(key.name, key.default, key.kind.value_name()));
    let of_issuers = ISSUERS.keys.iter().map(|key| row(key.name, key.default, key.kind.value_name()));
    let of_certificates = CERTIFICATES.keys.iter().map(|key| row(key.name, key.default, key.kind.value_name()));
    let of_hooks = HOOKS.keys.iter().map(|key| row(key.name, key.default, key.kind.value_name()));
    for row in keys.chain(of_rules).chain(of_issuers).chain(of_certificates).chain(of_hooks) {
        let line = manual.lines().find(|line| line.starts_with(&row));
        assert!(line.is_some_and(|line| line.len() > row.len() + 10), "docs/configuration.md lacks: {row}");
    }
    let rows = manual.lines().filter(|line| line.starts_with("| `") && line.contains(" | ")).count();
    assert_eq!(
        rows,
        SCHEMA.keys().count()
            + ROOM_KEYS.len()
            + ISSUERS.keys.len()
            + CERTIFICATES.keys.len()
            + HOOKS.keys.len()
            + 1
            + 5,
        "a row per key, one for `config`, and one for each word of a right"
    );
}

#[test]
fn the_sample_file_of_the_manual_is_valid() {
    let manual = include_str!("../../../../../docs/configuration.md");
    let sample = manual.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a sample");
    let file = TomlFile::new(sample);
    let config = loaded(&["--config", file.path()], &[]);
    assert_eq!(config.listen.to_string(), "0.0.0.0:8080");
}
