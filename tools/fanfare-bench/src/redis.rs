//! A redis-server of the benchmark's own, on a free port, that stores nothing.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::child::Child;
use crate::{Context, Error, Result};

/// Redis starts in some 20 ms; a machine that is busy building something else may take a hundred times that.
const START_WITHIN: Duration = Duration::from_secs(10);

/// Somebody else may take the free port between its discovery and its use; that it happens often means another cause.
const ATTEMPTS: usize = 3;

/// A running redis-server. Dropping it ends it.
#[derive(Debug)]
pub struct Redis {
    url: String,
    _child: Child,
}

impl Redis {
    /// Where redis-server is, if it is in PATH.
    pub fn program() -> Option<PathBuf> {
        std::env::split_paths(&std::env::var_os("PATH")?)
            .map(|directory| directory.join("redis-server"))
            .find(|program| program.is_file())
    }

    /// Starts one and waits until it takes connections.
    pub fn start() -> Result<Redis> {
        let program = Redis::program().ok_or_else(|| Error::new("redis-server is not in PATH; install it first"))?;
        let mut last = Error::new("never tried");
        for _ in 0..ATTEMPTS {
            let port = free_port()?;
            let mut command = Command::new(&program);
            command.args(["--port", &port.to_string(), "--bind", "127.0.0.1"]);
            command.args(["--save", "", "--appendonly", "no", "--dir", "/tmp"]);
            let child = Child::start("redis-server", &command, None)?;
            let ready = child.wait_for("Ready to accept connections", START_WITHIN, |line| {
                line.contains("Ready to accept connections").then_some(())
            });
            match ready {
                Ok(()) => return Ok(Redis { url: format!("redis://127.0.0.1:{port}"), _child: child }),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Its address, as `redis.url` takes it.
    pub fn url(&self) -> &str {
        &self.url
    }
}

fn free_port() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").context("cannot find a free port")?;
    Ok(listener.local_addr().context("cannot find a free port")?.port())
}
