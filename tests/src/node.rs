//! Programs in JavaScript, run by `node`.

use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::binary::workspace_root;
use crate::process::{Process, wait_or_kill};

/// A browser takes its time to start on a busy machine.
pub(crate) const NODE_DEADLINE: Duration = Duration::from_secs(300);

/// Runs `node` with a script, named from the root of the workspace, whose `node_modules` lie beside it, and gives what
/// it printed.
///
/// # Panics
///
/// If the script fails, with all it printed; if its packages are not installed; if it does not end.
pub fn run_node(script: &str, args: &[&str], env: &[(&str, &Path)]) -> String {
    let mut command = command_of(script);
    command.args(args).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.envs(env.iter().map(|(name, value)| (name, value.as_os_str())));
    let mut child = command.spawn().expect("setpriv is there: apt-get install util-linux");
    // Read on threads of their own, so that a full pipe never stops the script.
    let stdout = read_all(child.stdout.take().expect("standard output is piped"));
    let stderr = read_all(child.stderr.take().expect("standard error is piped"));
    let ended = wait_or_kill(&mut child, NODE_DEADLINE);
    let status = child.wait().expect("a child can be waited for");
    let stdout = stdout.join().expect("a reader does not panic");
    let stderr = stderr.join().expect("a reader does not panic");
    let why = if ended { status.to_string() } else { format!("killed after {NODE_DEADLINE:?}") };
    assert!(status.success() && ended, "node {script}: {why}\n{stdout}\n{stderr}");
    stdout
}

/// A command that runs `node` with a script, named from the root of the workspace, in the script's folder.
///
/// # Panics
///
/// If there is no such script, or the packages beside it are not installed.
pub(crate) fn command_of(script: &str) -> Command {
    let script = workspace_root().join(script);
    let folder = script.parent().expect("a script lies in a folder");
    assert!(script.is_file(), "no such script: {}", script.display());
    assert!(
        folder.join("node_modules").is_dir(),
        "{} has no node_modules: run ./tests/run, which installs them",
        folder.display()
    );
    let mut command = Process::command("node", None);
    command.arg(&script).current_dir(folder);
    command
}

fn read_all(mut source: impl std::io::Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = source.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}
