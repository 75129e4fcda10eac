//! The servers that are attacked: two instances on a Redis of their own, or one with its embedded broker; and what they cost.

use std::net::SocketAddr;

use fanfare_bench::machine::{self, Placement};
use fanfare_bench::process::{CpuTime, resident_bytes};
use fanfare_bench::redis::Redis;
use fanfare_bench::server::Server;
use fanfare_bench::{Context, Result};

use super::Setup;
use super::attack::Attack;

/// Short, so that whoever answers every ping and is closed all the same is closed within a phase, and so that a newcomer whose
/// request is not looked at is refused within one.
const TIMES: [(&str, &str); 3] = [
    ("--timeouts-ping-interval-ms", "1000"),
    ("--timeouts-pong-timeout-ms", "1000"),
    ("--timeouts-handshake-ms", "1000"),
];

/// Servers under attack. Dropping them ends them.
pub struct World {
    /// The attacked one, and where there are two the one that shares its rooms.
    servers: Vec<Server>,
    /// Where they run.
    pub placement: Placement,
    /// After the servers, so that it outlives them.
    _redis: Option<Redis>,
}

impl World {
    /// Starts what `attack` needs.
    pub fn start(setup: &Setup, attack: Attack) -> Result<World> {
        let workers = attack.workers();
        machine::use_processors(&setup.processors)?;
        let placement = Placement::split_for_attack(setup.pins && workers.is_none())?;
        let mut arguments: Vec<String> =
            TIMES.iter().flat_map(|(flag, value)| [flag, value]).map(|&text| text.into()).collect();
        if let Some(workers) = workers {
            arguments.extend(["--workers".to_owned(), workers.to_string()]);
        }
        arguments.extend(setup.options.common.server_arg.iter().cloned());
        if workers.is_some() || setup.options.embedded {
            let server = Server::start_limited(&setup.binary, None, placement.measured, &arguments)?;
            return Ok(World { servers: vec![server], placement, _redis: None });
        }
        let redis = Redis::start().context("two instances need it; with --embedded there is one, without")?;
        let start = |cpu| Server::start_limited(&setup.binary, Some(redis.url()), cpu, &arguments);
        let servers = vec![start(placement.measured)?, start(None)?];
        Ok(World { servers, placement, _redis: Some(redis) })
    }

    /// Where the attacked server listens, and where the other one does, or the same again.
    pub fn addresses(&self) -> [SocketAddr; 2] {
        let other = self.servers.last().unwrap_or(&self.servers[0]);
        [self.servers[0].address(), other.address()]
    }

    /// The attacked server.
    pub fn attacked(&self) -> &Server {
        &self.servers[0]
    }

    /// Processor time of each server until now.
    pub fn cpu(&self) -> Result<Vec<CpuTime>> {
        self.servers.iter().map(|server| CpuTime::of(server.child().pid())).collect()
    }

    /// Memory of each server now.
    pub fn resident_bytes(&self) -> Result<Vec<u64>> {
        self.servers.iter().map(|server| resident_bytes(server.child().pid())).collect()
    }
}
