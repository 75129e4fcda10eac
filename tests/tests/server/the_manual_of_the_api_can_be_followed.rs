//! The examples of docs/api.md, in their order: each command as it stands there, by curl and a shell, and the answer that is shown.

use fanfare_tests::backend::{ALL, with_api};
use fanfare_tests::{RawClient, Redis, Server, eventually, workspace_root};
use serde_json::Value;
use std::collections::HashMap;
use std::fs;
use std::process::Command;

const CONFIG: &str = r#"
[auth]
secret = "a secret of thirty-two bytes or more"

[[rooms]]
match = "chat:*"
history_messages = 100
"#;

/// The address of the manual.
const ADDRESS: &str = "127.0.0.1:8081";

/// Fields whose values are drawn, or are of this time and place. What the manual shows is another spelling of what is there.
const DRAWN: [&str; 3] = ["epoch", "connection", "instance"];
const OF_THIS_TIME: [&str; 5] = ["time", "until_ms", "address", "connections", "version"];

/// A command of the manual, and the answer that it shows.
fn examples(manual: &str) -> Vec<(String, String)> {
    let mut examples: Vec<(String, String)> = Vec::new();
    let mut is_console = false;
    for line in manual.lines() {
        match line {
            "```console" => is_console = true,
            "```" => is_console = false,
            _ if !is_console => {}
            _ => match line.strip_prefix("$ ") {
                Some(command) => examples.push((command.to_owned(), String::new())),
                None => examples.last_mut().expect("a command comes first").1.push_str(line),
            },
        }
    }
    examples
}

/// Panics unless the answers are alike. What is drawn is learned: from what the manual shows to what it is here.
fn compare(field: &str, shown: &Value, answered: &Value, learned: &mut HashMap<String, String>, command: &str) {
    match (shown, answered) {
        (Value::Object(shown), Value::Object(answered)) => {
            assert_eq!(shown.keys().collect::<Vec<_>>(), answered.keys().collect::<Vec<_>>(), "{command}");
            for (field, value) in shown {
                compare(field, value, &answered[field], learned, command);
            }
        }
        (Value::Array(shown), Value::Array(answered)) => {
            assert_eq!(shown.len(), answered.len(), "{command}: {answered:?}");
            shown.iter().zip(answered).for_each(|(shown, answered)| compare(field, shown, answered, learned, command));
        }
        (Value::String(shown), Value::String(answered)) if DRAWN.contains(&field) => {
            let known = learned.entry(shown.clone()).or_insert_with(|| answered.clone());
            assert_eq!(known, answered, "{command}: the same again");
        }
        (shown, answered) if OF_THIS_TIME.contains(&field) => {
            assert_eq!(shown.is_string(), answered.is_string(), "{command}: {field}");
        }
        (shown, answered) => assert_eq!(shown, answered, "{command}: {field}"),
    }
}

#[test]
fn every_example_answers_as_it_shows() {
    let redis = Redis::start();
    let launch = || with_api(Server::launch().file(CONFIG).redis(&redis));
    let mut server = launch().start();
    let token = launch().args(["token", "--user", "bob"]).run();
    let token = String::from_utf8(token.stdout).expect("a token is ASCII");
    let field = format!("Authorization: Bearer {}\r\n", token.trim_end());
    let _bob: RawClient = eventually("bob is let in", || {
        RawClient::upgraded_with(server.address(), "/?room=news", &field).ok().map(|(bob, _)| bob)
    });
    let manual = fs::read_to_string(workspace_root().join("docs/api.md")).expect("the manual");
    let examples = examples(&manual);
    assert!(examples.len() > 12, "they are found");
    let mut learned: HashMap<String, String> = HashMap::new();
    for (command, shown) in examples {
        let here = learned
            .iter()
            .fold(command.replace(ADDRESS, &server.api_address().to_string()), |command, (shown, here)| {
                command.replace(shown, here)
            });
        let run = |here: &str| {
            let here = here.replacen("curl ", "curl --silent --show-error --write-out '\\n%{http_code}' ", 1);
            let output = Command::new("sh").args(["-c", &here]).env("KEY", ALL).output().expect("there is a shell");
            let text = String::from_utf8(output.stdout).expect("answers are UTF-8");
            let (answer, status) = text.rsplit_once('\n').map(|(a, s)| (a.to_owned(), s.to_owned())).expect("a status");
            assert!(output.status.success(), "{here}: {}", String::from_utf8_lossy(&output.stderr));
            (answer, status)
        };
        // An instance hears its own orders a moment after its start.
        let (answer, status) =
            eventually("the API is ready for it", || Some(run(&here)).filter(|(_, status)| status != "503"));
        assert!(status.starts_with('2'), "{command}: {status} {answer}");
        if shown.is_empty() {
            assert_eq!(answer, "", "{command}");
            continue;
        }
        let read =
            |text: &str| -> Value { serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}")) };
        compare("", &read(&shown), &read(&answer), &mut learned, &command);
    }
    // The last of them has it stop.
    assert_eq!(server.wait_for_exit().code(), Some(0));
}
