//! The binary as a person or a script meets it: exit codes, and which stream gets what.

use fanfare_tests::{Adapter, Launch, Server};
use std::net::TcpListener;

fn texts(launch: Launch) -> (i32, String, String) {
    let output = launch.run();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("output is UTF-8");
    (output.status.code().expect("it exits by itself"), text(&output.stdout), text(&output.stderr))
}

#[test]
fn check_config_prints_toml_to_stdout_and_exits_0() {
    let (code, stdout, stderr) = texts(Server::launch().args(["check-config"]).env("REDIS_URL", "redis://:hunter2@h"));
    assert_eq!((code, stderr.as_str()), (0, ""));
    let table: toml::Table = stdout.parse().expect("valid TOML");
    assert_eq!(table["redis"]["url"].as_str(), Some("redis://:***@h:6379/0"));
    assert_eq!(table["limits"]["message_bytes_max"].as_integer(), Some(65536));
}

#[test]
fn a_wrong_value_exits_2_and_is_told_on_stderr() {
    for arguments in [&["check-config"][..], &[]] {
        let (code, stdout, stderr) = texts(Server::launch().args(arguments).env("FANFARE_LIMITS_ERRORS_MAX", "many"));
        assert_eq!((code, stdout.as_str()), (2, ""));
        let name = Adapter::under_test().name();
        let says = ["limits.errors_max", "FANFARE_LIMITS_ERRORS_MAX", &format!("`{name} --help`")];
        assert!(says.iter().all(|part| stderr.contains(part)), "{stderr}");
    }
    let (code, _, stderr) = texts(Server::launch().args(["--no-such-flag"]));
    assert_eq!(code, 2, "{stderr}");
}

#[test]
fn check_config_warns_of_what_the_server_warns_of() {
    let misspelt = |arguments: &[&str]| texts(Server::launch().args(arguments).env("FANFARE_LISTN", "x"));
    let name = Adapter::under_test().name();
    let warning = format!(
        "{name}: warning: the environment variable FANFARE_LISTN means nothing; did you mean FANFARE_LISTEN?\n"
    );
    let (code, stdout, stderr) = misspelt(&["check-config"]);
    assert_eq!((code, &stderr), (0, &warning));
    let strictly = misspelt(&["check-config", "--strict"]);
    assert_eq!(strictly, (2, stdout, warning));
    let (code, _, stderr) = texts(Server::launch().args(["check-config", "--strict"]));
    assert_eq!((code, stderr.as_str()), (0, ""));
}

#[test]
fn a_token_is_printed_alone_and_a_ban_is_kept() {
    let secret = "hunter2-hunter2-hunter2-hunter2!";
    let (code, stdout, stderr) =
        texts(Server::launch().args(["token", "--user", "alice"]).env("FANFARE_AUTH_SECRET", secret));
    let parts: Vec<_> = stdout.trim_end().split('.').collect();
    assert!(code == 0 && parts.len() == 3 && stdout.lines().count() == 1, "{stdout}{stderr}");
    assert!(stderr.contains("for \"alice\"") && !stderr.contains(parts[2]) && !stderr.contains("hunter2"), "{stderr}");
    let (code, stdout, stderr) = texts(Server::launch().embedded().args(["bans"]));
    assert!(code == 1 && stdout.is_empty() && stderr.contains("there is nowhere to keep bans"), "{stderr}");
    for wrong in [["--info", "{"], ["--for", "soon"], ["--publish", "a:**:b"], ["--user", "bob"]] {
        let token = Server::launch().args(["token", "--user", "alice"]).args(wrong);
        let (code, stdout, stderr) = texts(token.env("FANFARE_AUTH_SECRET", secret));
        assert!(code == 2 && stdout.is_empty() && !stderr.is_empty(), "{wrong:?}: {code}, {stderr}");
    }
    let (code, stdout, stderr) = texts(Server::launch().args(["ban", "--user", "eve"]));
    assert!(code == 2 && stdout.is_empty() && stderr.contains("--for <SPAN>"), "{stderr}");

    let file = std::env::temp_dir().join(format!("fanfare-bans-{}", std::process::id()));
    let command = |arguments: &[&str]| {
        let launch = Server::launch().embedded().args(arguments).env("FANFARE_AUTH_SECRET", secret);
        texts(launch.env("FANFARE_AUTH_BANS_FILE", &file))
    };
    let said =
        [&["ban", "--user", "eve", "--for", "1h"][..], &["bans"], &["unban", "--user", "eve"], &["bans"]].map(command);
    for ending in ["", ".lock", ".new"] {
        let _ = std::fs::remove_file(format!("{}{ending}", file.display()));
    }
    assert!(said.iter().all(|(code, ..)| *code == 0), "{said:?}");
    assert!(said[1].1.contains("--user eve") && said[3].1 == "nobody is banned\n", "{said:?}");
}

#[test]
fn a_server_that_is_open_to_other_machines_is_warned_of_once() {
    let warnings = |server: &mut Server| {
        let open = |line: &&str| line.contains("can read and write every room");
        server.log_to_its_end().text().lines().filter(open).count()
    };
    assert_eq!(warnings(&mut Server::start()), 0);
    let open = || Server::launch().listening_as_configured().flag("--listen", "0.0.0.0:0");
    assert_eq!(warnings(&mut open().start()), 1);
    let closed = open().env("FANFARE_AUTH_SECRET", "hunter2-hunter2-hunter2-hunter2!");
    assert_eq!(warnings(&mut closed.start()), 0);
}

#[test]
fn a_port_in_use_is_told_before_anything_is_said_of_the_other() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("an address").to_string();
    for (flag, other) in [("--ops-listen", "--listen"), ("--listen", "--ops-listen")] {
        let (code, _, stderr) = texts(Server::launch().args([flag, &address, other, "127.0.0.1:0"]));
        assert!(code == 1 && stderr.contains(&address) && !stderr.contains("listening"), "{stderr}");
    }
}

#[test]
fn help_and_version_exit_0_on_stdout() {
    let name = Adapter::under_test().name();
    let (code, stdout, stderr) = texts(Server::launch().args(["--version"]));
    assert_eq!((code, stdout, stderr), (0, format!("{name} {}\n", env!("CARGO_PKG_VERSION")), String::new()));
    let (code, stdout, _) = texts(Server::launch().args(["--help"]));
    assert!(code == 0 && stdout.contains("check-config") && stdout.contains(&format!("{name} --listen")), "{stdout}");
}

#[test]
fn more_workers_than_it_can_run_are_refused() {
    let (workers, says) = match Adapter::under_test() {
        Adapter::Mio => ("65", "a whole number from 1 to 64"),
        Adapter::Threaded => ("2", "2 event loops are more than fanfare-threaded can run"),
    };
    let (code, _, stderr) = texts(Server::launch().args(["check-config", "--workers", workers]));
    assert!(code == 2 && stderr.contains(says), "{stderr}");
}
