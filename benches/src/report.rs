//! The figures on paper: tables for people, one JSON object for scripts. Nothing is measured or judged here.

use std::fmt::Write as _;
use std::io::{ErrorKind, Write as _};
use std::path::Path;

use serde_json::{Value, json};

use crate::fan_out::{Comparison, Lap, Round, median, sum};
use crate::idle::Idle;
use crate::machine::{Machine, Placement};
use crate::subject::Setup;
use crate::{Error, Result};

/// Everything that one run found out.
#[derive(Clone, Debug)]
pub struct Report {
    /// Where.
    pub machine: Machine,
    /// How.
    pub setup: Setup,
    /// Idle subscribers.
    pub idle: Vec<Idle>,
    /// Fan-out.
    pub laps: Vec<Lap>,
}

impl Report {
    /// Tables for people.
    pub fn text(&self) -> String {
        let mut out = String::new();
        write_machine(&mut out, &self.machine, self.setup.placement, &self.setup.binary);
        self.write_idle(&mut out);
        if !self.laps.is_empty() {
            self.write_fan_out(&mut out);
        }
        out
    }

    /// One JSON object.
    pub fn json(&self) -> Value {
        let options = &self.setup.options;
        json!({
            "machine": machine_json(&self.machine, self.setup.placement),
            "binary": self.setup.binary,
            "members": options.members, "messages": options.messages, "pairs": options.pairs,
            "payload_bytes": options.payload, "message_bytes": self.setup.message_bytes,
            "idle": self.idle.iter().map(|idle| json!({
                "subject": idle.subject.to_string(), "rooms": idle.rooms.to_string(),
                "before_bytes": idle.before_bytes, "after_bytes": idle.after_bytes,
                "bytes_each": idle.bytes_each(), "joining_cpu_us_each": idle.joining_us_each(),
            })).collect::<Vec<_>>(),
            "fan_out": {
                "laps": self.laps.iter().map(|lap| json!({
                    "floor": round_json(&lap.floor),
                    "servers": lap.servers.iter().map(round_json).collect::<Vec<_>>(),
                })).collect::<Vec<_>>(),
                "ratios": self.comparisons().map(|comparison| ratios_json(&comparison)).collect::<Vec<_>>(),
            },
        })
    }

    fn comparisons(&self) -> impl Iterator<Item = Comparison> {
        (0..).map_while(|index| Comparison::of(&self.laps, index))
    }

    fn write_idle(&self, out: &mut String) {
        line(out, format_args!("\nIdle subscribers: {}", self.setup.options.members));
        line(
            out,
            format_args!(
                "  {:<9} {:<14} {:>12} {:>12} {:>15} {:>15}",
                "", "", "before KiB", "after KiB", "bytes each", "joining µs each"
            ),
        );
        for idle in &self.idle {
            line(
                out,
                format_args!(
                    "  {:<9} {:<14} {:>12} {:>12} {:>15.0} {:>15.1}",
                    idle.subject,
                    idle.rooms,
                    idle.before_bytes / 1024,
                    idle.after_bytes / 1024,
                    idle.bytes_each(),
                    idle.joining_us_each(),
                ),
            );
        }
    }

    fn write_fan_out(&self, out: &mut String) {
        let options = &self.setup.options;
        line(
            out,
            format_args!(
                "\nFan-out: one message at a time to {} members, {} messages a round; payload {} bytes, frame {} bytes\n\
                 processor time per delivery in µs, and as a multiple of the same lap's floor",
                options.members, options.messages, options.payload, self.setup.message_bytes
            ),
        );
        write_rounds(out, &self.laps);
        line(out, format_args!(""));
        for comparison in self.comparisons() {
            out.push_str(&ratios_text(&comparison));
        }
        line(
            out,
            format_args!("  User time is sampled by most kernels, 100 times a second: more --messages, less noise."),
        );
    }
}

/// What each of the laps has cost, and all of them together.
pub(crate) fn write_rounds(out: &mut String, laps: &[Lap]) {
    let to_all = if laps.iter().any(|lap| lap.floor.to_everybody.is_some()) { "to all, ms" } else { "" };
    line(
        out,
        format_args!(
            "  {:<5} {:<9} {:>8} {:>8} {:>8} {:>8} {:>8} {to_all:>14}",
            "lap", "", "total", "user", "system", "x total", "x user"
        ),
    );
    for (lap, number) in laps.iter().zip(1..) {
        write_round(out, &number.to_string(), &lap.floor, None);
        for server in &lap.servers {
            write_round(out, "", server, Some(&lap.floor));
        }
    }
    let floor = sum(laps.iter().map(|lap| &lap.floor));
    if let Some(floor) = &floor {
        write_round(out, "all", floor, None);
    }
    for index in 0..laps.first().map_or(0, |lap| lap.servers.len()) {
        if let (Some(server), Some(floor)) = (sum(laps.iter().map(|lap| &lap.servers[index])), &floor) {
            write_round(out, "", &server, Some(floor));
        }
    }
}

/// What the laps say about one server, in a line.
pub(crate) fn ratios_text(comparison: &Comparison) -> String {
    let mut out = String::new();
    line(
        &mut out,
        format_args!(
            "  {}: median of the laps' ratios to the floor: total {} (from {} to {}), user {}; \
             user of all laps together {}",
            comparison.subject,
            figure(median(&comparison.total_ratios)),
            figure(comparison.total_ratios.iter().copied().reduce(f64::min)),
            figure(comparison.total_ratios.iter().copied().reduce(f64::max)),
            figure(median(&comparison.user_ratios)),
            figure(comparison.user_ratio_of_sums),
        ),
    );
    out
}

/// The same as JSON.
pub(crate) fn ratios_json(comparison: &Comparison) -> Value {
    json!({
        "subject": comparison.subject.to_string(),
        "total": comparison.total_ratios, "total_median": median(&comparison.total_ratios),
        "user": comparison.user_ratios, "user_median": median(&comparison.user_ratios),
        "user_of_sums": comparison.user_ratio_of_sums,
    })
}

fn write_round(out: &mut String, lap: &str, round: &Round, floor: Option<&Round>) {
    let ratio = |ours: Option<f64>, theirs: Option<f64>| Some(ours? / theirs.filter(|&time| time > 0.0)?);
    let to_all = round.to_everybody.map_or(String::new(), |time| format!("{:.1}", time.as_secs_f64() * 1e3));
    line(
        out,
        format_args!(
            "  {lap:<5} {:<9} {:>8.3} {:>8} {:>8} {:>8} {:>8} {:>14}",
            round.subject,
            round.total_us(),
            figure(round.user_us()),
            figure(round.user_us().map(|user| round.total_us() - user)),
            floor.map_or(String::new(), |floor| figure(ratio(Some(round.total_us()), Some(floor.total_us())))),
            floor.map_or(String::new(), |floor| figure(ratio(round.user_us(), floor.user_us()))),
            to_all,
        ),
    );
}

fn round_json(round: &Round) -> Value {
    json!({
        "subject": round.subject.to_string(), "deliveries": round.deliveries,
        "cpu_ns": round.cpu.total_ns, "user_ticks": round.cpu.user_ticks, "system_ticks": round.cpu.system_ticks,
        "total_us_each": round.total_us(), "user_us_each": round.user_us(),
        "to_everybody_ms": round.to_everybody.map(|time| time.as_secs_f64() * 1e3),
    })
}

/// Where figures come from, in two lines.
pub(crate) fn write_machine(out: &mut String, machine: &Machine, placement: Placement, binary: &Path) {
    let Machine { cores, cpu, kernel, revision } = machine;
    let revision = revision.as_deref().unwrap_or("unknown");
    line(out, format_args!("{cores} cores, {cpu}, Linux {kernel}; {placement}"));
    line(out, format_args!("revision {revision}, binary {}", binary.display()));
}

/// The same as JSON.
pub(crate) fn machine_json(machine: &Machine, placement: Placement) -> Value {
    json!({
        "cores": machine.cores, "cpu": machine.cpu, "kernel": machine.kernel, "revision": machine.revision,
        "measured_processor": placement.measured, "attackers_processor": placement.attackers,
    })
}

/// Writes a report to stdout.
pub fn print(text: &str) -> Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        // Whoever closed the pipe has read enough.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Error::new(format!("cannot print: {error}"))),
        _ => Ok(()),
    }
}

/// Writes a line to stderr.
pub fn say(text: std::fmt::Arguments<'_>) {
    // Whoever closed it does not listen.
    let _ = writeln!(std::io::stderr(), "{text}");
}

pub(crate) fn figure(value: Option<f64>) -> String {
    value.map_or("-".to_owned(), |value| format!("{value:.3}"))
}

pub(crate) fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = writeln!(out, "{}", text.to_string().trim_end());
}
