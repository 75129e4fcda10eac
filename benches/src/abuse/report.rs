//! The figures on paper: a table for people, one JSON object for scripts.

use fanfare_bench::Result;
use fanfare_bench::comparison::median;
use fanfare_bench::machine::Machine;
use fanfare_bench::report::{line, machine_json, write_machine};
use serde_json::{Value, json};

use super::phase::{Counts, Phase};
use super::{Look, Measured, Pair, Setup};

/// A newcomer that takes longer is late.
const LATE_MS: f64 = 1_000.0;

/// What the 99th percentile under attack may be of the quiet one.
const RATIO_MAX: f64 = 5.0;

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
        let world = if options.embedded { "one instance" } else { "half of them across two instances" };
        line(
            &mut out,
            format_args!(
                "\n{} pairs in as many rooms, {world}, {} messages a second each; {} idle clients; a newcomer every 100 ms\n\
                 {} times {} s of quiet and {} s of attack; times in ms, from sending to receiving, and from connecting to SUBSCRIBED",
                options.clients, options.rate, options.idlers, options.pairs, options.seconds, options.seconds
            ),
        );
        write_row(
            &mut out,
            [
                "", "", "p50", "p99", "x", "worst", "x", "closed", "lost", "refused", "new: p99", "late", "CPU %",
                "RSS MiB", "sockets", "attack",
            ],
        );
        let mut missed = Vec::new();
        for attack in &self.attacks {
            missed.extend(write_attack(&mut out, attack));
        }
        line(
            &mut out,
            format_args!(
                "  worst: the largest 99th percentile of a pair; lost: acknowledged and not received; refused: messages that were not \
                 acknowledged\n  late: newcomers that were refused or took more than {LATE_MS} ms; sockets: MiB of the kernel's, of all; \
                 CPU and RSS: of each server"
            ),
        );
        let aim =
            format!("p99 within {RATIO_MAX} times the quiet one, nobody closed, nothing lost, no newcomer refused");
        if missed.is_empty() {
            line(&mut out, format_args!("\nThe aim is reached: {aim}."));
        } else {
            line(&mut out, format_args!("\nThe aim is missed ({aim}):"));
            missed.iter().for_each(|what| line(&mut out, format_args!("  {what}")));
        }
        Ok(out)
    }

    /// One JSON object.
    pub fn json(&self) -> Value {
        let options = &self.setup.options;
        json!({
            "machine": machine_json(&self.machine, self.setup.placement),
            "binary": self.setup.binary,
            "clients": options.clients, "messages_per_second": options.rate, "idlers": options.idlers,
            "embedded": options.embedded, "seconds": options.seconds, "pairs": options.pairs,
            "attacks": self.attacks.iter().map(|attack| {
                let [quiet, attacked] = attack.phases();
                json!({
                    "attack": attack.attack.name(), "unit": attack.attack.unit(),
                    "quiet": quiet.json(), "attacked": attacked.json(),
                    "p99_ratio_median": median(&attack.pairs.iter().map(Pair::p99_ratio).collect::<Vec<_>>()),
                    "pairs": attack.pairs.iter().map(pair_json).collect::<Vec<_>>(),
                })
            }).collect::<Vec<_>>(),
        })
    }
}

/// Two rows; and how the aim was missed.
fn write_attack(out: &mut String, attack: &Measured) -> Option<String> {
    let [quiet, attacked] = attack.phases();
    let of = |figure: fn(&Pair) -> f64| median(&attack.pairs.iter().map(figure).collect::<Vec<_>>()).unwrap_or(0.0);
    let words = format!(
        "{:.2} MB/s, {:.0} {}/s, {:.0}/s thrown out",
        of(|pair| pair.bytes_rate) / 1e6,
        of(|pair| pair.rate),
        attack.attack.unit(),
        of(|pair| pair.ended_rate)
    );
    let looks = |look: fn(&Pair) -> &Look| attack.pairs.iter().map(look).collect::<Vec<_>>();
    let name = attack.attack.name();
    write_phase(out, &name, "quiet", &quiet, None, &looks(|pair| &pair.quiet), "");
    write_phase(out, "", "attacked", &attacked, Some(&quiet), &looks(|pair| &pair.attacked), &words);
    for (phase, when) in [(&quiet, "quiet"), (&attacked, "attacked")] {
        for (what, counts) in [
            ("closed", &phase.incidents.closed),
            ("messages refused", &phase.refused),
            ("not let in", &phase.incidents.refused),
        ] {
            if !counts.is_empty() {
                line(out, format_args!("    {when}, {what}: {}", told(counts)));
            }
        }
    }
    let ratio = attacked.quantile_ms(0.99) / quiet.quantile_ms(0.99);
    let faults = [
        (ratio > RATIO_MAX).then(|| format!("p99 {ratio:.1} times")),
        some("closed", total(&attacked.incidents.closed)),
        some("acknowledged and lost", attacked.lost),
        some("messages refused or unanswered", total(&attacked.refused) + attacked.unanswered),
        some("newcomers refused or late", late(&attacked)),
    ];
    let faults: Vec<String> = faults.into_iter().flatten().collect();
    (!faults.is_empty()).then(|| format!("{name}: {}", faults.join(", ")))
}

fn some(what: &str, count: u64) -> Option<String> {
    (count > 0).then(|| format!("{count} {what}"))
}

fn write_phase(
    out: &mut String,
    name: &str,
    when: &str,
    phase: &Phase,
    quiet: Option<&Phase>,
    looks: &[&Look],
    words: &str,
) {
    let ratio = |figure: fn(&Phase) -> f64| {
        quiet.map_or(String::new(), |quiet| format!("{:.1}", figure(phase) / figure(quiet)))
    };
    let servers = looks.first().map_or(0, |look| look.cpu.len());
    let each = |figure: &dyn Fn(&Look, usize) -> f64| {
        let of = |server| looks.iter().map(|look| figure(look, server)).fold(0.0, f64::max);
        (0..servers).map(|server| format!("{:.0}", of(server))).collect::<Vec<_>>().join("/")
    };
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let p99 = |phase: &Phase| phase.quantile_ms(0.99);
    write_row(
        out,
        [
            name,
            when,
            &format!("{:.2}", phase.quantile_ms(0.5)),
            &format!("{:.2}", p99(phase)),
            &ratio(|phase| phase.quantile_ms(0.99)),
            &format!("{:.2}", phase.worst_p99_ms()),
            &ratio(Phase::worst_p99_ms),
            &total(&phase.incidents.closed).to_string(),
            &phase.lost.to_string(),
            &(total(&phase.refused) + phase.unanswered).to_string(),
            &format!("{:.2}", phase.entered_ms(0.99)),
            &late(phase).to_string(),
            &each(&|look, server| look.cpu[server] * 100.0),
            &each(&|look, server| mib(look.resident_bytes[server])),
            &format!("{:.0}", looks.iter().map(|look| mib(look.sockets_bytes)).fold(0.0, f64::max)),
            words,
        ],
    );
}

fn write_row(out: &mut String, cells: [&str; 16]) {
    let [name, when, p50, p99, x, worst, worst_x, closed, lost, refused, new, late, cpu, rss, sockets, words] = cells;
    line(
        out,
        format_args!(
            "  {name:<18} {when:<8} {p50:>8} {p99:>8} {x:>6} {worst:>8} {worst_x:>6} {closed:>6} {lost:>5} {refused:>7} {new:>8} \
             {late:>4} {cpu:>7} {rss:>8} {sockets:>7}  {words}"
        ),
    );
}

fn total(counts: &Counts) -> u64 {
    counts.values().sum()
}

fn late(phase: &Phase) -> u64 {
    let late = phase.incidents.entered.iter().filter(|&&ns| ns as f64 / 1e6 > LATE_MS).count() as u64;
    late + total(&phase.incidents.refused)
}

fn told(counts: &Counts) -> String {
    counts.iter().map(|(what, count)| format!("{count} {what}")).collect::<Vec<_>>().join(", ")
}

fn pair_json(pair: &Pair) -> Value {
    json!({
        "quiet": look_json(&pair.quiet), "attacked": look_json(&pair.attacked), "p99_ratio": pair.p99_ratio(),
        "attack_per_second": pair.rate, "attack_bytes_per_second": pair.bytes_rate, "ended_per_second": pair.ended_rate,
    })
}

fn look_json(look: &Look) -> Value {
    json!({
        "honest": look.phase.json(), "server_cpu": look.cpu, "server_resident_bytes": look.resident_bytes,
        "sockets_bytes": look.sockets_bytes,
    })
}
