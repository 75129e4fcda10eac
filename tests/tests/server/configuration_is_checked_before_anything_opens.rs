//! Flags, environment and file: the same keys, a fixed precedence, and wrong values that say what would be right.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use fanfare_tests::{Client, Launch, Redis, Server, free_port};

/// A file in a folder that goes with it.
struct File {
    path: PathBuf,
}

impl File {
    fn new(name: &str, content: &str) -> File {
        let path = std::env::temp_dir().join(format!("fanfare-config-{}-{name}.toml", std::process::id()));
        fs::write(&path, content).expect("the temporary folder takes files");
        File { path }
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

fn with_file(file: &File) -> Launch {
    Server::launch().args([Path::new("--config"), file.path()])
}

/// What `check-config` prints, taken apart.
#[track_caller]
fn checked(launch: Launch) -> toml::Table {
    let output = launch.args(["check-config"]).run();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("TOML is UTF-8");
    text.parse().unwrap_or_else(|error| panic!("not TOML ({error}):\n{text}"))
}

#[track_caller]
fn expect_refused(output: &Output, key: &str) {
    assert_eq!(output.status.code(), Some(2), "{key}: {output:?}");
    let message = String::from_utf8_lossy(&output.stderr);
    // The key in whichever of its three spellings.
    let flag = format!("--{}", key.replace(['.', '_'], "-"));
    let variable = format!("FANFARE_{}", key.replace('.', "_").to_uppercase());
    assert!([key, &flag, &variable].iter().any(|name| message.contains(*name)), "{key} is not named: {message}");
    assert!(!message.contains("INFO"), "it began to run: {message}");
}

#[test]
fn the_defaults_are_those_documented() {
    let config = checked(Server::launch());
    let value = |section: &str, key: &str| config[section][key].clone();
    assert_eq!(config["listen"].as_str(), Some("127.0.0.1:8080"));
    assert_eq!(value("log", "format").as_str(), Some("text"));
    assert_eq!(value("log", "level").as_str(), Some("info"));
    assert_eq!(value("redis", "prefix").as_str(), Some("fanfare:"));
    assert_eq!(value("redis", "format").as_str(), Some("fanfare"));
    assert_eq!(config["origins"].as_array().map(Vec::len), Some(0));
    assert_eq!(value("proxy", "trusted").as_array().map(Vec::len), Some(0));
    assert_eq!(value("proxy", "protocol").as_str(), Some("off"));
    assert_eq!(value("proxy", "forwarded_for").as_str(), Some("on"));
    for (section, key, default) in [
        ("redis", "publishes_in_flight_max", 16_384),
        ("redis", "buffer_bytes_max", 16_777_216),
        ("redis", "message_bytes_max", 1_048_576),
        ("redis", "connect_timeout_ms", 5_000),
        ("redis", "probe_interval_ms", 5_000),
        ("redis", "probe_timeout_ms", 5_000),
        ("redis", "backoff_ms_min", 50),
        ("redis", "backoff_ms_max", 5_000),
        ("limits", "connections_max", 0),
        ("limits", "descriptors_reserve", 64),
        ("limits", "message_bytes_max", 65_536),
        ("limits", "rooms_per_connection_max", 128),
        ("limits", "rooms_per_user_max", 0),
        ("limits", "room_name_bytes_max", 128),
        ("limits", "request_head_bytes_max", 8_192),
        ("limits", "outbox_bytes_max", 1_048_576),
        ("limits", "outbox_total_bytes_max", 268_435_456),
        ("limits", "errors_max", 100),
        ("limits", "errors_per_minute", 60),
        ("limits", "messages_per_second", 1_000),
        ("limits", "messages_burst", 2_000),
        ("limits", "messages_per_second_per_user", 0),
        ("limits", "messages_burst_per_user", 2_000),
        ("limits", "bytes_per_second", 1_048_576),
        ("limits", "bytes_burst", 2_097_152),
        ("limits", "pings_per_second", 10),
        ("limits", "pings_burst", 100),
        ("limits", "deliveries_per_second", 50_000),
        ("limits", "deliveries_burst", 100_000),
        ("limits", "unfinished_total_bytes_max", 67_108_864),
        ("limits", "pending_upgrades_max", 16_384),
        ("limits", "connections_per_address_max", 0),
        ("limits", "connections_per_user_max", 0),
        ("limits", "connects_per_address_per_second", 0),
        ("limits", "connects_per_address_burst", 100),
        ("timeouts", "handshake_ms", 10_000),
        ("timeouts", "ping_interval_ms", 25_000),
        ("timeouts", "pong_timeout_ms", 10_000),
        ("timeouts", "close_ms", 5_000),
        ("timeouts", "message_ms", 30_000),
        ("timeouts", "room_linger_ms", 2_000),
        ("timeouts", "shutdown_ms", 5_000),
        ("history", "memory_bytes_max", 67_108_864),
        ("history", "reads_in_flight_max", 64),
        ("history", "key_ttl_ms", 600_000),
    ] {
        assert_eq!(value(section, key).as_integer(), Some(default), "{section}.{key}");
    }
}

#[test]
fn flag_beats_environment_beats_file_beats_default() {
    let file =
        File::new("precedence", "[limits]\nerrors_max = 11\nrooms_per_connection_max = 12\nroom_name_bytes_max = 13\n");
    let config = checked(
        with_file(&file)
            .env("FANFARE_LIMITS_ERRORS_MAX", "21")
            .env("FANFARE_LIMITS_ROOMS_PER_CONNECTION_MAX", "22")
            .flag("--limits-errors-max", 31),
    );
    let limits = config["limits"].as_table().expect("a section");
    assert_eq!(limits["errors_max"].as_integer(), Some(31));
    assert_eq!(limits["rooms_per_connection_max"].as_integer(), Some(22));
    assert_eq!(limits["room_name_bytes_max"].as_integer(), Some(13));
    assert_eq!(limits["message_bytes_max"].as_integer(), Some(65_536));
}

#[test]
fn the_file_can_be_named_by_the_environment() {
    let file = File::new("by-environment", "listen = \"127.0.0.1:1234\"\n");
    let config = checked(Server::launch().env("FANFARE_CONFIG", file.path()));
    assert_eq!(config["listen"].as_str(), Some("127.0.0.1:1234"));
}

#[test]
fn what_check_config_prints_is_a_configuration() {
    let first = Server::launch().flag("--limits-errors-max", 7).args(["check-config"]).run();
    let file = File::new("round-trip", &String::from_utf8(first.stdout.clone()).expect("UTF-8"));
    let second = with_file(&file).args(["check-config"]).run();
    assert_eq!(second.status.code(), Some(0), "{second:?}");
    // The comments differ: they say where each value is from.
    let values =
        |output: &[u8]| toml::from_str::<toml::Table>(std::str::from_utf8(output).expect("UTF-8")).expect("TOML");
    assert_eq!(values(&first.stdout), values(&second.stdout));
}

#[test]
fn check_config_hides_the_password() {
    let output =
        Server::launch().flag("--redis-url", "redis://user:s3cr3t-w0rd@127.0.0.1:6379/2").args(["check-config"]).run();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("***") && text.contains("user") && !text.contains("s3cr3t-w0rd"), "{text}");
}

#[test]
fn port_replaces_the_port_alone_and_is_weaker_than_fanfare_listen() {
    let listen = |launch: Launch| checked(launch)["listen"].as_str().expect("an address").to_owned();
    assert_eq!(listen(Server::launch().env("PORT", "8081")), "127.0.0.1:8081");
    let file = File::new("port", "listen = \"0.0.0.0:7000\"\n");
    assert_eq!(listen(with_file(&file).env("PORT", "8081")), "0.0.0.0:8081");
    assert_eq!(listen(Server::launch().env("PORT", "8081").env("FANFARE_LISTEN", "127.0.0.1:9001")), "127.0.0.1:9001");
    assert_eq!(listen(Server::launch().env("PORT", "8081").flag("--listen", "127.0.0.1:9002")), "127.0.0.1:9002");
}

#[test]
fn redis_url_is_weaker_than_fanfare_redis_url_and_stronger_than_the_file() {
    let url = |launch: Launch| checked(launch)["redis"]["url"].as_str().expect("a URL").to_owned();
    let file = File::new("redis-url", "[redis]\nurl = \"redis://in-file\"\n");
    assert!(url(with_file(&file)).starts_with("redis://in-file"));
    let both = || with_file(&file).env("REDIS_URL", "redis://classic");
    assert!(url(both()).starts_with("redis://classic"));
    assert!(url(both().env("FANFARE_REDIS_URL", "redis://own")).starts_with("redis://own"));
    assert!(
        url(both().env("FANFARE_REDIS_URL", "redis://own").flag("--redis-url", "redis://flag"))
            .starts_with("redis://flag")
    );
}

#[test]
fn port_and_redis_url_run_a_server() {
    let redis = Redis::start();
    let port = free_port();
    let server =
        Server::launch().listening_as_configured().env("PORT", port.to_string()).env("REDIS_URL", redis.url()).start();
    assert_eq!(server.address().to_string(), format!("127.0.0.1:{port}"));
    let mut client = Client::member(&server, "r");
    redis.publish("fanfare:r", "hello");
    client.expect_message("r", r#""hello""#);
}

#[test]
fn a_file_runs_a_server() {
    let file = File::new(
        "runs",
        "listen = \"127.0.0.1:0\"\n[limits]\nrooms_per_connection_max = 1\n[log]\nformat = \"json\"\n",
    );
    let server = with_file(&file).listening_as_configured().start();
    let mut client = Client::member(&server, "r");
    client.send(r#"{"type":"SUBSCRIBE","room":"second"}"#);
    client.expect_error("too_many_rooms");
}

const RULES: &str = "\
listen = \"127.0.0.1:0\"
[log]
format = \"json\"

[[rooms]]
match = \"chat:*\"
history_messages = 50
slow = \"catch_up\"

[[rooms]]
match = \"cursor:**\"
slow = \"latest\"
";

#[test]
fn rules_for_rooms_are_printed_as_a_file_with_the_same_rules() {
    let file = File::new("rules", RULES);
    let rooms = checked(with_file(&file))["rooms"].as_array().expect("an array").clone();
    assert_eq!((rooms.len(), rooms[0]["match"].as_str()), (2, Some("chat:*")));
    let bounds = ["history_messages", "history_ttl_ms", "history_bytes"].map(|key| rooms[0][key].as_integer());
    assert_eq!(bounds, [Some(50), Some(86_400_000), Some(1_048_576)]);
    assert_eq!((rooms[1].get("history_messages"), rooms[1]["slow"].as_str()), (None, Some("latest")));

    let printed = with_file(&file).args(["check-config"]).run().stdout;
    let again = File::new("rules-again", &String::from_utf8(printed).expect("TOML is UTF-8"));
    assert_eq!(checked(with_file(&again))["rooms"].as_array(), Some(&rooms));

    let server = with_file(&file).listening_as_configured().start();
    Client::member(&server, "cursor:7");
}

#[test]
fn a_room_is_told_its_rule() {
    let file = File::new("room", RULES);
    let output = with_file(&file).args(["check-config", "--room", "chat:42", "--room", "lobby"]).run();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("TOML is UTF-8");
    let table: toml::Table = text.parse().unwrap_or_else(|error| panic!("not TOML ({error}):\n{text}"));
    let [chat, lobby] = table["room"].as_array().expect("an array").as_slice() else { panic!("two rooms: {text}") };
    assert_eq!((chat["name"].as_str(), chat["rule"].as_integer()), (Some("chat:42"), Some(1)));
    assert_eq!((chat["match"].as_str(), chat["history_messages"].as_integer()), (Some("chat:*"), Some(50)));
    assert_eq!(chat["slow"].as_str(), Some("catch_up"));
    assert_eq!((lobby["name"].as_str(), lobby.get("rule")), (Some("lobby"), None));
    assert!(
        text.contains(&format!("file {} line 5", file.path().display())) && text.contains("no rule fits"),
        "{text}"
    );
}

#[test]
fn a_wrong_rule_is_refused_by_its_number_and_match() {
    for (name, rule) in [("slow", "slow = \"catch_up\""), ("history_message", "history_message = 5")] {
        let file = File::new(&format!("wrong-rule-{name}"), &format!("{RULES}\n[[rooms]]\nmatch = \"a:*\"\n{rule}\n"));
        for command in [&["check-config"][..], &[]] {
            let output = with_file(&file).args(command).run();
            expect_refused(&output, name);
            let message = String::from_utf8_lossy(&output.stderr);
            assert!(message.contains("[[rooms]] number 3 (match = \"a:*\")"), "{message}");
            assert!(message.contains("line 16"), "{message}");
        }
    }
}

#[test]
fn wrong_values_name_their_key_wherever_they_come_from() {
    for (key, value) in [
        ("listen", "nowhere"),
        ("listen", "127.0.0.1:99999"),
        ("ops_listen", "x"),
        ("log.format", "xml"),
        ("log.level", "loud"),
        ("redis.url", "http://127.0.0.1"),
        ("redis.url", "redis-cluster://127.0.0.1:6379/1"),
        ("redis.format", "json"),
        ("redis.publishes_in_flight_max", "-1"),
        ("redis.backoff_ms_min", "soon"),
        ("limits.connections_max", "many"),
        ("limits.message_bytes_max", "64KB"),
        ("limits.errors_max", "1.5"),
        // One more than the server can count to; as 0 it would close everyone at their first mistake.
        ("limits.errors_max", "65535"),
        ("timeouts.handshake_ms", "10s"),
        ("timeouts.ping_interval_ms", ""),
    ] {
        let flag = format!("--{}={value}", key.replace(['.', '_'], "-"));
        expect_refused(&Server::launch().args([&flag]).run(), key);
        expect_refused(&Server::launch().args([flag.as_str(), "check-config"]).run(), key);

        let variable = format!("FANFARE_{}", key.replace('.', "_").to_uppercase());
        if !value.is_empty() {
            expect_refused(&Server::launch().env(&variable, value).run(), key);
        }

        let (section, name) = key.split_once('.').unwrap_or(("", key));
        let header = if section.is_empty() { String::new() } else { format!("[{section}]\n") };
        let file = File::new(&format!("wrong-{}", key.replace('.', "-")), &format!("{header}{name} = \"{value}\"\n"));
        expect_refused(&with_file(&file).run(), name);
    }
}

#[test]
fn a_refusal_says_where_the_value_came_from() {
    let output = Server::launch().env("FANFARE_LIMITS_ERRORS_MAX", "many").run();
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(message.contains("FANFARE_LIMITS_ERRORS_MAX") && message.contains("many"), "{message}");

    let file = File::new("where-from", "[limits]\nerrors_max = \"many\"\n");
    let output = with_file(&file).run();
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(message.contains(&file.path().display().to_string()) && message.contains("errors_max"), "{message}");
}

#[test]
fn port_must_be_one() {
    for port in ["99999", "http", "-1"] {
        let output = Server::launch().env("PORT", port).run();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("PORT"), "{output:?}");
    }
}

#[test]
fn unknown_keys_and_flags_are_refused() {
    let file = File::new("unknown", "[limits]\nerors_max = 5\n");
    expect_refused(&with_file(&file).run(), "erors_max");
    let output = Server::launch().args(["--limits-erors-max", "5"]).run();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("--limits-erors-max"), "{output:?}");
}

#[test]
fn a_file_that_is_missing_or_no_toml_is_refused() {
    let output = Server::launch().args(["--config", "/nonexistent/fanfare.toml"]).run();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("/nonexistent/fanfare.toml"), "{output:?}");

    let file = File::new("no-toml", "[limits\n");
    let output = with_file(&file).run();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains(&file.path().display().to_string()), "{output:?}");
}

#[test]
fn an_address_in_use_is_told() {
    let server = Server::start();
    let output = Server::launch().args(["--listen", &server.address().to_string()]).run();
    assert!(output.status.code().is_some_and(|code| code != 0), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains(&server.address().to_string()), "{output:?}");
}

#[test]
fn help_teaches_every_key_and_version_tells_the_version() {
    let output = Server::launch().args(["--help"]).run();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let help = String::from_utf8_lossy(&output.stdout);
    for word in ["check-config", "PORT", "REDIS_URL", "--config", "--listen", "--ops-listen", "--redis-url"] {
        assert!(help.contains(word), "{word} is not taught:\n{help}");
    }
    for (section, table) in checked(Server::launch()).iter().filter_map(|(name, value)| Some((name, value.as_table()?)))
    {
        for key in table.keys() {
            let flag = format!("--{section}-{}", key.replace('_', "-"));
            assert!(help.contains(&flag), "{flag} is not taught:\n{help}");
        }
    }
    let output = Server::launch().args(["--version"]).run();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains(env!("CARGO_PKG_VERSION")), "{output:?}");
}
