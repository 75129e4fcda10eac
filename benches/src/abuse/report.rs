//! The figures on paper: a table for people, one JSON object for scripts.

use serde_json::{Value, json};

use super::victim::Phase;
use super::{Measured, Pair, Setup};
use crate::Result;
use crate::fan_out::median;
use crate::machine::Machine;
use crate::report::{figure, line, machine_json, write_machine};

/// Everything that one run found out.
#[derive(Clone, Debug)]
pub struct Report {
    /// Where.
    pub machine: Machine,
    /// How.
    pub setup: Setup,
    /// Each attack.
    pub attacks: Vec<Measured>,
}

impl Report {
    /// A table for people.
    pub fn text(&self) -> Result<String> {
        let mut out = String::new();
        let options = &self.setup.options;
        write_machine(&mut out, &self.machine, self.setup.placement, &self.setup.binary);
        line(
            &mut out,
            format_args!(
                "\nA room of {} members, {} messages a second; {} times {} s of quiet and {} s of attack\n\
                 from sending to receiving, in µs; x p99: median of the pairs' ratios, and their range",
                options.members, options.rate, options.pairs, options.seconds, options.seconds
            ),
        );
        line(
            &mut out,
            format_args!(
                "  {:<16} {:>9} {:<9} {:>8} {:>7} {:>7} {:>7} {:>7} {:>7} {:>15} {:>5} {:>6} {:>8}",
                "attack",
                "a second",
                "",
                "thrown",
                "quiet:",
                "p50",
                "p99",
                "p50",
                "p99",
                "x p99",
                "lost",
                "CPU %",
                "RSS MiB"
            ),
        );
        for attack in &self.attacks {
            write_attack(&mut out, attack)?;
        }
        line(&mut out, format_args!("  thrown: connections of the attackers that the server ended, a second"));
        Ok(out)
    }

    /// One JSON object.
    pub fn json(&self) -> Value {
        let options = &self.setup.options;
        json!({
            "machine": machine_json(&self.machine, self.setup.placement),
            "binary": self.setup.binary,
            "members": options.members, "messages_per_second": options.rate,
            "seconds": options.seconds, "pairs": options.pairs,
            "attacks": self.attacks.iter().map(|attack| json!({
                "attack": attack.attack.name(), "unit": attack.attack.unit(),
                "p99_ratio_median": median(&ratios(attack)),
                "pairs": attack.pairs.iter().map(pair_json).collect::<Vec<_>>(),
            })).collect::<Vec<_>>(),
        })
    }
}

fn write_attack(out: &mut String, attack: &Measured) -> Result<()> {
    let [quiet, attacked] = attack.latencies()?;
    let us = |histogram: &hdrhistogram::Histogram<u64>, quantile| histogram.value_at_quantile(quantile) as f64 / 1e3;
    let of = |figure: fn(&Pair) -> f64| median(&attack.pairs.iter().map(figure).collect::<Vec<_>>()).unwrap_or(0.0);
    let ratios = ratios(attack);
    let range = format!(
        "{} ({:.1}-{:.1})",
        figure(median(&ratios)),
        ratios.iter().copied().fold(f64::INFINITY, f64::min),
        ratios.iter().copied().fold(0.0, f64::max)
    );
    line(
        out,
        format_args!(
            "  {:<16} {:>9.0} {:<9} {:>8.0} {:>7} {:>7.0} {:>7.0} {:>7.0} {:>7.0} {:>15} {:>5} {:>6.0} {:>8.1}",
            attack.attack.name(),
            of(|pair| pair.rate),
            attack.attack.unit(),
            of(|pair| pair.ended_rate),
            "",
            us(&quiet, 0.5),
            us(&quiet, 0.99),
            us(&attacked, 0.5),
            us(&attacked, 0.99),
            range,
            attack.pairs.iter().map(|pair| pair.attacked.lost).sum::<u64>(),
            of(|pair| pair.cpu) * 100.0,
            of(|pair| pair.resident_bytes as f64) / f64::from(1 << 20),
        ),
    );
    Ok(())
}

fn ratios(attack: &Measured) -> Vec<f64> {
    attack.pairs.iter().map(Pair::p99_ratio).collect()
}

fn pair_json(pair: &Pair) -> Value {
    json!({
        "quiet": phase_json(&pair.quiet), "attacked": phase_json(&pair.attacked), "p99_ratio": pair.p99_ratio(),
        "attack_per_second": pair.rate, "ended_per_second": pair.ended_rate,
        "server_cpu": pair.cpu, "server_resident_bytes": pair.resident_bytes,
    })
}

fn phase_json(phase: &Phase) -> Value {
    let us = |quantile| phase.latency.value_at_quantile(quantile) as f64 / 1e3;
    json!({
        "received": phase.latency.len(), "lost": phase.lost,
        "p50_us": us(0.5), "p99_us": us(0.99), "p999_us": us(0.999), "max_us": us(1.0),
        "publisher_late_p99_us": phase.lateness.value_at_quantile(0.99) as f64 / 1e3,
    })
}
