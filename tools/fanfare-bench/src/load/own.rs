//! Servers of this program's own.

use std::path::PathBuf;

use super::options::Options;
use super::run::{self, Outcome, Settings};
use super::target;
use super::watch::Watch;
use crate::Result;
use crate::comparison::Subject;
use crate::machine::{Machine, Placement};
use crate::redis::Redis;
use crate::server::{self, Server};

/// How servers of this program's own are started.
#[derive(Debug)]
pub struct Own {
    /// Where.
    pub machine: Machine,
    /// On which processor.
    pub placement: Placement,
    /// The program.
    pub binary: PathBuf,
    redis: bool,
    arguments: Vec<String>,
}

impl Own {
    /// As `options` say. From now on this process leaves a processor to the server.
    pub fn new(options: &Options) -> Result<Own> {
        let binary = server::binary()?;
        Ok(Own {
            // Before the placement, after which this process may use fewer processors.
            machine: Machine::look(&server::workspace()),
            placement: Placement::split(options.common.pins(&binary)?)?,
            binary,
            redis: options.redis,
            arguments: options.server_arguments(),
        })
    }

    /// What it is called.
    pub fn subject(&self) -> Subject {
        if self.redis { Subject::Redis } else { Subject::Embedded }
    }

    /// Puts a fresh server under load.
    pub fn measure(&self, settings: &Settings, watch: &mut Watch) -> Result<Outcome> {
        let redis = if self.redis { Some(Redis::start()?) } else { None };
        let url = redis.as_ref().map(Redis::url);
        let server = Server::start(&self.binary, url, self.placement.measured, &self.arguments)?;
        let target = target::resolve(&format!("ws://{}/", server.address()), None)?;
        let mut outcome = run::run(settings, target, Some(server.child().pid()), watch)?;
        outcome.failure = outcome.failure.map(|error| server.child().explain(&error));
        Ok(outcome)
    }
}
