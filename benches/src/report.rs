//! The figures of `--bench server` on paper: tables for people, one JSON object for scripts. Nothing is measured or judged here.

use fanfare_bench::comparison::{Comparison, Lap, ratios_json, ratios_text, round_json, write_rounds};
use fanfare_bench::machine::Machine;
use fanfare_bench::report::{line, machine_json, write_machine};
use serde_json::{Value, json};

use crate::idle::Idle;
use crate::subject::Setup;

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
