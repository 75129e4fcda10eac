//! Senders and members in JavaScript, each a process of its own that writes a log.

use std::fs;
use std::io::Write;
use std::process::{ChildStdin, Stdio};

use serde_json::Value;

use crate::Log;
use crate::node::{NODE_DEADLINE, command_of};
use crate::process::{Folder, Process};

/// `tests/node/history_sender.mjs` or `history_members.mjs`, running; killed on drop.
pub struct Script {
    process: Process,
    folder: Folder,
    progress: Log,
    stdin: ChildStdin,
}

impl Script {
    /// A sender with these settings: see the script.
    ///
    /// # Panics
    ///
    /// If node does not start.
    pub fn sender(settings: &Value) -> Script {
        Script::start("tests/node/history_sender.mjs", settings)
    }

    /// Members with these settings: see the script.
    ///
    /// # Panics
    ///
    /// If node does not start.
    pub fn members(settings: &Value) -> Script {
        Script::start("tests/node/history_members.mjs", settings)
    }

    fn start(script: &str, settings: &Value) -> Script {
        let folder = Folder::new("history");
        let mut command = command_of(script);
        command.arg(folder.path().join("log")).arg(settings.to_string());
        let mut process = Process::spawn(command.stdin(Stdio::piped()).stdout(Stdio::piped()));
        let (progress, stdin) = (Log::read(process.take_stdout()), process.take_stdin());
        Script { process, folder, progress, stdin }
    }

    /// Waits until it says how far it is.
    ///
    /// # Panics
    ///
    /// If it does not.
    pub fn wait_for(&self, progress: &str) {
        self.progress.wait_for(progress, 1);
    }

    /// Waits until so many messages are acknowledged, a multiple of 25.
    ///
    /// # Panics
    ///
    /// If no progress is made for a while.
    pub fn wait_for_acknowledged(&self, messages: u64) {
        (1..=messages / 25).for_each(|part| self.wait_for(&format!("{} acknowledged", part * 25)));
    }

    /// Waits until so many `SUBSCRIBE`s are answered, a multiple of 100 or of the members.
    ///
    /// # Panics
    ///
    /// If no progress is made for a while.
    pub fn wait_for_subscribed(&self, subscribed: u64) {
        (1..=subscribed / 100).for_each(|part| self.wait_for(&format!("{} subscribed", part * 100)));
        self.wait_for(&format!("{subscribed} subscribed"));
    }

    /// How many messages are acknowledged, rounded down to a multiple of 25.
    pub fn acknowledged(&self) -> u64 {
        let said = self.progress.text();
        25 * said.lines().filter(|line| line.contains(" acknowledged")).count() as u64
    }

    /// Whether it has said this.
    pub fn has_said(&self, progress: &str) -> bool {
        self.progress.count(progress) > 0
    }

    /// Gives it a word.
    ///
    /// # Panics
    ///
    /// If it has ended.
    pub fn tell(&mut self, word: &str) {
        writeln!(self.stdin, "{word}").expect("the script reads");
    }

    /// Stops the process, as `SIGSTOP` does, until it is to go on.
    pub fn pause(&self) {
        self.process.pause();
    }

    /// Lets the process go on.
    pub fn resume(&self) {
        self.process.signal(rustix::process::Signal::CONT);
    }

    /// Waits until it has ended, and gives its log.
    ///
    /// # Panics
    ///
    /// If it fails or does not end.
    pub fn log(mut self) -> Vec<Value> {
        let status = self.process.wait_within(NODE_DEADLINE).expect("the script ends");
        assert!(status.success(), "{status}");
        let log = fs::read_to_string(self.folder.path().join("log")).expect("the script has written a log");
        log.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
    }
}
