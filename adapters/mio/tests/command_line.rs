//! The binary as a person or a script meets it: exit codes, which stream gets what, the first log lines.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Output, Stdio};

/// The binary, with nothing of this process' environment that could configure it.
fn fanfare(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
    command.args(arguments).env_clear();
    command
}

fn texts(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("output is UTF-8");
    (output.status.code().expect("it exits by itself"), text(&output.stdout), text(&output.stderr))
}

/// Ends the process with the test, however that ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn check_config_prints_toml_to_stdout_and_exits_0() {
    let output = fanfare(&["check-config"]).env("REDIS_URL", "redis://:hunter2@h").output().unwrap();
    let (code, stdout, stderr) = texts(&output);
    assert_eq!((code, stderr.as_str()), (0, ""));
    let table: toml::Table = stdout.parse().expect("valid TOML");
    assert_eq!(table["redis"]["url"].as_str(), Some("redis://:***@h:6379/0"));
    assert_eq!(table["limits"]["message_bytes_max"].as_integer(), Some(65536));
}

#[test]
fn a_wrong_value_exits_2_and_is_told_on_stderr() {
    for arguments in [&["check-config"][..], &[]] {
        let output = fanfare(arguments).env("FANFARE_LIMITS_ERRORS_MAX", "many").output().unwrap();
        let (code, stdout, stderr) = texts(&output);
        assert_eq!((code, stdout.as_str()), (2, ""));
        assert!(stderr.contains("limits.errors_max") && stderr.contains("FANFARE_LIMITS_ERRORS_MAX"), "{stderr}");
    }
    let (code, _, stderr) = texts(&fanfare(&["--no-such-flag"]).output().unwrap());
    assert_eq!(code, 2, "{stderr}");
}

#[test]
fn help_and_version_exit_0_on_stdout() {
    let (code, stdout, stderr) = texts(&fanfare(&["--version"]).output().unwrap());
    assert_eq!((code, stdout, stderr), (0, format!("fanfare {}\n", env!("CARGO_PKG_VERSION")), String::new()));
    let (code, stdout, _) = texts(&fanfare(&["--help"]).output().unwrap());
    assert!(code == 0 && stdout.contains("check-config"));
}

#[test]
fn json_logs_are_flat_and_tell_the_address_of_the_operations_port() {
    let arguments = ["--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0", "--log-format", "json"];
    let mut running = Running(fanfare(&arguments).stderr(Stdio::piped()).spawn().unwrap());
    let lines = BufReader::new(running.0.stderr.take().unwrap()).lines();
    let entries = lines.map(|line| serde_json::from_str::<serde_json::Value>(&line.unwrap()).expect("a JSON object"));
    let mut entries = entries.inspect(|entry| assert!(entry["timestamp"].is_string() && entry["level"].is_string()));
    let entry = entries.find(|entry| entry["message"] == "operations port listening").expect("the line appears");
    let address = entry["address"].as_str().expect("a field of its own");
    assert!(address.starts_with("127.0.0.1:") && !address.ends_with(":0"), "{address}");
}
