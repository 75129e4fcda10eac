//! The floor and the server under the same load, in turns, and the ratios of what they cost.

use serde_json::{Value, json};

use super::clients::Joining;
use super::own::Own;
use super::report;
use super::run::{Connecting, Outcome, Settings, run_joining};
use super::watch::Watch;
use crate::comparison::{Comparison, Lap, Round, Subject, median, ratios_json, ratios_text, write_rounds};
use crate::floor::Floor;
use crate::report::{figure, line, say};
use crate::{Error, Result};

/// All laps of one comparison, up to where it failed, if it did.
#[derive(Debug, Default)]
pub struct Compared {
    turns: Vec<Turns>,
    /// Of those in which nothing was wrong.
    laps: Vec<Lap>,
    failure: Option<Error>,
}

/// What came of one turn of each; the last lap may lack one that came to nothing.
#[derive(Debug, Default)]
struct Turns {
    /// Joining at the floor of that, right before it is the server's turn.
    joining: Option<Connecting>,
    floor: Option<Outcome>,
    server: Option<Outcome>,
}

/// Takes turns, `pairs` times, every other time the server first, so that a machine that slowly gets faster or slower
/// favours nobody. Every run is a fresh process with fresh connections.
pub fn compare(settings: &Settings, own: &Own, pairs: u32, watch: &mut Watch) -> Compared {
    let mut compared = Compared::default();
    for lap in 0..pairs {
        compared.turns.push(Turns::default());
        let mut order = [Subject::Floor, own.subject()];
        if lap % 2 == 1 {
            order.reverse();
        }
        let mut rounds = Vec::new();
        for who in order {
            match compared.measure(settings, own, who, watch) {
                Ok(round) => rounds.push(round),
                Err(error) => {
                    compared.failure = Some(error);
                    return compared;
                }
            }
            say(format_args!(
                "lap {} of {pairs}: {who} {:.3} µs per delivery",
                lap + 1,
                rounds[rounds.len() - 1].total_us()
            ));
        }
        rounds.sort_by_key(|round| round.subject != Subject::Floor);
        compared.laps.push(Lap { floor: rounds.remove(0), servers: rounds });
    }
    compared
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
    /// Has `who` take its turn in the last lap.
    fn measure(&mut self, settings: &Settings, own: &Own, who: Subject, watch: &mut Watch) -> Result<Round> {
        let floor = who == Subject::Floor;
        if !floor && let Some(turns) = self.turns.last_mut() {
            turns.joining = Some(run_joining(settings, own.placement.measured, watch)?);
        }
        let outcome = if floor { measure_floor(settings, own, watch)? } else { own.measure(settings, watch)? };
        let round = outcome.verdict().map_or_else(|| round(who, &outcome), Err);
        if let Some(turns) = self.turns.last_mut() {
            *(if floor { &mut turns.floor } else { &mut turns.server }) = Some(outcome);
        }
        round
    }

    /// For people: the load, the server's last run, every lap and the ratios. Of a lap that failed, all there is.
    pub fn text(&self, settings: &Settings) -> String {
        let mut out = String::new();
        let last_server = self.turns.iter().rev().find_map(|turns| turns.server.as_ref());
        out.push_str(&last_server.map(|outcome| report::text(settings, outcome)).unwrap_or_default());
        let at_floor = self.turns.last().and_then(|turns| turns.floor.as_ref());
        if let Some(outcome) = at_floor.filter(|outcome| outcome.verdict().is_some()) {
            out.push_str("\nthe floor, in the lap that failed\n");
            out.push_str(&report::text(settings, outcome));
        }
        if self.laps.is_empty() {
            return out;
        }
        out.push_str("\nprocessor time per delivery in µs, and as a multiple of the same lap's floor\n");
        write_rounds(&mut out, &self.laps);
        out.push('\n');
        out.push_str(&self.comparison().as_ref().map(ratios_text).unwrap_or_default());
        self.write_joins(settings, &mut out);
        out
    }

    /// What joining has cost at the floor and at the server in µs, in each lap that has both.
    fn joins(&self) -> Vec<[f64; 2]> {
        let server = |turns: &Turns| turns.server.as_ref()?.connecting?.cpu_us();
        self.turns.iter().filter_map(|turns| Some([turns.joining?.cpu_us()?, server(turns)?])).collect()
    }

    fn write_joins(&self, settings: &Settings, out: &mut String) {
        let (joins, how) = (self.joins(), if settings.joining == Joining::ByUrl { "URL" } else { "SUBSCRIBE" });
        line(
            out,
            format_args!(
                "\nprocessor time per connection in µs to let it in by {how}, beside a bare loop of the same calls"
            ),
        );
        line(out, format_args!("  {:<5} {:>8} {:>8} {:>8}", "lap", "floor", "server", "x"));
        for ([floor, server], lap) in joins.iter().zip(1..) {
            line(out, format_args!("  {lap:<5} {floor:>8.1} {server:>8.1} {:>8.3}", server / floor));
        }
        let ratios = ratios(&joins);
        line(
            out,
            format_args!(
                "  median of the laps' ratios {} (from {} to {})",
                figure(median(&ratios)),
                figure(ratios.iter().copied().reduce(f64::min)),
                figure(ratios.iter().copied().reduce(f64::max)),
            ),
        );
    }

    /// For scripts.
    pub fn json(&self, settings: &Settings) -> Value {
        let joins = ratios(&self.joins());
        json!({
            "settings": report::settings_json(settings),
            "laps": self.turns.iter().map(|turns| json!({
                "joining_floor": turns.joining.as_ref().map(report::connecting_json),
                "floor": turns.floor.as_ref().map(report::outcome_json),
                "server": turns.server.as_ref().map(report::outcome_json),
            })).collect::<Vec<_>>(),
            "error": self.failure.as_ref().map(ToString::to_string),
            "ratios": self.comparison().as_ref().map(ratios_json),
            "joining_ratios": { "total": joins, "total_median": median(&joins) },
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

fn ratios(joins: &[[f64; 2]]) -> Vec<f64> {
    joins.iter().map(|[floor, server]| server / floor).collect()
}
