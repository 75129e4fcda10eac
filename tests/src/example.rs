//! One running example of `examples/`: where its binary comes from, how it is started, where it listens.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::mpsc::channel;
use std::thread::{self, JoinHandle};
use std::time::SystemTime;

use crate::DEADLINE;
use crate::binary::{build, target_folder};
use crate::process::Process;

/// A server that is an example, on a port of its own; killed on drop. What it wrote to stderr is printed if the test panics.
pub struct Example {
    process: Process,
    address: SocketAddr,
    said: Option<JoinHandle<String>>,
}

impl Example {
    /// Starts the example of this name, with these arguments behind its address, and waits until it listens.
    ///
    /// # Panics
    ///
    /// If it does not come up.
    pub fn start(name: &str, args: &[impl AsRef<OsStr>]) -> Example {
        Example::try_start(name, "127.0.0.1:0", args)
            .unwrap_or_else(|(status, said)| panic!("{name} ended with {status}: {said}"))
    }

    /// Starts it at this address.
    ///
    /// # Errors
    ///
    /// How it ended, and what it said, if it ends instead of listening.
    ///
    /// # Panics
    ///
    /// If it neither listens nor ends.
    pub fn try_start(name: &str, address: &str, args: &[impl AsRef<OsStr>]) -> Result<Example, (ExitStatus, String)> {
        let mut process = Process::spawn(
            Process::command(example_binary(name), None)
                .arg(address)
                .args(args)
                .stdout(Stdio::piped())
                .stderr(Stdio::piped()),
        );
        let (stdout, mut stderr) = (process.take_stdout(), process.take_stderr());
        let (sender, lines) = channel();
        // Read to their ends on threads of their own, so that a full pipe never stops the example.
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                // Only the first is waited for.
                let _ = sender.send(line);
            }
        });
        let said = thread::spawn(move || {
            let mut said = String::new();
            let _ = stderr.read_to_string(&mut said);
            said
        });
        match lines.recv_timeout(DEADLINE) {
            Ok(line) => {
                let address = line.strip_prefix("listening on ").and_then(|address| address.parse().ok());
                let address = address.unwrap_or_else(|| panic!("{name} said: {line}"));
                Ok(Example { process, address, said: Some(said) })
            }
            Err(_) => {
                let status = process.wait(&format!("{name} listens, or ends"));
                Err((status, said.join().expect("a reader does not panic")))
            }
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many files and sockets it has open.
    ///
    /// # Panics
    ///
    /// If it has ended.
    pub fn open_files(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.process.id())).expect("it is running").count()
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        self.process.kill();
        if thread::panicking()
            && let Some(Ok(said)) = self.said.take().map(JoinHandle::join)
        {
            eprintln!("the example said: {said}");
        }
    }
}

/// The example's binary: the one that `cargo test` built, if it is newer than all that it was made of, or else it is built now.
fn example_binary(name: &str) -> PathBuf {
    let path = target_folder().join("examples").join(name);
    if !is_fresh(&path) {
        build(&["--package", "fanfare-examples", "--example", name]);
    }
    path
}

/// Whether no source is newer than the file, by the list that cargo writes beside it.
fn is_fresh(path: &Path) -> bool {
    let (Ok(list), Ok(built)) = (fs::read_to_string(path.with_extension("d")), modified(path)) else { return false };
    // `binary: source source`, with spaces in names escaped.
    let sources = list.lines().next().and_then(|line| line.split_once(": ")).map_or("", |(_, sources)| sources);
    let sources = sources.replace("\\ ", "\0");
    sources
        .split(' ')
        .all(|source| modified(Path::new(&source.replace('\0', " "))).is_ok_and(|changed| changed <= built))
}

fn modified(path: &Path) -> io::Result<SystemTime> {
    fs::metadata(path)?.modified()
}
