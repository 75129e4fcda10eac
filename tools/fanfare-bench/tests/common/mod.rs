//! How the load generator is run by tests: by its command line, as people and scripts do.

use std::process::{Command, Output, Stdio};

use fanfare_tests::fanfare_binary;
use serde_json::Value;

/// The program with these arguments, apart by spaces, and one JSON object on stdout; not started yet.
pub fn command(arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare-bench"));
    command.args(arguments.split_whitespace()).arg("--json").env("FANFARE_BIN", fanfare_binary());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// What it said.
pub struct Told {
    /// Its exit status was 0.
    pub success: bool,
    /// Its figures.
    pub json: Value,
    /// Its errors.
    pub stderr: String,
}

impl Told {
    /// Reads what it wrote.
    ///
    /// # Panics
    ///
    /// If it printed no JSON.
    pub fn of(output: &Output) -> Told {
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        let json = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error} in {}\n{stderr}", String::from_utf8_lossy(&output.stdout)));
        Told { success: output.status.success(), json, stderr }
    }

    /// Lost, duplicated, out of order of their publisher, and of the room.
    pub fn faults(&self) -> [u64; 4] {
        ["lost", "duplicated", "out_of_order", "against_room_order"].map(|key| self.json[key].as_u64().expect(key))
    }
}

/// Runs it to its end.
pub fn run(arguments: &str) -> Told {
    Told::of(&command(arguments).output().expect("the load generator can be run"))
}
