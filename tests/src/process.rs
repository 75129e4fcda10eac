//! Child processes that cannot outlive their test, their folders, and ports for them.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::{PROBE_INTERVAL, eventually};

/// A child process that is killed and reaped on drop.
pub(crate) struct Process {
    child: Child,
}

impl Process {
    /// A command that becomes `program` (same process id), killed by the kernel when the thread that spawned it ends,
    /// and limited to `descriptors_max` open files if given.
    pub(crate) fn command(program: impl AsRef<OsStr>, descriptors_max: Option<u32>) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]);
        if let Some(max) = descriptors_max {
            command.args(["prlimit", &format!("--nofile={max}:{max}"), "--"]);
        }
        command.arg(program).stdin(Stdio::null());
        command
    }

    /// Starts `command`, which [`Process::command`] made.
    pub(crate) fn spawn(command: &mut Command) -> Process {
        let child = command.spawn().unwrap_or_else(|error| {
            panic!("setpriv and prlimit are needed to start {command:?}: apt-get install util-linux ({error})")
        });
        Process { child }
    }

    /// The standard error of a child that was spawned with it piped; once.
    pub(crate) fn take_stderr(&mut self) -> std::process::ChildStderr {
        self.child.stderr.take().expect("standard error is piped")
    }

    /// The standard output of a child that was spawned with it piped; once.
    pub(crate) fn take_stdout(&mut self) -> std::process::ChildStdout {
        self.child.stdout.take().expect("standard output is piped")
    }

    /// The standard input of a child that was spawned with it piped; once.
    pub(crate) fn take_stdin(&mut self) -> std::process::ChildStdin {
        self.child.stdin.take().expect("standard input is piped")
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The exit status if the process has ended.
    pub(crate) fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be waited for")
    }

    pub(crate) fn wait(&mut self, what: &str) -> ExitStatus {
        eventually(what, || self.exited())
    }

    /// Its exit status, if it has ended within this time; else it is killed.
    pub(crate) fn wait_within(&mut self, limit: Duration) -> Option<ExitStatus> {
        wait_or_kill(&mut self.child, limit).then(|| self.child.wait().expect("a child can be waited for"))
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("a running child can be signalled");
    }

    /// Stops it until it gets `SIGCONT`.
    pub(crate) fn pause(&self) {
        self.signal(Signal::STOP);
        // The signal is on its way: stopped is what /proc calls T.
        let stat = format!("/proc/{}/stat", self.id());
        eventually("the process is stopped", || fs::read_to_string(&stat).ok()?.contains(") T ").then_some(()));
    }

    pub(crate) fn kill(&mut self) {
        // Already gone is as good as killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A folder of its own under the system's temporary one, removed on drop.
pub(crate) struct Folder {
    path: PathBuf,
}

impl Folder {
    pub(crate) fn new(kind: &str) -> Folder {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = env::temp_dir().join(format!("fanfare-{kind}-{}-{number}", std::process::id()));
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => panic!("{}: {error}", path.display()),
            _ => {}
        }
        fs::create_dir(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Folder { path }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A leftover folder is no reason to hide why a test failed.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// A TCP port of 127.0.0.1 on which nobody listens.
///
/// It lies below the range that the kernel gives to outgoing connections, so that none of them takes it while its
/// server is down.
///
/// # Panics
///
/// If no port is free.
pub fn free_port() -> u16 {
    const FIRST: u32 = 12_000;
    const COUNT: u32 = 20_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Test processes side by side begin far apart.
    let origin = std::process::id().wrapping_mul(101);
    (0..COUNT)
        .map(|_| FIRST + origin.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT)
        .map(|port| u16::try_from(port).expect("ports from 12,000 to 31,999"))
        .find(|&port| TcpListener::bind(("127.0.0.1", port)).is_ok())
        .expect("a free port")
}

/// Waits until the child has ended; kills it after `limit` and then gives `false`.
pub(crate) fn wait_or_kill(child: &mut Child, limit: Duration) -> bool {
    let deadline = Instant::now() + limit;
    while child.try_wait().expect("a child can be waited for").is_none() {
        if Instant::now() >= deadline {
            let _ = child.kill();
            return false;
        }
        thread::sleep(PROBE_INTERVAL);
    }
    true
}
