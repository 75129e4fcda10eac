//! The real `fanfare`: built where none is given, started on a free port with its defaults.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::child::Child;
use crate::{Context, Error, Result};

/// Much longer than a start takes; it only ends a wait for a server that hangs.
const START_WITHIN: Duration = Duration::from_secs(10);

/// A running server. Dropping it ends it.
#[derive(Debug)]
pub struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    /// Starts `binary` with the embedded broker or the Redis at `redis_url`, on processor `cpu` if one is given, and
    /// waits until it takes connections, and until it has reached its Redis. One sender may make as many deliveries as it
    /// likes: what is measured is how fast the server is, and not its limit.
    pub fn start(
        binary: &Path,
        redis_url: Option<&str>,
        cpu: Option<usize>,
        more_arguments: &[String],
    ) -> Result<Server> {
        let mut command = unconfigured(binary);
        // By the environment, since versions that have no such limit take no such flag.
        command.env("FANFARE_LIMITS_DELIVERIES_PER_SECOND", "0");
        Server::spawn(command, redis_url, cpu, more_arguments)
    }

    /// The same with all its limits.
    pub fn start_limited(
        binary: &Path,
        redis_url: Option<&str>,
        cpu: Option<usize>,
        more_arguments: &[String],
    ) -> Result<Server> {
        Server::spawn(unconfigured(binary), redis_url, cpu, more_arguments)
    }

    fn spawn(
        mut command: Command,
        redis_url: Option<&str>,
        cpu: Option<usize>,
        more_arguments: &[String],
    ) -> Result<Server> {
        command.args(["--listen", "127.0.0.1:0", "--log-format", "json", "--log-level", "info"]);
        if let Some(url) = redis_url {
            command.args(["--redis-url", url]);
        }
        command.args(more_arguments);

        let child = Child::start("fanfare", &command, cpu)?;
        // One pass over the lines, for the two facts come in either order.
        let (mut address, mut connected) = (None, redis_url.is_none());
        while address.is_none() || !connected {
            match child.wait_for("listening, and Redis if any", START_WITHIN, fact)? {
                Fact::Listening(at) => address = Some(at),
                Fact::RedisConnected => connected = true,
            }
        }
        let address = address.ok_or_else(|| Error::new("fanfare listens nowhere"))?;
        Ok(Server { child, address })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The process.
    pub fn child(&self) -> &Child {
        &self.child
    }
}

/// `binary`, into which nothing leaks of what the caller's own servers are configured with.
fn unconfigured(binary: &Path) -> Command {
    let mut command = Command::new(binary);
    for (key, _) in std::env::vars_os() {
        if key == "PORT" || key == "REDIS_URL" || key.to_string_lossy().starts_with("FANFARE_") {
            command.env_remove(key);
        }
    }
    command
}

/// How many workers `binary` has with these arguments, as it says itself.
pub fn workers(binary: &Path, arguments: &[String]) -> Result<usize> {
    let mut command = unconfigured(binary);
    let output =
        command.arg("check-config").args(arguments).output().context(format!("cannot run {}", binary.display()))?;
    if !output.status.success() {
        return Err(Error::new(format!("fanfare: {}", String::from_utf8_lossy(&output.stderr).trim_end())));
    }
    let configuration = String::from_utf8_lossy(&output.stdout);
    let value = configuration.lines().find_map(|line| line.strip_prefix("workers = ")?.split_whitespace().next());
    // A server that knows no such setting has one.
    value.map_or(Ok(1), |value| value.parse().context("workers"))
}

enum Fact {
    Listening(SocketAddr),
    RedisConnected,
}

fn fact(line: &str) -> Option<Fact> {
    let record: Value = serde_json::from_str(line).ok()?;
    match record["message"].as_str()? {
        "listening" => Some(Fact::Listening(record["address"].as_str()?.parse().ok()?)),
        "redis connected" => Some(Fact::RedisConnected),
        _ => None,
    }
}

/// The root of the workspace.
pub fn workspace() -> PathBuf {
    let package = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let root = Path::new(&package).ancestors().find(|folder| folder.join("Cargo.lock").is_file());
    root.map_or_else(PathBuf::new, Path::to_owned)
}

/// The server to measure: the one `FANFARE_BIN` names, or the workspace's own, built in release mode.
pub fn binary() -> Result<PathBuf> {
    if let Some(given) = std::env::var_os("FANFARE_BIN") {
        // Cargo runs this in the package's folder; a relative path is more likely meant from the workspace's root.
        let given = PathBuf::from(given);
        return [workspace().join(&given).canonicalize(), given.canonicalize()]
            .into_iter()
            .flatten()
            .find(|path| path.is_file())
            .ok_or_else(|| Error::new(format!("FANFARE_BIN: there is no file {}", given.display())));
    }
    build()
}

fn build() -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .current_dir(workspace())
        .args(["build", "--release", "-p", "fanfare", "--bin", "fanfare"])
        .args(["--message-format", "json-render-diagnostics"])
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run cargo")?;
    if !output.status.success() {
        return Err(Error::new("cargo could not build fanfare; its reasons are above"));
    }
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["target"]["name"] == "fanfare")
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .ok_or_else(|| Error::new("cargo built no fanfare binary"))
}
