//! The load generator: connections to any server that speaks Fanfare's protocol, a load of messages, and what becomes of
//! each of them. One thread, for a load that shares its processor must be cheap.

pub mod check;
pub mod clients;
pub mod message;
pub mod options;
pub mod pace;
pub mod plan;
pub mod report;
pub mod run;
pub mod target;
mod timer;
pub mod traffic;
pub mod watch;

use crate::machine::{self, Machine, Placement};
use crate::redis::Redis;
use crate::server::{self, Server};
use crate::{Error, Result};
use options::Options;
use run::{Outcome, Settings};
use watch::Watch;

/// Everything that the command line asks for; figures on stdout.
pub fn measure(options: &Options) -> Result<()> {
    let settings = options.settings(machine::raise_descriptor_limit()?)?;
    let mut watch = Watch::new()?;
    if options.start {
        return measure_own(options, &settings, &mut watch);
    }
    let url = options.url.as_deref().unwrap_or_default();
    let outcome = run::run(&settings, target::resolve(url)?, options.pid, &mut watch)?;
    tell(options, &settings, outcome, None)
}

/// The same with a server that is started for it.
fn measure_own(options: &Options, settings: &Settings, watch: &mut Watch) -> Result<()> {
    let binary = server::binary()?;
    // Before the placement, after which this process may use fewer processors.
    let machine = Machine::look(&server::workspace());
    let placement = Placement::split(!options.common.no_pin)?;
    let redis = if options.redis { Some(Redis::start()?) } else { None };
    let url = redis.as_ref().map(Redis::url);
    let server = Server::start(&binary, url, placement.measured, &options.server_arguments())?;
    let target = target::resolve(&format!("ws://{}/", server.address()))?;
    let mut outcome = run::run(settings, target, Some(server.child().pid()), watch)?;
    outcome.failure = outcome.failure.map(|error| server.child().explain(&error));
    let place = Place { machine, placement, binary };
    tell(options, settings, outcome, Some(&place))
}

/// Where a server was started.
struct Place {
    machine: Machine,
    placement: Placement,
    binary: std::path::PathBuf,
}

fn tell(options: &Options, settings: &Settings, outcome: Outcome, place: Option<&Place>) -> Result<()> {
    if options.common.json {
        let mut json = report::json(settings, &outcome);
        if let Some(Place { machine, placement, binary }) = place {
            json["machine"] = crate::report::machine_json(machine, *placement);
            json["binary"] = binary.display().to_string().into();
            json["redis"] = options.redis.into();
        }
        crate::report::print(&format!("{json:#}\n"))?;
    } else {
        let mut text = String::new();
        if let Some(Place { machine, placement, binary }) = place {
            crate::report::write_machine(&mut text, machine, *placement, binary);
        }
        text.push_str(&report::text(settings, &outcome));
        crate::report::print(&text)?;
    }
    let wrong = if outcome.faults.none() { None } else { Some("not every message arrived once and in order") };
    let early = outcome.interrupted.then_some("interrupted");
    match outcome.failure.or(wrong.or(early).map(Error::new)) {
        Some(error) => Err(error),
        None => Ok(()),
    }
}
