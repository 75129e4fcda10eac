//! The load generator: connections to any server that speaks Fanfare's protocol, a load of messages, and what becomes of
//! each of them. One thread, for a load that shares its processor must be cheap.

pub mod check;
pub mod clients;
pub mod compare;
pub mod in_flight;
pub mod message;
pub mod options;
mod own;
pub mod pace;
pub mod plan;
pub mod report;
pub mod run;
pub mod target;
mod timer;
pub mod traffic;
pub mod watch;

use serde_json::Value;

use crate::{Context, Result, machine, process, report as paper};
use options::Options;
use own::Own;
use run::{Outcome, Settings};
use watch::Watch;

/// Everything that the command line asks for; figures on stdout. They are printed also where they do not count, and then
/// the error says why.
pub fn measure(options: &Options) -> Result<()> {
    let settings = options.settings(machine::raise_descriptor_limit()?)?;
    let json = options.common.json;
    let mut watch = Watch::new()?;
    if !options.start {
        let url = options.url.as_deref().unwrap_or_default();
        if let Some(pid) = options.pid {
            process::anonymous_bytes(pid).context(format!("--pid {pid}"))?;
        }
        let outcome = run::run(&settings, target::resolve(url, options.trust())?, options.pid, &mut watch)?;
        return tell(&settings, outcome, json, None);
    }
    let own = Own::new(options)?;
    if options.floor {
        let mut compared = compare::compare(&settings, &own, options.pairs(), &mut watch);
        print(json, Some(&own), || compared.text(&settings), || compared.json(&settings))?;
        return compared.failure().map_or(Ok(()), Err);
    }
    let outcome = own.measure(&settings, &mut watch)?;
    tell(&settings, outcome, json, Some(&own))
}

fn tell(settings: &Settings, outcome: Outcome, json: bool, own: Option<&Own>) -> Result<()> {
    print(json, own, || report::text(settings, &outcome), || report::json(settings, &outcome))?;
    outcome.verdict().map_or(Ok(()), Err)
}

/// Prints one of the two, with what is known of the server where it is this program's own.
fn print(json: bool, own: Option<&Own>, text: impl FnOnce() -> String, value: impl FnOnce() -> Value) -> Result<()> {
    if json {
        let mut value = value();
        if let Some(own) = own {
            value["machine"] = paper::machine_json(&own.machine, own.placement);
            value["binary"] = own.binary.display().to_string().into();
            value["subject"] = own.subject().to_string().into();
        }
        return paper::print(&format!("{value:#}\n"));
    }
    let mut head = String::new();
    if let Some(own) = own {
        paper::write_machine(&mut head, &own.machine, own.placement, &own.binary);
        paper::line(&mut head, format_args!("broker: {}", own.subject()));
    }
    paper::print(&(head + &text()))
}
