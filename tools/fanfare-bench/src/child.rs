//! A child process whose output is kept for the error message, and that never outlives this process.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{self, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Signal, set_parent_process_death_signal};

use crate::{Context, Error, Result, machine};

/// First argument of the benchmark's own program when it is to become another program: see [`become_program`].
pub const LAUNCH: &str = "launch-child";

/// How many lines of a child's output an error shows: enough for a stack trace, few enough to read.
const LOG_LINES_MAX: usize = 60;

/// A running child. Dropping it kills it and waits for its end.
#[derive(Debug)]
pub struct Child {
    name: &'static str,
    process: process::Child,
    lines: Receiver<String>,
    log: Log,
}

type Log = Arc<Mutex<VecDeque<String>>>;

impl Child {
    /// Starts `command`, which errors call `name`, on processor `cpu` if one is given.
    ///
    /// Must be called from the main thread: the kernel ends the child when the thread that started it ends.
    pub fn start(name: &'static str, command: &Command, cpu: Option<usize>) -> Result<Child> {
        let this_program = std::env::current_exe().context("cannot find the benchmark's own program")?;
        let mut launch = Command::new(this_program);
        launch.arg(LAUNCH).arg(cpu.map_or("any".to_owned(), |cpu| cpu.to_string()));
        launch.arg(command.get_program()).args(command.get_args());
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => launch.env(key, value),
                None => launch.env_remove(key),
            };
        }
        // A Ctrl-C is for this process, which may have more to say before it ends the child.
        launch.process_group(0);
        launch.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = launch.spawn().context(format!("cannot start {name}"))?;

        let log = Log::default();
        let (sender, lines) = mpsc::channel();
        if let Some(stdout) = process.stdout.take() {
            follow(stdout, log.clone(), sender.clone());
        }
        if let Some(stderr) = process.stderr.take() {
            follow(stderr, log.clone(), sender);
        }
        Ok(Child { name, process, lines, log })
    }

    /// The process id, for [`crate::process`].
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Waits for the first line of output that `wanted` makes something of.
    pub fn wait_for<T>(&self, what: &str, within: Duration, wanted: impl Fn(&str) -> Option<T>) -> Result<T> {
        let deadline = Instant::now() + within;
        loop {
            let problem = match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => match wanted(&line) {
                    Some(found) => return Ok(found),
                    None => continue,
                },
                Err(RecvTimeoutError::Timeout) => format!("no sign of '{what}' within {within:?}"),
                Err(RecvTimeoutError::Disconnected) => format!("it ended before '{what}'"),
            };
            return Err(self.explain(&Error::new(problem)));
        }
    }

    /// Writes to the child's standard input.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let name = self.name;
        let stdin = self.process.stdin.as_mut().ok_or_else(|| Error::new("no standard input"))?;
        stdin.write_all(bytes).context(format!("cannot command {name}"))
    }

    /// `error`, with what the child has said.
    pub fn explain(&self, error: &Error) -> Error {
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = format!("{}: {error}", self.name);
        if log.is_empty() {
            text.push_str("\n  (it wrote nothing)");
        } else {
            text.push_str("\n  its last output:");
        }
        for line in log.iter() {
            text.push_str("\n  | ");
            text.push_str(line);
        }
        Error::new(text)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Errors mean that it has ended already, which is what is wanted.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Keeps the last lines of `output`, and passes each on to whoever waits for it. Ends with the output.
fn follow(output: impl Read + Send + 'static, log: Log, lines: Sender<String>) {
    std::thread::spawn(move || {
        for line in BufReader::new(output).split(b'\n') {
            let Ok(line) = line else { return };
            let line = String::from_utf8_lossy(&line).into_owned();
            let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
            if log.len() == LOG_LINES_MAX {
                log.pop_front();
            }
            log.push_back(line.clone());
            drop(log);
            // Nobody listens any more once the child is being dropped.
            let _ = lines.send(line);
        }
    });
}

/// What this program does when started with [`LAUNCH`] and `arguments` (a processor or `any`, a program, its own
/// arguments): it ties its life to its parent's, moves to the processor, and becomes the program under the same
/// process id. Both survive the change of program, so a killed benchmark leaves nothing running, and no thread of the
/// program ever runs elsewhere. Returns only if that failed.
pub fn become_program(arguments: &[impl AsRef<OsStr>]) -> Error {
    let [cpu, program, rest @ ..] = arguments else {
        return Error::new(format!("{LAUNCH} needs a processor and a program"));
    };
    let prepared = set_parent_process_death_signal(Some(Signal::KILL)).context("cannot tie a child to the benchmark");
    let placed = match cpu.as_ref().to_string_lossy().parse() {
        Ok(cpu) => machine::confine_to(cpu),
        Err(_) => Ok(()),
    };
    if let Err(error) = prepared.and(placed) {
        return error;
    }
    let why = Command::new(program).args(rest).exec();
    Error::new(format!("cannot run {}: {why}", program.as_ref().to_string_lossy()))
}
