//! The floor and the server under the same load, in turns, and the ratios of what they cost.

use serde_json::{Value, json};

use super::run::{Outcome, Settings};
use super::watch::Watch;
use super::{Own, report};
use crate::fan_out::{Comparison, Lap, Round};
use crate::floor::Floor;
use crate::report::{ratios_json, ratios_text, write_rounds};
use crate::subject::Subject;
use crate::{Error, Result};

/// All laps of one comparison, up to where it failed, if it did.
#[derive(Debug)]
pub struct Compared {
    outcomes: Vec<[Outcome; 2]>,
    laps: Vec<Lap>,
    failure: Option<Error>,
}

/// Takes turns, `pairs` times, every other time the server first, so that a machine that slowly gets faster or slower
/// favours nobody. Every run is a fresh process with fresh connections.
pub fn compare(settings: &Settings, own: &Own, pairs: u32, watch: &mut Watch) -> Compared {
    let mut compared = Compared { outcomes: Vec::new(), laps: Vec::new(), failure: None };
    for lap in 0..pairs {
        let mut measure = |who| {
            let (round, outcome) = measure(settings, own, who, watch)?;
            eprintln!("lap {} of {pairs}: {who} {:.3} µs per delivery", lap + 1, round.total_us());
            Ok((round, outcome))
        };
        let both = if lap % 2 == 0 {
            measure(Subject::Floor).and_then(|floor| Ok((floor, measure(own.subject())?)))
        } else {
            measure(own.subject()).and_then(|server| Ok((measure(Subject::Floor)?, server)))
        };
        match both {
            Ok(((floor, at_floor), (server, at_server))) => {
                compared.laps.push(Lap { floor, servers: vec![server] });
                compared.outcomes.push([at_floor, at_server]);
            }
            Err(error) => {
                compared.failure = Some(error);
                break;
            }
        }
    }
    compared
}

fn measure(settings: &Settings, own: &Own, who: Subject, watch: &mut Watch) -> Result<(Round, Outcome)> {
    let outcome =
        if who == Subject::Floor { measure_floor(settings, own, watch)? } else { own.measure(settings, watch)? };
    match outcome.verdict() {
        Some(error) => Err(error),
        None => Ok((round(who, &outcome)?, outcome)),
    }
}

fn measure_floor(settings: &Settings, own: &Own, watch: &mut Watch) -> Result<Outcome> {
    let plan = &settings.plan;
    let mut floor = Floor::start(plan.rooms, plan.rooms_each, own.placement.measured)?;
    let mut outcome = super::run::run_floor(settings, &mut floor, watch)?;
    outcome.failure = outcome.failure.map(|error| floor.child().explain(&error));
    Ok(outcome)
}

fn round(subject: Subject, outcome: &Outcome) -> Result<Round> {
    let measured = outcome.measured.filter(|measured| measured.tally.deliveries > 0);
    let round = measured.and_then(|measured| {
        let deliveries = measured.tally.deliveries;
        Some(Round { subject, deliveries, cpu: measured.server?, to_everybody: None })
    });
    round.ok_or_else(|| Error::new(format!("{subject}: nothing was delivered while it was measured")))
}

impl Compared {
    /// For people: the load, the server's last run, every lap and the ratios.
    pub fn text(&self, settings: &Settings) -> String {
        let mut out = match self.outcomes.last() {
            Some([_, at_server]) => report::text(settings, at_server),
            None => String::new(),
        };
        if self.laps.is_empty() {
            return out;
        }
        out.push_str("\nprocessor time per delivery in µs, and as a multiple of the same lap's floor\n");
        write_rounds(&mut out, &self.laps);
        out.push('\n');
        out.push_str(&self.comparison().as_ref().map(ratios_text).unwrap_or_default());
        out
    }

    /// For scripts.
    pub fn json(&self, settings: &Settings) -> Value {
        json!({
            "settings": report::settings_json(settings),
            "laps": self.outcomes.iter().map(|[floor, server]| json!({
                "floor": report::outcome_json(floor), "server": report::outcome_json(server),
            })).collect::<Vec<_>>(),
            "error": self.failure.as_ref().map(ToString::to_string),
            "ratios": self.comparison().as_ref().map(ratios_json),
        })
    }

    /// Why there are no more laps, if there should be.
    pub fn failure(&mut self) -> Option<Error> {
        self.failure.take()
    }

    fn comparison(&self) -> Option<Comparison> {
        Comparison::of(&self.laps, 0)
    }
}
