//! How a Fanfare server's program runs: what it opens in which order, and what it says of itself at the start.

use crate::api;
use crate::config::{self, Config};
use crate::ops::Board;
use crate::tls::Tls;
use fanfare_api::Link;
use fanfare_core::Origins;
use fanfare_shell::ops::Ops;
use fanfare_shell::{program, signals};
use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;

pub use crate::config::Program;
pub use fanfare_shell::program::{Server, StartError};

/// What a server is given beside its configuration.
#[derive(Debug, Default)]
pub struct Surroundings {
    /// Where figures are published.
    pub board: Option<Arc<Board>>,
    /// What clients speak TLS by.
    pub tls: Option<Tls>,
    /// How backends reach the cores.
    pub link: Option<Link>,
    /// What the instance is called where backends hear of it: 16 hexadecimal digits, drawn when it starts.
    pub instance: String,
}

/// All of a server's `main`: does what the command line asks for. `start` opens the server.
pub fn main<S: Server>(
    program: &Program,
    start: impl FnOnce(&Config, Surroundings) -> Result<S, StartError>,
) -> ExitCode {
    let loaded = config::load(program, std::env::args_os(), std::env::vars_os());
    program::main(program.name, loaded, |config| config.log, |config| serve(config, start))
}

fn serve<S: Server>(
    config: &Config,
    start: impl FnOnce(&Config, Surroundings) -> Result<S, StartError>,
) -> Result<(), Box<dyn Error>> {
    let has_board = config.ops_listen.is_some() || config.api.listen.is_some();
    let board = has_board.then(|| Arc::new(Board::new(config.workers)));
    let tls = Tls::load(config)?;
    let reload = tls.as_ref().map(Tls::keep_fresh).transpose().map_err(StartError::of("cannot watch certificates"))?;
    signals::ignore_others(reload).map_err(StartError::of("cannot handle signals"))?;
    // All ports are taken before anything is said of any.
    let ops = config.ops_listen.map(Ops::bind).transpose()?;
    let api = api::Opened::open(config, tls.as_ref())?;
    let scheme = if tls.is_some() { "https" } else { "http" };
    let link = api.as_ref().map(|api| api.link().clone());
    let instance = getrandom::u64().map_err(StartError::of("cannot draw random numbers"))?;
    let instance = format!("{instance:016x}");
    let server = start(config, Surroundings { board: board.clone(), tls, link, instance: instance.clone() })?;
    let address = server.address();
    tracing::info!(%address, tls = scheme == "https", "listening");
    if address.ip().is_loopback() {
        let port = address.port();
        tracing::info!(
            page = format!("{scheme}://{address}/"),
            "only this machine can connect; --listen 0.0.0.0:{port} opens up"
        );
    }
    if config.core.auth.is_none() && !address.ip().is_loopback() {
        tracing::warn!(
            "whoever reaches this server can read and write every room: nothing verifies credentials (auth.secret, another key of an issuer, \
             auth.session_secret or auth.url)"
        );
    }
    if config.core.admission.origins == Origins::Any {
        tracing::warn!(
            "any web page may connect: origins is *, so whatever page a visitor has open can speak for this visitor"
        );
    }
    if config.redis.target.is_none() {
        tracing::info!("embedded broker: this instance stands alone; --redis-url makes it one of many");
    }
    let _api = match (api, &board) {
        (Some(api), Some(board)) => Some(api.start(config, instance, Arc::clone(board))?),
        _ => None,
    };
    let _ops = match (ops, board) {
        (Some(port), Some(board)) => Some(Ops::start(port, &config.ops_hosts, board)?),
        _ => None,
    };
    let connections_left = server.run()?;
    tracing::info!(connections_left, "stopped");
    Ok(())
}
